"""``Pool``: every way to hand work to it, what comes back, and how it ends."""

from __future__ import annotations

import itertools
import os
import pickle
import threading
from multiprocessing import TimeoutError  # noqa: A004 - its name
from typing import TYPE_CHECKING, Any

import pytest
from contract_children import tasks
from contract_children.waiting import LONG, SHORT, eventually

from shoal.errors import PoolTerminatedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.context import BaseContext
    from multiprocessing.pool import Pool

    from contract_children.instances import Instance

pytestmark = pytest.mark.threads_too

MEGABYTES_10 = 10 * 1024 * 1024

ALL_AT_ONCE: list[Callable[..., Any]] = [
    lambda pool, *arguments, **options: pool.map(*arguments, **options),
    lambda pool, *arguments, **options: pool.map_async(*arguments, **options).get(LONG),
    lambda pool, *arguments, **options: list(pool.imap(*arguments, **options)),
    lambda pool, *arguments, **options: sorted(pool.imap_unordered(*arguments, **options)),
]


class Gated:
    """A pool and the gate that its tasks wait at."""

    def __init__(self, mp: BaseContext, processes: int) -> None:
        self.started, self.gate = mp.Semaphore(0), mp.Semaphore(0)
        self.pool = mp.Pool(processes, tasks.hold_gate, (self.started, self.gate))


@pytest.fixture
def gated(mp: BaseContext) -> Iterator[Callable[[int], Gated]]:
    made = []

    def make(processes: int) -> Gated:
        made.append(Gated(mp, processes))
        return made[-1]

    yield make
    for each in made:
        each.gate.release()
        each.pool.terminate()
        each.pool.join()


# --- one task ----------------------------------------------------------------------------------------------------------------


@pytest.mark.processes_only("the workers of the other pool are in this process")
def test_apply_gives_what_the_function_returned_in_a_worker(pool: Pool, instance: Instance):
    assert pool.apply(tasks.square, (7,)) == 49
    assert pool.apply(tasks.add, ("a", "b"), {"factor": 2}) == "abab"
    assert pool.apply(tasks.add, args=(1,), kwds={"other": 2}) == 3
    assert pool.apply(tasks.nothing) is None
    assert pool.apply(len, [[1, 2]]) == 2
    pid, daemon, name = pool.apply(tasks.describe_worker, (instance,))
    assert pid != os.getpid()
    assert daemon is True
    assert "PoolWorker" in name


def test_apply_async_gives_a_result_to_wait_for(pool: Pool):
    result = pool.apply_async(tasks.add, ("a",), {"other": "b"})
    result.wait()
    assert result.wait(LONG) is None
    assert (result.ready(), result.successful()) == (True, True)
    assert result.get() == result.get(timeout=0) == "ab"


def test_a_result_that_is_not_there_yet_says_so(gated: Callable[[int], Gated]):
    at = gated(1)
    result = at.pool.apply_async(tasks.pass_gate, ("through",))
    mapped = at.pool.map_async(tasks.pass_gate, ["one", "other"])
    assert at.started.acquire(timeout=LONG)
    for each in (result, mapped):
        assert each.ready() is False
        with pytest.raises(ValueError, match="not ready"):
            each.successful()
        assert each.wait(SHORT) is None
        with pytest.raises(TimeoutError):
            each.get(timeout=SHORT)
        with pytest.raises(TimeoutError):
            each.get(0)
    at.gate.release()
    assert result.get(LONG) == "through"
    assert mapped.get(LONG) == ["one", "other"]


def test_ten_megabytes_go_to_a_worker_and_come_back(pool: Pool):
    assert pool.apply(tasks.length, (bytes(MEGABYTES_10),)) == MEGABYTES_10
    assert pool.apply(tasks.large, (MEGABYTES_10,)) == bytes(MEGABYTES_10)
    assert pool.map(tasks.length, [bytes(1 << 20)] * 5) == [1 << 20] * 5
    assert [len(obj) for obj in pool.imap(tasks.large, [1 << 20] * 5)] == [1 << 20] * 5


# --- many tasks --------------------------------------------------------------------------------------------------------------


def test_map_in_all_its_forms_keeps_the_order_whatever_the_chunks(pool: Pool):
    expected = [number * number for number in range(50)]
    for take in ALL_AT_ONCE:
        assert take(pool, tasks.square, range(50)) == expected
        for chunksize in (1, 7, 50, 1000):
            assert take(pool, tasks.square, range(50), chunksize=chunksize) == expected
    assert pool.map(tasks.square, range(50), 3) == expected
    assert pool.map(str, "abc") == ["a", "b", "c"]
    assert pool.map(func=str, iterable={1: 2}) == ["1"]


