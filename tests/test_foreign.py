"""Foreign code meets shoal: the standard library's processes and objects, executors, joblib, PyTorch. Nothing of it knows of shoal."""

from __future__ import annotations

import concurrent.futures
import gc
import logging
import multiprocessing
import multiprocessing.context
import multiprocessing.process
import pickle
import subprocess
import sys
import threading
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import shoal
from shoal import _native
from shoal.errors import AbandonedLockWarning
from shoal.pool import Pool

# Spawned children import the functions that they run; they are given this process's sys.path.
sys.path.insert(0, str(Path(__file__).parent))

import foreign_tasks as tasks

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = 20
METHODS = ["fork", "spawn", "forkserver"]

# The other threads are those of the executor and of the queues: a fork beside them is what is tested.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def ours(method: str) -> Any:
    return shoal.get_context(method)


@pytest.fixture
def theirs(method: str) -> Any:
    return multiprocessing.get_context(method)


# --- identity -----------------------------------------------------------------------------------------------------------


def test_processes_and_contexts_are_the_standard_ones(ours: Any, theirs: Any):
    assert isinstance(ours.Process(), multiprocessing.process.BaseProcess)
    assert isinstance(shoal.Process(), multiprocessing.process.BaseProcess)
    assert isinstance(ours, multiprocessing.context.BaseContext)
    assert isinstance(shoal.get_context(), multiprocessing.context.BaseContext)
    assert type(ours.Process()).__name__ == type(theirs.Process()).__name__
    assert issubclass(shoal.context.BaseContext, multiprocessing.context.BaseContext)
    assert (ours.TimeoutError, ours.ProcessError) == (theirs.TimeoutError, theirs.ProcessError)
    ours.allow_connection_pickling()
    assert ours.reducer is shoal.context.reduction


def test_both_packages_and_logging_agree_on_who_a_child_is(ours: Any):
    answers, leave = ours.SimpleQueue(), ours.Event()
    process = ours.Process(target=tasks.tell_who_i_am, args=(answers, leave), name="the child")
    process.start()
    seen = answers.get()
    assert process in multiprocessing.active_children()
    leave.set()
    process.join()
    assert seen == {
        "names": {"the child"},
        "same": True,
        "parents": {multiprocessing.current_process().pid},
        "pid": process.pid,
    }
    assert logging.LogRecord("", 0, "", 0, "", (), None).processName == "MainProcess"


# --- objects of one, processes of the other -----------------------------------------------------------------------------


def things(mp: Any, *, typed: bool) -> tuple[dict[str, Any], Any]:
    """One of each kind, and this side's end of the pipe."""
    here, there = mp.Pipe()
    made = {
        "lock": mp.Lock(),
        "rlock": mp.RLock(),
        "condition": mp.Condition(),
        "semaphore": mp.Semaphore(0),
        "event": mp.Event(),
        "barrier": mp.Barrier(2),
        "queue": mp.Queue(),
        "joinable": mp.JoinableQueue(),
        "simple": mp.SimpleQueue(),
        "connection": there,
    }
    if typed:
        made |= {"value": mp.Value("i", 1), "array": mp.Array("d", 3)}
    return made, here


def exchange(maker: Any, starter: Any) -> None:
    """Have a child of one package use what the other has made."""
    shared, here = things(maker, typed=True)
    answers = maker.Queue()
    shared["queue"].put(41)
    shared["joinable"].put("work")
    process = starter.Process(target=tasks.use, args=(shared, answers))
    process.start()
    here.send("hello")
    assert shared["barrier"].wait(SECONDS) in {0, 1}
    assert shared["event"].wait(SECONDS)
    assert shared["semaphore"].acquire(timeout=SECONDS)
    assert here.poll(SECONDS)
    assert here.recv() == ("sent", "hello")
    shared["joinable"].join()
    assert shared["simple"].get() == "simple"
    assert answers.get(timeout=SECONDS) == {"counter": 41, "barrier": True}
    assert (shared["value"].value, shared["array"][:]) == (2, [0.0, 7.0, 0.0])
    process.join(SECONDS)
    assert process.exitcode == 0
    for name in ("queue", "joinable"):
        shared[name].close()
        shared[name].join_thread()
    answers.close()
    answers.join_thread()
    here.close()
    shared["connection"].close()


