"""``ThreadPool``: the pool of processes with threads for workers, and what is different about a thread."""

from __future__ import annotations

import gc
import inspect
import pickle
import threading
import time
import weakref
from multiprocessing import pool as standard
from pathlib import Path
from typing import Any, NoReturn

import pytest

from shoal.errors import BrokenPoolError, PoolTerminatedError
from shoal.pool import Pool, ThreadPool

SECONDS = 20


@pytest.fixture
def pool() -> Any:
    with ThreadPool(2) as pool:
        yield pool
        pool.close()
        pool.join()


def test_it_is_a_pool_with_the_standard_signature():
    assert issubclass(ThreadPool, Pool)
    assert list(inspect.signature(ThreadPool).parameters) == list(inspect.signature(standard.ThreadPool).parameters)
    with ThreadPool(1) as pool:
        assert repr(pool) == "<shoal.pool.ThreadPool state=RUN pool_size=1>"
        with pytest.raises(NotImplementedError, match="cannot be passed"):
            pickle.dumps(pool)
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="at least 1"):
            ThreadPool(wrong)
    with pytest.raises(TypeError, match="callable"):
        ThreadPool(1, 7)


def test_functions_arguments_and_results_are_the_objects_themselves(pool: ThreadPool):
    lock = threading.Lock()  # which cannot be pickled
    assert pool.apply(lambda thing: thing, (lock,)) is lock
    assert pool.apply(dict, (), {"lock": lock})["lock"] is lock
    assert pool.map(lambda thing: thing, [lock] * 3) == [lock] * 3
    assert pool.map(lambda thing: thing, [lock] * 3, chunksize=1) == [lock] * 3
    assert list(pool.imap(lambda thing: thing, iter([lock] * 3))) == [lock] * 3
    counted: list[int] = []
    assert pool.starmap(counted.append, [(number,) for number in range(100)], chunksize=7) == [None] * 100
    assert sorted(counted) == list(range(100))


def test_an_idle_pool_holds_neither_arguments_nor_results(pool: ThreadPool):
    class Thing:
        pass

    thing = Thing()
    gone = weakref.ref(thing)
    assert pool.apply(lambda thing: thing, (thing,)) is thing
    assert pool.map(lambda thing: thing, [thing] * 4)[0] is thing
    del thing
    deadline = time.monotonic() + SECONDS
    while (
        gone() is not None and time.monotonic() < deadline
    ):  # a worker lets go of a task after it has told its outcome
        gc.collect()
    assert gone() is None


@pytest.mark.parametrize("raised", [SystemExit(3), KeyboardInterrupt(), LookupError("own")])
def test_whatever_a_task_raises_goes_to_get_as_it_is(pool: ThreadPool, raised: BaseException):
    def fail(_: object = None) -> NoReturn:
        raise raised

    for call in (
        lambda: pool.apply(fail),
        lambda: pool.apply_async(fail).get(SECONDS),
        lambda: pool.map(fail, range(3)),
        lambda: next(pool.imap(fail, [1])),
    ):
        with pytest.raises(type(raised)) as caught:
            call()
        assert caught.value is raised
        assert caught.value.__cause__ is None
    assert pool.apply(len, ("abc",)) == 3


@pytest.mark.parametrize("what", [None, 5, "text"])
def test_what_cannot_be_called_is_an_error_of_that_call(pool: ThreadPool, what: Any):
    with pytest.raises(TypeError, match="not callable"):
        pool.apply(what)
    assert pool.apply(len, ("abc",)) == 3


def test_an_initializer_runs_once_in_each_thread():
    ran: list[tuple[int, str]] = []
    with ThreadPool(3, lambda text: ran.append((threading.get_ident(), text)), ("hello",)) as pool:
        meet = threading.Barrier(3, timeout=SECONDS)
        idents = set(pool.map(lambda _: (meet.wait(), threading.get_ident())[1], range(3), chunksize=1))
    assert sorted(ran) == sorted((ident, "hello") for ident in idents)