def test_inputs_may_be_generators(pool: Pool):
    for take in ALL_AT_ONCE:
        assert take(pool, tasks.square, (number for number in range(20))) == [number * number for number in range(20)]
        assert take(pool, tasks.square, iter([3]), chunksize=5) == [9]
    assert pool.starmap(tasks.add, zip(range(3), range(3), strict=True)) == [0, 2, 4]


def test_no_inputs_give_no_outputs(pool: Pool):
    for take in ALL_AT_ONCE:
        for nothing in ([], iter([]), range(0)):
            assert take(pool, tasks.fail, nothing) == []
        assert take(pool, tasks.fail, [], chunksize=3) == []
    assert pool.starmap(tasks.fail, []) == []
    result = pool.map_async(tasks.fail, [])
    assert result.get(LONG) == []
    assert result.successful() is True


def test_thousands_of_small_tasks_are_each_done_once(pool: Pool):
    assert pool.map(tasks.square, range(3000), chunksize=1) == [number * number for number in range(3000)]
    assert sorted(pool.imap_unordered(abs, range(3000), chunksize=10)) == list(range(3000))


def test_starmap_takes_arguments_apart(pool: Pool):
    assert pool.starmap(tasks.add, [(1, 2), ("a", "b"), ([1], [2])]) == [3, "ab", [1, 2]]
    assert pool.starmap(tasks.add, [(number, number) for number in range(20)], chunksize=3) == list(range(0, 40, 2))
    result = pool.starmap_async(tasks.add, [(1, 2), (3, 4)])
    assert result.get(LONG) == [3, 7]
    assert result.successful() is True


def test_tasks_run_in_all_workers_at_once(gated: Callable[[int], Gated]):
    at = gated(2)
    result = at.pool.map_async(tasks.pass_gate, range(2), chunksize=1)
    assert at.started.acquire(timeout=LONG)
    assert at.started.acquire(timeout=LONG), "the second has begun before the first is over"
    at.gate.release()
    assert result.get(LONG) == [0, 1]