def test_a_shoal_process_uses_standard_objects(ours: Any, theirs: Any):
    exchange(theirs, ours)


def test_a_standard_process_uses_shoal_objects(ours: Any, theirs: Any):
    exchange(ours, theirs)


def test_a_standard_process_uses_shoal_objects_that_come_by_a_standard_queue(ours: Any, theirs: Any):
    shared, here = things(ours, typed=True)
    messages, answers = theirs.Queue(), theirs.Queue()
    process = theirs.Process(target=tasks.use_what_comes, args=(messages, answers))
    process.start()
    messages.put(shared)
    shared["queue"].put(41)
    shared["joinable"].put("work")
    here.send("hello")
    assert shared["barrier"].wait(SECONDS) in {0, 1}
    assert here.poll(SECONDS)
    assert here.recv() == ("sent", "hello")
    assert shared["simple"].get() == "simple"
    assert answers.get(timeout=SECONDS) == {"counter": 41, "barrier": True}
    assert (shared["value"].value, shared["array"][:]) == (2, [0.0, 7.0, 0.0])
    assert shared["event"].is_set()
    process.join(SECONDS)
    assert process.exitcode == 0


def test_a_standard_process_that_has_shared_objects_of_its_own_is_of_its_parents_tree(theirs: Any):
    event, value = shoal.Event(), shoal.Value("i", 41)
    messages, answers = theirs.Queue(), theirs.Queue()
    process = theirs.Process(target=tasks.use_what_comes_beside_its_own, args=(messages, answers))
    process.start()
    its_event, its_queue = answers.get(timeout=SECONDS)
    messages.put((event, value))
    assert event.wait(SECONDS)
    assert its_queue.get(timeout=SECONDS) == "by its queue"
    assert value.value == 42
    its_event.set()
    assert answers.get(timeout=SECONDS) is True
    process.join(SECONDS)
    assert process.exitcode == 0


def test_a_process_that_knew_nothing_of_shared_objects_joins_the_tree_of_its_standard_child(method: str):
    told = subprocess.run(
        [sys.executable, "-W", "error", Path(__file__).parent / "foreign_parent.py", method],
        check=True,
        capture_output=True,
        timeout=SECONDS,
    ).stdout.decode()
    assert told == "by its queue 42 True 0\n"


def test_a_standard_process_passes_on_what_came_and_ends(theirs: Any):
    event = shoal.Event()
    queues = theirs.Queue(), theirs.Queue()
    answers, now = theirs.Queue(), theirs.Event()
    last = theirs.Process(target=tasks.set_what_comes, args=(queues[1], now, answers))
    last.start()
    first = theirs.Process(target=tasks.pass_on_what_comes, args=(*queues, answers))
    first.start()
    queues[0].put(event)
    assert answers.get(timeout=SECONDS) == "passed on"
    first.join(SECONDS)
    now.set()  # the last one loads what was passed on when the first one has gone
    assert answers.get(timeout=SECONDS) == "set"
    assert event.is_set()
    last.join(SECONDS)
    assert (first.exitcode, last.exitcode) == (0, 0)


def test_a_standard_process_that_was_sent_a_lock_and_is_killed_gives_it_up(ours: Any, theirs: Any):
    lock, (receiver, sender), answers = ours.Lock(), theirs.Pipe(duplex=False), theirs.Queue()
    process = theirs.Process(target=tasks.take_what_comes, args=(receiver, answers))
    process.start()
    sender.send(lock)
    assert answers.get(timeout=SECONDS) == "held"
    with pytest.warns(AbandonedLockWarning):
        assert lock.acquire(timeout=SECONDS)
    lock.release()
    process.join(SECONDS)