def test_an_initializer_that_fails_breaks_the_pool_once(capfd: pytest.CaptureFixture[str]):
    def refuse() -> NoReturn:
        raise OSError("no database")

    with ThreadPool(2, refuse) as pool:
        for _ in range(2):
            with pytest.raises(BrokenPoolError, match="no database") as caught:
                pool.apply(len, ("abc",))
            assert isinstance(caught.value.__cause__, OSError)
    pool.join()
    assert capfd.readouterr().err == ""


def test_terminate_drops_what_no_worker_has_begun_and_join_waits_for_what_runs():
    begun, go_on, ran = threading.Semaphore(0), threading.Event(), []

    def work(number: int) -> None:
        begun.release()
        go_on.wait(SECONDS)
        ran.append(number)

    pool = ThreadPool(2)
    results = [pool.apply_async(work, (number,)) for number in range(10)]
    assert begun.acquire(timeout=SECONDS)
    assert begun.acquire(timeout=SECONDS)
    pool.terminate()
    assert ran == [], "terminate() does not wait for a thread"
    for result in results:
        with pytest.raises(PoolTerminatedError):
            result.get(SECONDS)
    go_on.set()
    pool.join()
    assert sorted(ran) == [0, 1]
    assert not any(worker.is_alive() for worker in pool._pool)


def test_close_finishes_everything_and_lets_the_threads_go():
    pool = ThreadPool(2)
    result = pool.map_async(lambda number: number + 1, range(1000), chunksize=1)
    pool.close()
    pool.join()
    assert result.get(0) == list(range(1, 1001))
    assert [worker.exitcode for worker in pool._pool] == [0, 0]


def test_an_idle_pool_does_not_wake_up():
    def switches() -> dict[str, int]:
        """How often each thread of this process has gone to sleep."""
        return {
            task.name: int(line.split()[1])
            for task in Path("/proc/self/task").iterdir()
            for line in (task / "status").read_text().splitlines()
            if line.startswith("voluntary_ctxt_switches")
        }

    with ThreadPool(4) as pool:
        pool.map(len, ["abc"] * 100)
        assert pool.apply_async(len, ("abc",), callback=lambda _: None).get(SECONDS) == 3
        time.sleep(0.3)  # settled: the moment in which it may still look
        own = str(threading.get_native_id())
        before = switches()
        time.sleep(1.2)
        after = switches()
    assert {task: after[task] - before[task] for task in before if task != own and task in after} == {
        task: 0 for task in before if task != own
    }


def test_a_subclass_may_bring_threads_of_its_own():
    class Named(threading.Thread):
        exitcode = property(lambda self: None if self.is_alive() or self.ident is None else 0)

    class Own(ThreadPool):
        @staticmethod
        def Process(ctx, *args, **kwds):  # noqa: N802 - the standard name
            del ctx
            return Named(*args, **kwds)

    with Own(2) as pool:
        assert isinstance(pool.apply(threading.current_thread), Named)
        pool.close()
        pool.join()


def test_a_task_may_use_a_pool_of_its_own(pool: ThreadPool):
    def inner(number: int) -> int:
        with ThreadPool(2) as more:
            return sum(more.map(lambda item: item * number, range(10)))

    assert pool.map(inner, range(4), chunksize=1) == [0, 45, 90, 135]


@pytest.mark.parametrize("chunksize", [1, 4])
def test_a_function_that_raises_stop_iteration_fails_its_item(chunksize: int):
    def stop_at_two(number: int) -> int:
        if number == 2:
            raise StopIteration
        return number

    with ThreadPool(2) as pool:
        outcomes = pool.imap(stop_at_two, range(4), chunksize)
        assert [outcomes.next(SECONDS), outcomes.next(SECONDS)] == [0, 1]
        with pytest.raises(StopIteration):
            outcomes.next(SECONDS)
        with pytest.raises(StopIteration):
            pool.map_async(stop_at_two, range(4), chunksize).get(SECONDS)
        assert pool.map(abs, range(4)) == [0, 1, 2, 3]
