"""Habits of foreign code: nobody documents them, many programs have them. Each holds for the standard library as well.

What holds for both is asked of both; a spawned child of the standard library would be no different, and is left out.
"""

from __future__ import annotations

import multiprocessing.pool
import multiprocessing.process
import multiprocessing.queues
import multiprocessing.spawn
import multiprocessing.util
import os
import queue as queues
import selectors
import subprocess
import sys
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import shoal
import shoal.connection
import shoal.pool
import shoal.process
import shoal.queues
import shoal.spawn

# Spawned children import the functions that they run; they are given this process's sys.path.
sys.path.insert(0, str(Path(__file__).parent))

import habit_tasks as tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECONDS = 20
LIBRARIES: dict[str, Any] = {"standard": multiprocessing, "shoal": shoal}

# Pools of the standard library replace workers beside their threads.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@pytest.fixture(params=["standard-fork", "shoal-fork", "shoal-spawn"])
def started(request: pytest.FixtureRequest) -> Any:
    """A context, where it matters how a child comes to what it has."""
    library, _, method = request.param.partition("-")
    return LIBRARIES[library].get_context(method)


@pytest.fixture(params=LIBRARIES)
def mp(request: pytest.FixtureRequest) -> Any:
    """A context, where all happens in the application."""
    return LIBRARIES[request.param].get_context("fork")


@pytest.fixture(params=["fork", "spawn"])
def ours(request: pytest.FixtureRequest) -> Any:
    return shoal.get_context(request.param)


def package(mp: Any) -> Any:
    return shoal if type(mp).__module__.startswith("shoal") else multiprocessing


def pool_type(mp: Any) -> Any:
    return package(mp).pool.Pool


