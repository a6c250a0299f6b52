"""A pool ends in bounded time, in whatever way and from wherever it is told to; and says so to whoever waits."""

from __future__ import annotations

import gc
import os
import threading
from multiprocessing import TimeoutError as NotInTime
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import pool_tasks as tasks
import pytest
from crash_programs import Program
from crash_table import SECONDS, Case, each, raised_by

from shoal.errors import BrokenPoolError, PoolTerminatedError
from shoal.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# --- a pool that can have no workers --------------------------------------------------------------------------------------

INITIALIZERS = [
    Case("raises", (tasks.fail, ("no model",)), "no model"),
    Case("exits", (os._exit, (4,)), "exit code 4"),
    Case("leaves by sys.exit", (tasks.leave, (5,)), "SystemExit"),
    Case("is killed", (tasks.die_of, ("SIGSEGV",)), "SIGSEGV"),
    Case("cannot be loaded", (tasks.double, (tasks.LoadsNowhere(),)), "exit code 1", methods=("spawn", "forkserver")),
    Case("hangs", (tasks.hang, ()), "0.5 s"),
]


@each(INITIALIZERS)
def test_a_pool_fails_once_if_its_initializer(case: Case, method: str, context: Any) -> None:  # noqa: ARG001
    function, arguments = case.act
    seconds = 0.5 if case.name == "hangs" else None
    with Pool(2, function, arguments, context=context, initializer_timeout=seconds) as pool:
        pending = pool.apply_async(tasks.double, (1,))
        caught = raised_by(lambda: pool.apply(tasks.double, (1,)))
        assert isinstance(caught, BrokenPoolError)
        assert case.outcome in f"{caught.__cause__!r} {caught.__cause__}"
        for call in (lambda: pending.get(SECONDS), lambda: pool.map(tasks.double, [1])):
            assert isinstance(raised_by(call), BrokenPoolError)
        assert len(pool._pool) <= 2
    pool.join()


STUCK = """
import os, time
import pool_tasks
import shoal

stuck = False

def hang_if_stuck():  # as on a lock that another thread held at the fork
    if stuck:
        time.sleep(60)

os.register_at_fork(after_in_child=hang_if_stuck)
pool = shoal.get_context("fork").Pool(1)
assert pool.apply(pool_tasks.double, (1,)) == 2
print("ready", flush=True)
stuck = True
pool._pool[0].kill()
result = pool.apply_async(pool_tasks.double, (2,))
time.sleep(2)
stuck = False
assert result.get() == 4
pool.terminate()
pool.join()
"""


def test_a_replacement_that_is_stuck_at_its_fork_is_replaced(tmp_path: Path) -> None:
    with Program(STUCK, "fork", tmp_path) as program:
        program.wait_until_ready()
        assert program.end() == ""
        assert program.process.returncode == 0


# --- the end, in every order -----------------------------------------------------------------------------------------------


def in_order(*names: str) -> Callable[[Pool], None]:
    def end(pool: Pool) -> None:
        for name in names:
            getattr(pool, name)()

    return end


def by_with(pool: Pool) -> None:
    with pool:
        pass
    pool.join()


def by_an_exception_in_with(pool: Pool) -> None:
    with pytest.raises(ValueError, match="of the block"), pool:
        raise ValueError("of the block")
    pool.join()


# What the callback of the first task does, in the cases that end a pool from there.
in_a_callback: SimpleQueue[Callable[[], object]] = SimpleQueue()


def from_a_callback(pool: Pool) -> None:
    done = threading.Event()

    def end() -> None:
        pool.terminate()
        done.set()

    in_a_callback.put(end)
    assert done.wait(SECONDS)
    pool.join()


def closed_in_a_callback(pool: Pool) -> None:
    in_a_callback.put(pool.close)
    while pool._state == "RUN":  # the watchdog counts
        threading.Event().wait(0.01)
    pool.terminate()
    pool.join()