def test_what_comes_when_its_sender_has_gone_or_to_another_tree_is_refused_in_words():
    made = [sys.executable, "-c", "import pickle, shoal, sys; sys.stdout.buffer.write(pickle.dumps(shoal.Lock()))"]
    orphan = subprocess.run(made, check=True, capture_output=True, timeout=SECONDS).stdout
    lock = shoal.Lock()
    load = """if True:
        import pickle, shoal, sys
        from shoal.errors import StaleReferenceError
        own = eval(sys.argv[1])
        try:
            pickle.loads(sys.stdin.buffer.read())
        except StaleReferenceError as error:
            print(error)
        with shoal.Lock():
            print("works")
        """
    for pickled, own in [(orphan, "None"), (pickle.dumps(lock), "shoal.Lock()")]:
        command = [sys.executable, "-W", "error", "-c", load, own]
        told = subprocess.run(command, check=True, input=pickled, capture_output=True, timeout=SECONDS).stdout.decode()
        assert "another process tree, or whoever sent" in told
        assert "works" in told


def test_what_a_standard_child_was_given_lives_though_nobody_else_holds_it(ours: Any, theirs: Any):
    answers = ours.Queue()
    event = ours.Event()
    event.set()
    process = theirs.Process(target=tasks.wait_for, args=(event, answers))
    process.start()
    del event
    gc.collect()
    assert [answers.get(timeout=SECONDS) for _ in range(2)] == ["waiting", True]
    process.join(SECONDS)
    assert process.exitcode == 0


def test_a_lock_whose_standard_holder_is_killed_goes_to_the_next(ours: Any, theirs: Any):
    lock, answers = ours.Lock(), ours.Queue()
    process = theirs.Process(target=tasks.take_and_leave, args=(lock, answers, "killed"))
    process.start()
    assert answers.get(timeout=SECONDS) == "held"
    with pytest.warns(AbandonedLockWarning):
        assert lock.acquire(timeout=SECONDS)
    lock.release()
    process.join(SECONDS)


def test_a_lock_whose_standard_holder_ended_well_stays_held(ours: Any, theirs: Any):
    lock, answers = ours.Lock(), ours.Queue()
    process = theirs.Process(target=tasks.take_and_leave, args=(lock, answers, "well"))
    process.start()
    assert answers.get(timeout=SECONDS) == "held"
    process.join(SECONDS)
    assert lock.acquire(timeout=0.05) is False
    lock.release()
    assert lock.acquire(timeout=0) is True


def test_what_standard_children_leave_behind_is_given_back(ours: Any, theirs: Any):
    def in_use() -> dict[str, int]:
        gc.collect()
        counts = _native.arena_statistics()
        counts["objects"] -= counts["retired"]  # nobody's any more: freed a few dozen at a time
        return {name: counts[name] for name in ("objects", "blobs", "slots", "nodes")}

    def once() -> None:
        lock, answers = ours.Lock(), ours.Queue()
        process = theirs.Process(target=tasks.take_and_leave, args=(lock, answers, "killed"))
        process.start()
        assert answers.get(timeout=SECONDS) == "held"
        process.join(SECONDS)
        with pytest.warns(AbandonedLockWarning):
            assert lock.acquire(timeout=SECONDS)

    once()
    before = in_use()
    for _ in range(3):
        once()
    patience = threading.Event()
    for _ in range(200):
        after = in_use()
        if all(after[name] <= before[name] for name in after):
            break
        patience.wait(0.05)
    assert all(after[name] <= before[name] for name in after), (before, after)


def test_whoever_forks_there_is_a_watcher_for_the_child():
    program = """if True:
        import os, time, shoal
        from shoal import _native
        lock = shoal.Lock()
        assert _native.watcher_pid() == 0
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        until = time.monotonic() + 15
        while _native.watcher_pid() == 0:  # it is nobody's child: there is nothing to wait for
            assert time.monotonic() < until
            time.sleep(0.01)
        """
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=SECONDS)


def test_the_pool_takes_standard_processes_for_workers(theirs: Any):
    with Pool(2, context=theirs) as pool:
        assert pool.map(tasks.square, range(20)) == [number * number for number in range(20)]
        assert {type(worker).__module__ for worker in pool._pool} == {"multiprocessing.context"}
        pool.close()
        pool.join()


# --- executors ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def executor(ours: Any) -> Iterator[concurrent.futures.ProcessPoolExecutor]:
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=ours) as executor:
        yield executor