def test_results_reach_the_thread_that_asked(pool: Pool):
    results: dict[int, list[int]] = {}

    def ask(offset: int) -> None:
        results[offset] = pool.map(tasks.square, range(offset, offset + 100), chunksize=7)

    threads = [threading.Thread(target=ask, args=(offset,)) for offset in (0, 1000, 2000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert results == {offset: [n * n for n in range(offset, offset + 100)] for offset in (0, 1000, 2000)}


# --- iterators ---------------------------------------------------------------------------------------------------------------


def test_imap_gives_each_result_as_soon_as_it_and_those_before_are_there(gated: Callable[[int], Gated]):
    at = gated(2)
    results = at.pool.imap(tasks.pass_gate_unless_zero, range(3))
    assert iter(results) is results
    assert next(results) == 0, "what comes first is not held back by what comes later"
    with pytest.raises(TimeoutError):
        results.next(timeout=SHORT)
    with pytest.raises(TimeoutError):
        results.next(0)
    at.gate.release()
    assert results.next(LONG) == 1
    assert results.next() == 2
    for _ in range(2):
        with pytest.raises(StopIteration):
            results.next(timeout=LONG)
        with pytest.raises(StopIteration):
            next(results)


def test_imap_unordered_gives_what_is_ready(gated: Callable[[int], Gated]):
    at = gated(2)
    results = at.pool.imap_unordered(tasks.pass_gate_if_zero, range(4))
    assert at.started.acquire(timeout=LONG)
    assert sorted(results.next(LONG) for _ in range(3)) == [1, 2, 3]
    with pytest.raises(TimeoutError):
        results.next(timeout=SHORT)
    at.gate.release()
    assert results.next(LONG) == 0
    with pytest.raises(StopIteration):
        next(results)


def test_an_input_may_depend_on_an_earlier_result(pool: Pool):
    results: list[int] = []
    came = threading.Condition()

    def inputs() -> Iterator[int]:
        yield 2
        for number in range(3):
            with came:
                assert came.wait_for(lambda number=number: len(results) > number, LONG)
            yield results[-1]

    for result in pool.imap(tasks.square, inputs()):
        with came:
            results.append(result)
            came.notify()
    assert results == [4, 16, 256, 65536]


def test_chunks_are_at_least_one_long(pool: Pool):
    for method in (pool.imap, pool.imap_unordered):
        for chunksize in (0, -1):
            with pytest.raises(ValueError, match=r"[Cc]hunksize must be 1\+"):
                method(tasks.square, [1], chunksize)


# --- callbacks ---------------------------------------------------------------------------------------------------------------


def test_callbacks_are_called_once_with_the_result_before_it_is_ready(pool: Pool):
    called: list[Any] = []
    failed: list[Any] = []
    options = {"callback": called.append, "error_callback": failed.append}
    assert pool.apply_async(tasks.square, (3,), **options).get(LONG) == 9
    assert pool.apply_async(tasks.square, (3,), {}, called.append, failed.append).get(LONG) == 9
    assert pool.map_async(tasks.square, range(3), **options).get(LONG) == [0, 1, 4]
    assert pool.map_async(tasks.square, range(3), chunksize=1, **options).get(LONG) == [0, 1, 4]
    assert pool.starmap_async(tasks.add, [(1, 2)], **options).get(LONG) == [3]
    assert pool.map_async(tasks.square, [], **options).get(LONG) == []
    assert called[:5] == [9, 9, [0, 1, 4], [0, 1, 4], [3]]
    assert failed == []


def test_error_callbacks_are_called_once_with_the_exception(pool: Pool):
    called: list[Any] = []
    failed: list[Any] = []
    options = {"callback": called.append, "error_callback": failed.append}
    results = [
        pool.apply_async(tasks.fail, (1,), **options),
        pool.map_async(tasks.fail_if_odd, [0, 2, 1, 4], chunksize=1, **options),
        pool.starmap_async(tasks.fail, [(1,)], **options),
    ]
    for result in results:
        with pytest.raises(tasks.TaskError):
            result.get(LONG)
        assert result.successful() is False
    assert [type(error) for error in failed] == [tasks.TaskError] * 3
    assert [error.number for error in failed] == [1, 1, 1]
    assert called == []


def test_a_callback_may_hand_in_more_work(pool: Pool):
    more: list[Any] = []
    came = threading.Event()

    def go_on(value: int) -> None:
        if value < 1000:
            more.append(pool.apply_async(tasks.square, (value,), callback=go_on))
        else:
            came.set()

    pool.apply_async(tasks.square, (2,), callback=go_on)
    assert came.wait(LONG)
    assert [result.get(LONG) for result in more] == [16, 256, 65536]


# --- workers -----------------------------------------------------------------------------------------------------------------


@pytest.mark.processes_only("threads share what an initializer sets")
def test_each_worker_is_initialized_once_before_its_first_task(mp: BaseContext):
    with mp.Pool(2, initializer=tasks.hold_number, initargs=(42,)) as pool:
        for _ in range(3):
            assert {number for _, number in pool.map(tasks.held_number, range(20), chunksize=1)} == {42}


@pytest.mark.processes_only("threads are not replaced")
def test_a_worker_is_replaced_after_its_number_of_tasks(mp: BaseContext):
    with mp.Pool(1, tasks.hold_number, (1,), maxtasksperchild=2) as pool:
        done = pool.map(tasks.held_number, range(5), chunksize=1)
        pids = [pid for pid, _ in done]
        assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4]
        assert len(set(pids)) == 3
        assert {number for _, number in done} == {1}, "a new worker is initialized too"
        assert len(set(pool.map(tasks.whereabouts, range(10), chunksize=10))) == 1, "a chunk is one task"
        pool.close()
        pool.join()


@pytest.mark.processes_only("threads are not replaced")
def test_wrong_arguments_are_refused_before_anything_starts(mp: BaseContext):
    before = mp.active_children()
    for processes in (0, -1):
        with pytest.raises(ValueError, match="at least 1"):
            mp.Pool(processes)
    with pytest.raises(TypeError, match="callable"):
        mp.Pool(1, initializer=7)
    for number in (0, -1, 1.5, "1"):
        with pytest.raises(ValueError, match="maxtasksperchild"):
            mp.Pool(1, maxtasksperchild=number)
    assert mp.active_children() == before


@pytest.mark.processes_only("a pool of threads starts its own")
def test_the_workers_are_children_that_the_context_starts(mp: BaseContext, instance: Instance):
    before = set(mp.active_children())
    with instance.module("pool").Pool(2, context=mp) as pool:
        workers = set(mp.active_children()) - before
        assert len(workers) == 2
        assert all(isinstance(worker, mp.Process) and worker.daemon for worker in workers)
        assert set(pool.map(tasks.whereabouts, range(10))) <= {worker.pid for worker in workers}


# --- the end -----------------------------------------------------------------------------------------------------------------


def uses(pool: Pool) -> list[Callable[[], Any]]:
    return [
        lambda: pool.apply(tasks.nothing),
        lambda: pool.apply_async(tasks.nothing),
        lambda: pool.map(tasks.square, [1]),
        lambda: pool.map_async(tasks.square, [1]),
        lambda: pool.starmap(tasks.square, [(1,)]),
        lambda: pool.starmap_async(tasks.square, [(1,)]),
        lambda: pool.imap(tasks.square, [1]),
        lambda: pool.imap_unordered(tasks.square, [1]),
        pool.__enter__,
    ]


def test_a_closed_pool_takes_no_work_and_finishes_what_it_has(mp: BaseContext, gated: Callable[[int], Gated]):
    before = set(mp.active_children())
    at = gated(1)
    with pytest.raises(ValueError, match="still running"):
        at.pool.join()
    workers = set(mp.active_children()) - before
    result = at.pool.map_async(tasks.pass_gate, range(10), chunksize=2)
    items = at.pool.imap(tasks.pass_gate, range(10))
    at.pool.close()
    at.pool.close()
    for use in uses(at.pool):
        with pytest.raises(ValueError, match="not running"):
            use()
    at.gate.release()
    at.pool.join()
    at.pool.join()
    assert result.get(0) == list(range(10))
    assert list(items) == list(range(10))
    assert all(worker.exitcode == 0 for worker in workers)
    assert not workers & set(mp.active_children())


@pytest.mark.processes_only("a thread cannot be ended")
def test_terminate_ends_the_workers_whatever_they_do(mp: BaseContext, gated: Callable[[int], Gated]):
    before = set(mp.active_children())
    at = gated(2)
    workers = set(mp.active_children()) - before
    at.pool.map_async(tasks.pass_gate, range(50), chunksize=1)
    assert at.started.acquire(timeout=LONG)
    at.pool.terminate()
    at.pool.terminate()
    at.pool.join()
    assert not any(worker.is_alive() for worker in workers)
    for use in uses(at.pool):
        with pytest.raises(ValueError, match="not running"):
            use()
    assert not workers & set(mp.active_children())


@pytest.mark.shoal_only("the standard library leaves them without an answer for ever")
def test_terminate_answers_for_the_tasks_that_it_cut_off(gated: Callable[[int], Gated]):
    at = gated(1)
    result = at.pool.map_async(tasks.pass_gate, range(50), chunksize=1)
    items = at.pool.imap(tasks.pass_gate, range(50))
    assert at.started.acquire(timeout=LONG)
    at.pool.terminate()
    for get in (result.get, items.next):
        with pytest.raises(PoolTerminatedError):
            get(LONG)


def test_leaving_the_with_statement_terminates(mp: BaseContext):
    before = set(mp.active_children())
    with mp.Pool(2) as pool:
        assert pool.map(tasks.square, range(4)) == [0, 1, 4, 9]
        workers = set(mp.active_children()) - before
        assert len(workers) == 2
    with pytest.raises(ValueError, match="not running"):
        pool.apply(tasks.nothing)
    pool.join()
    assert not workers & set(mp.active_children())

    with pytest.raises(LookupError, match="inside"), mp.Pool(1) as pool:
        raise LookupError("inside")
    pool.join()
    assert eventually(lambda: set(mp.active_children()) <= before)


def test_a_pool_is_not_pickled(pool: Pool):
    with pytest.raises(NotImplementedError, match="pool objects cannot be passed"):
        pickle.dumps(pool)


@pytest.mark.processes_only("threads share what an initializer sets")
def test_two_pools_keep_to_themselves(mp: BaseContext):
    with mp.Pool(1, tasks.hold_number, (1,)) as one, mp.Pool(1, tasks.hold_number, (2,)) as other:
        results = [pool.map_async(tasks.held_number, range(5)) for pool in (one, other)]
        numbers = [{number for _, number in result.get(LONG)} for result in results]
        assert numbers == [{1}, {2}]
        other.terminate()
        other.join()
        assert one.apply(tasks.square, (3,)) == 9


def test_an_iterator_without_an_end_can_be_left(mp: BaseContext):
    with mp.Pool(1) as pool:
        results = pool.imap(tasks.square, itertools.islice(itertools.count(), 2000))
        assert [next(results) for _ in range(10)] == [number * number for number in range(10)]
    pool.join()