def from_two_threads(pool: Pool) -> None:
    threads = [threading.Thread(target=in_order("terminate", "join"), args=(pool,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()


def while_another_joins(pool: Pool) -> None:
    pool.close()
    joiner = threading.Thread(target=pool.join)
    joiner.start()
    pool.terminate()
    joiner.join(SECONDS)
    assert not joiner.is_alive()


def while_workers_are_replaced(pool: Pool) -> None:
    for process in list(pool._pool):
        process.kill()
    pool.terminate()
    pool.join()


def while_others_fork(pool: Pool) -> None:
    over = threading.Event()

    def fork() -> None:
        while not over.is_set():
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            os.waitpid(pid, 0)

    forker = threading.Thread(target=fork)
    forker.start()
    pool.terminate()
    pool.join()
    over.set()
    forker.join()


ENDS = [
    Case("close, terminate, join", in_order("close", "terminate", "join")),
    Case("terminate, join", in_order("terminate", "join")),
    Case("terminate twice, join twice", in_order("terminate", "terminate", "join", "join")),
    Case("terminate, close, join", in_order("terminate", "close", "join")),
    Case("leaving a with block", by_with),
    Case("an exception in a with block", by_an_exception_in_with),
    Case("terminate in a callback", from_a_callback),
    Case("close in a callback", closed_in_a_callback),
    Case("terminate in three threads", from_two_threads),
    Case("terminate while another thread joins", while_another_joins),
    Case("terminate while workers are replaced", while_workers_are_replaced),
    Case("terminate while another thread forks", while_others_fork, methods=("fork", "spawn")),
]


@each(ENDS)
def test_what_is_outstanding_is_answered_for_after(case: Case, method: str, context: Any) -> None:  # noqa: ARG001
    pool = context.Pool(1)
    if "callback" in case.name:
        running = pool.apply_async(tasks.double, (1,), callback=lambda _value: in_a_callback.get(timeout=SECONDS)())
    else:
        running = pool.apply_async(tasks.pid_after, (60,))
    queued = pool.map_async(tasks.pid_after, [60] * 2000, chunksize=1)
    raised: list[BaseException] = []
    waiter = threading.Thread(target=lambda: raised.append(raised_by(queued.get)))
    waiter.start()
    case.act(pool)
    waiter.join(SECONDS)
    assert [type(error) for error in raised] == [PoolTerminatedError]
    if "callback" not in case.name:
        assert isinstance(raised_by(lambda: running.get(SECONDS)), PoolTerminatedError)
    with pytest.raises(ValueError, match="not running"):
        pool.apply(tasks.double, (1,))


def close_and_join(pool: Pool) -> None:
    pool.close()
    pool.join()


def close_twice(pool: Pool) -> None:
    in_order("close", "close", "join", "join")(pool)


def close_join_terminate(pool: Pool) -> None:
    in_order("close", "join", "terminate", "join")(pool)


def close_in_another_thread(pool: Pool) -> None:
    closer = threading.Thread(target=pool.close)
    closer.start()
    closer.join()
    pool.join()


KIND_ENDS = [
    Case("close, join", close_and_join),
    Case("close twice, join twice", close_twice),
    Case("close, join, terminate", close_join_terminate),
    Case("close in another thread", close_in_another_thread),
]


@each(KIND_ENDS)
def test_everything_is_done_after(case: Case, method: str, context: Any) -> None:  # noqa: ARG001
    pool = context.Pool(2)
    single = pool.apply_async(tasks.pid_after, (0.05,))
    many = pool.map_async(tasks.double, range(500), chunksize=1)
    case.act(pool)
    assert many.get(0) == [2 * i for i in range(500)]
    assert single.get(0)


@each([Case("dropped", None)])
def test_the_workers_of_a_pool_end_when_it_is(case: Case, method: str, context: Any) -> None:  # noqa: ARG001
    pools = [context.Pool(2)]
    assert pools[0].map(tasks.double, range(3)) == [0, 2, 4]
    workers = list(pools[0]._pool)
    with pytest.warns(ResourceWarning, match="unclosed running multiprocessing pool"):
        pools.clear()
    gc.collect()
    for worker in workers:
        worker.join(SECONDS)
        assert worker.exitcode is not None


# --- many workers -----------------------------------------------------------------------------------------------------------

# A hundredth of what must hold; `make soak` does the whole. A fresh interpreter for each task would take minutes.
ONE_TASK_EACH = {"fork": 1000, "forkserver": 300, "spawn": 10}


@pytest.mark.limit(180)  # a thousand workers, on a machine that may be busy
@each([Case("one task", None)])
def test_nothing_is_lost_if_workers_leave_after(case: Case, method: str, context: Any) -> None:  # noqa: ARG001
    count = ONE_TASK_EACH[method]
    with context.Pool(2, maxtasksperchild=1) as pool:
        results = [pool.apply_async(tasks.pid_of_worker) for _ in range(12)]
        assert pool.map(tasks.double, range(count), chunksize=1) == [2 * i for i in range(count)]
        pool.close()
        pool.join()
        assert len({result.get(0) for result in results}) == 12


def test_a_callback_that_raises_costs_nobody_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: told.append(args.exc_type))
    with Pool(1) as pool:
        results = [pool.apply_async(tasks.double, (i,), callback=[].index) for i in range(3)]
        assert [result.get(SECONDS) for result in results] == [0, 2, 4]
    pool.join()
    assert told == [ValueError] * 3


# --- inputs without an end ---------------------------------------------------------------------------------------------------


# What is held in the application does not depend on how its workers were started.
@each([Case(name, name, methods=("fork",)) for name in ("imap", "imap_unordered")])
def test_of_an_endless_input_a_bounded_number_is_held_by(case: Case, method: str, context: Any) -> None:  # noqa: ARG001
    taken = 0

    def numbers() -> Any:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    with context.Pool(2) as pool:
        results = getattr(pool, case.act)(tasks.double, numbers())
        assert results.next(SECONDS) % 2 == 0
        before = -1
        while before != taken:  # until it takes no more; the watchdog counts
            before = taken
            with pytest.raises(NotInTime):
                pool.apply_async(tasks.pid_after, (1,)).get(0.3)
        assert taken <= 5000
        for _ in range(2000):
            results.next(SECONDS)
    pool.join()