def notes(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


# --- what programs look at in a pool ------------------------------------------------------------------------------------


def test_the_workers_of_a_pool_are_listed(mp: Any):
    with mp.Pool(2) as pool:
        assert pool._processes == len(pool._pool) == 2
        assert all(worker.is_alive() and worker.exitcode is None and worker.pid > 0 for worker in pool._pool)
        workers = list(pool._pool)
        assert pool.apply(tasks.identity)[1] in {worker.name for worker in workers}
        pool.close()
        pool.join()
    assert [(worker.is_alive(), worker.exitcode) for worker in workers] == [(False, 0)] * 2


def test_a_pool_tells_what_it_is_waiting_for(mp: Any):
    event = mp.Event()
    with mp.Pool(1, tasks.take, (event,)) as pool:
        assert pool._state == "RUN"
        result = pool.apply_async(tasks.held_by_what_was_taken, (5,))
        mapped = pool.map_async(tasks.square, range(6), chunksize=2)
        assert set(pool._cache) == {result._job, mapped._job}
        assert mapped._number_left == 3
        event.set()
        assert (result.get(SECONDS), mapped.get(SECONDS)) == (5, [0, 1, 4, 9, 16, 25])
        assert mapped._number_left == 0
        assert (pool._cache, pool._taskqueue.qsize()) == ({}, 0)
        pool.close()
        assert pool._state == "CLOSE"
        pool.terminate()
        assert pool._state == "TERMINATE"


def test_a_pool_can_be_made_larger(mp: Any):
    with mp.Pool(1) as pool:
        pool._processes = 3
        pool._repopulate_pool()
        assert len(pool._pool) == 3
        assert all(worker.is_alive() for worker in pool._pool)
        assert pool.map(tasks.square, range(20), chunksize=1) == [number**2 for number in range(20)]


def istarmap(self: Any, func: Any, iterable: Any, chunksize: int = 1) -> Iterator[Any]:
    """As it is handed from answer to answer since 2014; only where the names come from differs."""
    module = sys.modules[next(kind for kind in type(self).__mro__ if kind.__name__ == "Pool").__module__]
    self._check_running()
    batches = module.Pool._get_tasks(func, iterable, chunksize)
    result = module.IMapIterator(self)
    self._taskqueue.put((self._guarded_task_generation(result._job, module.starmapstar, batches), result._set_length))
    return (item for chunk in result for item in chunk)


@pytest.mark.parametrize("chunksize", [1, 3])
def test_the_istarmap_patch(mp: Any, monkeypatch: pytest.MonkeyPatch, chunksize: int):
    monkeypatch.setattr(pool_type(mp), "istarmap", istarmap, raising=False)
    with mp.Pool(2) as pool:
        pairs = [(number, 1) for number in range(10)]
        assert list(pool.istarmap(tasks.add, pairs, chunksize)) == list(range(1, 11))
        with pytest.raises(TypeError):
            list(pool.istarmap(tasks.add, [(1, 2), (1,)], chunksize))
        assert pool.apply(tasks.add, (1, 1)) == 2


# --- pools within pools -------------------------------------------------------------------------------------------------


def by_context(mp: Any) -> Any:
    class NoDaemonProcess(mp.Process):
        @property
        def daemon(self) -> bool:
            return False

        @daemon.setter
        def daemon(self, value: bool) -> None:
            pass

    class NoDaemonContext(type(mp)):
        Process = NoDaemonProcess

    return pool_type(mp)(2, context=NoDaemonContext())


def by_process(mp: Any) -> Any:
    class Nested(pool_type(mp)):
        @staticmethod
        def Process(ctx: Any, *arguments: Any, **keywords: Any) -> Any:  # noqa: N802 - what is overridden
            process = pool_type(mp).Process(ctx, *arguments, **keywords)

            class NoDaemonProcess(type(process)):
                daemon = property(lambda _self: False, lambda _self, _value: None)

            process.__class__ = NoDaemonProcess
            return process

    return Nested(2, context=mp)


def by_bound_method(mp: Any) -> Any:
    class Nested(pool_type(mp)):
        def Process(self, *arguments: Any, **keywords: Any) -> Any:  # noqa: N802 - what is overridden
            process = super().Process(*arguments, **keywords)
            process.__class__ = no_daemon(type(process))
            return process

    return Nested(2, context=mp)


def no_daemon(kind: Any) -> Any:
    return type("NoDaemon", (kind,), {"daemon": property(lambda _self: False, lambda _self, _value: None)})


@pytest.mark.parametrize("how", [by_context, by_process, by_bound_method], ids=lambda how: how.__name__)
def test_idioms_of_nested_pools(mp: Any, how: Callable[[Any], Any]):
    pool = how(mp)
    try:
        assert [worker.daemon for worker in pool._pool] == [False] * 2
        assert pool.map(tasks.pool_within, ["fork", "fork"]) == [[0, 1, 4]] * 2
    finally:
        pool.close()
        pool.join()


def test_a_spawned_worker_may_be_no_daemon_too():
    pool = by_context(shoal.get_context("spawn"))
    try:
        assert pool.map(tasks.pool_within, ["fork"]) == [[0, 1, 4]]
    finally:
        pool.close()
        pool.join()


def test_a_worker_that_says_it_is_no_daemon_has_children(started: Any):
    with started.Pool(1) as pool:
        assert pool.apply(tasks.process_within, ("fork",)) == (False, 0)


# --- subclasses of pools ------------------------------------------------------------------------------------------------


def test_a_pool_with_queues_of_its_own(started: Any):
    class Queues(pool_type(started)):
        def _setup_queues(self) -> None:
            self._inqueue = self._ctx.SimpleQueue()
            self._outqueue = self._ctx.SimpleQueue()
            self._quick_put = self._inqueue._writer.send
            self._quick_get = self._outqueue._reader.recv

    with Queues(2, context=started) as pool:
        assert pool.map(tasks.square, range(30)) == [number**2 for number in range(30)]
        assert list(pool.imap(tasks.square, range(5))) == [0, 1, 4, 9, 16]
        pool.close()
        pool.join()


def test_a_pool_that_fills_itself(started: Any):
    module = package(started).pool

    class Filled(module.Pool):
        def _repopulate_pool(self) -> None:  # as PyTorch's pool does; who replaces workers later does not ask it
            for _ in range(self._processes - len(self._pool)):
                arguments = (self._inqueue, self._outqueue, self._initializer, self._initargs, self._maxtasksperchild)
                worker = self.Process(self._ctx, target=module.worker, args=arguments)
                self._pool.append(worker)
                worker.name = worker.name.replace("Process", "OwnWorker")
                worker.daemon = True
                worker.start()

    with Filled(2, context=started, maxtasksperchild=2) as pool:
        assert all("OwnWorker" in worker.name for worker in pool._pool)
        assert pool.map(tasks.square, range(5), chunksize=1) == [0, 1, 4, 9, 16]
        pool.close()
        pool.join()


# --- queues -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Queue", "JoinableQueue", "SimpleQueue"])
def test_a_queues_ends_are_selected_on(mp: Any, kind: str):
    queue = getattr(mp, kind)()
    with selectors.DefaultSelector() as selector:
        selector.register(queue._reader, selectors.EVENT_READ, "items")
        assert selector.select(0) == []
        queue.put("item")
        assert [key.data for key, _ in selector.select(SECONDS)] == ["items"]
        assert wait([queue._reader], SECONDS) == [queue._reader]
        assert package(mp).connection.wait([queue._reader], SECONDS) == [queue._reader]
        assert queue.get() == "item"
        assert not wait([queue._reader], 0)
    with selectors.DefaultSelector() as selector:
        selector.register(queue._writer, selectors.EVENT_WRITE)
        assert selector.select(SECONDS)
    queue.close()
    if kind != "SimpleQueue":
        queue.join_thread()


@pytest.mark.parametrize("kind", ["Queue", "JoinableQueue"])
def test_subclasses_of_queues_are_made_with_a_context(mp: Any, kind: str):
    class Counted(getattr(package(mp).queues, kind)):
        def __init__(self, maxsize: int = 0, *, ctx: Any) -> None:
            super().__init__(maxsize, ctx=ctx)
            self.counted = 0

        def put(self, *arguments: Any, **keywords: Any) -> None:
            self.counted += 1
            super().put(*arguments, **keywords)

    queue = Counted(2, ctx=mp)
    queue.put(1)
    queue.put(2)
    with pytest.raises(queues.Full):
        queue.put(3, timeout=0.01)
    assert [queue.get(timeout=SECONDS), queue.get(timeout=SECONDS), queue.counted] == [1, 2, 3]
    queue.close()
    queue.join_thread()


# --- processes ----------------------------------------------------------------------------------------------------------


def test_workers_bear_the_standard_names(started: Any):
    word = {"fork": "Fork", "spawn": "Spawn"}[started.get_start_method()]
    with started.Pool(2) as pool:
        for worker in pool._pool:
            assert worker.name == f"{word}PoolWorker-{worker._identity[-1]}"
        numbers, name, daemon = pool.apply(tasks.identity)
    assert len(numbers) == 1
    assert (name, daemon) == (f"{word}PoolWorker-{numbers[0]}", True)


def test_a_childs_child_has_the_numbers_of_both(ours: Any):
    queue = ours.SimpleQueue()
    process = ours.Process(target=tasks.identity_of_a_child, args=(queue, ours.get_start_method()))
    process.start()
    numbers, name, daemon = queue.get()
    process.join()
    assert numbers == (*process._identity, 1)
    assert name.endswith(f"Process-{numbers[0]}:1")
    assert not daemon


@pytest.mark.parametrize("module", [multiprocessing.process, shoal.process], ids=lambda module: module.__name__)
def test_the_books_about_children_are_those_of_the_standard_library(mp: Any, module: Any):
    event = mp.Event()
    process = mp.Process(target=tasks.held, args=(event, 1))
    assert process in set(module._dangling)
    process.start()
    assert process in module._children
    event.set()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    module._cleanup()
    assert process not in module._children
    assert process.exitcode == 0


# --- util ---------------------------------------------------------------------------------------------------------------


def test_finalizers_run_at_the_end_of_a_process_and_of_a_worker(started: Any, tmp_path: Path):
    path = tmp_path / "notes"
    process = started.Process(target=tasks.register_finalizer, args=(str(path),))
    process.start()
    process.join()
    assert notes(path) == ["by priority"]
    with started.Pool(2, tasks.register_finalizer, (str(path),)) as pool:
        pool.map(tasks.square, range(4))
        pool.close()
        pool.join()
    assert notes(path) == ["by priority"] * 3


def test_the_exit_function_can_be_called_by_hand(started: Any, tmp_path: Path):
    path = tmp_path / "notes"
    process = started.Process(target=tasks.exit_by_hand, args=(str(path),))
    process.start()
    process.join()
    assert (notes(path), process.exitcode) == (["by priority"], 7)


def test_hooks_run_after_a_fork_in_processes_and_workers(mp: Any, tmp_path: Path):
    path, kept, queue = tmp_path / "notes", tasks.Kept(), mp.SimpleQueue()
    multiprocessing.util.register_after_fork(kept, lambda _kept: tasks.note(str(path), "hook"))
    process = mp.Process(target=tasks.count_hooks, args=(queue, str(path)))
    process.start()
    assert queue.get() == ["hook"]
    process.join()
    with mp.Pool(2) as pool:
        pool.map(tasks.square, range(4))
        pool.close()
        pool.join()
    assert notes(path) == ["hook"] * 3
    queue.close()


# --- what coverage and line_profiler replace ----------------------------------------------------------------------------


@pytest.mark.parametrize("module", [multiprocessing.spawn, shoal.spawn], ids=lambda module: module.__name__)
def test_a_patched_bootstrap_and_preparation_run_in_every_child(
    ours: Any, module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "notes"
    # Preparation data is what gives a child its sys.path: what travels in it has to be installed.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setattr(multiprocessing.process.BaseProcess, "_bootstrap", tasks.ORIGINAL)
    original = module.get_preparation_data

    def with_stowaway(name: str) -> dict[str, Any]:
        data: dict[str, Any] = original(name)
        data["stowaway"] = tasks.Stowaway(str(path))
        return data

    monkeypatch.setattr(module, "get_preparation_data", with_stowaway)
    tasks.patch_bootstrap(str(path))
    process = ours.Process(target=tasks.square, args=(2,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert [note.partition(" ")[0] for note in notes(path)] == ["begin", "end"]
    with ours.Pool(2) as pool:
        assert pool.map(tasks.square, range(4)) == [0, 1, 4, 9]
        pool.close()
        pool.join()
    assert sorted(note.partition(" ")[0] for note in notes(path)) == ["begin"] * 3 + ["end"] * 3


# --- the resource tracker -----------------------------------------------------------------------------------------------

TRACKED = """
from multiprocessing import get_context, resource_tracker
from multiprocessing.shared_memory import SharedMemory

block, semaphore = SharedMemory(create=True, size=64), get_context("spawn").Semaphore()
resource_tracker.unregister(block._name, "shared_memory")
resource_tracker.register(block._name, "shared_memory")
resource_tracker.unregister(block._name, "shared_memory")
block.close()
block.unlink()
assert type(block).__module__ == "shoal.shared_memory"
print("done")
"""


def test_the_resource_tracker_is_silent_about_shoals_own():
    line = [sys.executable, "-m", "shoal", "run", "-c", TRACKED]
    done = subprocess.run(line, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