def test_an_executor_submits_and_maps(executor: concurrent.futures.ProcessPoolExecutor):
    assert executor.submit(tasks.square, 3).result(SECONDS) == 9
    assert list(executor.map(tasks.square, range(20), chunksize=3)) == [number * number for number in range(20)]
    futures = [executor.submit(tasks.square, number) for number in range(50)]
    assert [future.result(SECONDS) for future in futures] == [number * number for number in range(50)]
    assert executor.submit(tasks.who_am_i).result(SECONDS)["same"]


def test_an_executor_reports_what_goes_wrong_and_goes_on(executor: concurrent.futures.ProcessPoolExecutor):
    with pytest.raises(LookupError, match="wrong") as caught:
        executor.submit(tasks.fail, "wrong").result(SECONDS)
    assert "foreign_tasks" in str(caught.value.__cause__)
    with pytest.raises(TypeError, match="pickle"):
        executor.submit(tasks.square, threading.Lock()).result(SECONDS)
    with pytest.raises(TypeError, match="pickle"):
        executor.submit(tasks.what_cannot_be_pickled).result(SECONDS)
    assert executor.submit(tasks.square, 3).result(SECONDS) == 9


def test_an_executor_cancels_what_has_not_begun(executor: concurrent.futures.ProcessPoolExecutor):
    futures = [executor.submit(tasks.square, number) for number in range(200)]
    executor.shutdown(wait=True, cancel_futures=True)
    assert any(future.cancelled() for future in futures)
    assert all(future.cancelled() or future.result(0) == number**2 for number, future in enumerate(futures))
    with pytest.raises(RuntimeError, match="shutdown"):
        executor.submit(tasks.square, 1)


@pytest.mark.parametrize("how", [3, -9])
def test_an_executor_whose_worker_dies_is_broken(ours: Any, how: int):
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=ours) as executor:
        with pytest.raises(BrokenProcessPool):
            executor.submit(tasks.die, how).result(SECONDS)
        with pytest.raises(BrokenProcessPool):
            executor.submit(tasks.square, 1).result(SECONDS)


def test_an_executor_replaces_its_workers(ours: Any, method: str):
    if method == "fork":
        with pytest.raises(ValueError, match="fork"):
            concurrent.futures.ProcessPoolExecutor(1, mp_context=ours, max_tasks_per_child=1)
        return
    # A worker's last result must be seen before its end, every time, or the executor takes it for dead.
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=ours, max_tasks_per_child=2) as executor:
        pids = [executor.submit(tasks.pid).result(SECONDS) for _ in range(8)]
    assert pids[::2] == pids[1::2]
    assert len(set(pids)) == 4


# --- libraries ----------------------------------------------------------------------------------------------------------


def test_joblibs_executor_takes_a_context(ours: Any):
    loky = pytest.importorskip("joblib.externals.loky", reason="joblib is not installed")
    with loky.ProcessPoolExecutor(2, context=ours) as executor:
        assert list(executor.map(tasks.square, range(10))) == [number * number for number in range(10)]
        with pytest.raises(LookupError, match="wrong"):
            executor.submit(tasks.fail, "wrong").result(SECONDS)
        with pytest.raises(BrokenProcessPool):
            executor.submit(tasks.die, -9).result(SECONDS)


@pytest.mark.limit(180)
def test_pytorch_loads_data_in_processes_of_a_context(ours: Any):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from torch.utils.data import DataLoader, TensorDataset  # noqa: PLC0415 - it may be missing

    data = TensorDataset(torch.arange(64.0).reshape(16, 4))
    loader = DataLoader(data, batch_size=4, num_workers=2, multiprocessing_context=ours)
    for _ in range(2):
        assert sorted(float(batch[0].sum()) for batch in loader) == sorted(
            float(torch.arange(16.0 * part, 16.0 * part + 16).sum()) for part in range(4)
        )


@pytest.mark.limit(180)
def test_tensors_go_through_queues_and_pools(ours: Any):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    queue = ours.Queue()
    queue.put(torch.arange(1000.0))
    assert float(queue.get(timeout=SECONDS).sum()) == 499500.0
    with ours.Pool(1) as pool:
        assert float(pool.apply(torch.sum, (torch.ones(100_000),))) == 100_000.0
