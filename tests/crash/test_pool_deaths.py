"""Whatever dies in a pool, or cannot be sent, costs the task that it happened in, and nothing else.

The pools here live through many cases: that a pool works on is shown by the next one.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import pool_tasks as tasks
import pytest
from crash_table import SECONDS, Case, each, raised_by

from shoal.errors import WorkerLostError
from shoal.pool import MaybeEncodingError, Pool

if TYPE_CHECKING:
    from collections.abc import Callable


# --- the outcomes -------------------------------------------------------------------------------------------------------


def lost(exitcode: int, signal_name: str | None, function: str) -> Callable[[BaseException], None]:
    def check(error: BaseException) -> None:
        assert isinstance(error, WorkerLostError)
        assert (error.exitcode, error.signal) == (exitcode, signal_name)
        assert error.pid
        assert function in str(error)

    return check


def raises(kind: type[BaseException], *words: str) -> Callable[[BaseException], None]:
    """An exception of that kind; the words are in it, or in the remote traceback, which is its cause."""

    def check(error: BaseException) -> None:
        assert type(error) is kind
        told = f"{error} {error.__cause__}"
        for word in words:
            assert word in told

    return check


def call(function: Callable[..., Any], *args: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    return function, args


KILLED = (-signal.SIGKILL, "SIGKILL")
CRASHED = (-signal.SIGSEGV, "SIGSEGV")

TASKS = [
    Case("killed", call(tasks.die_of, "SIGKILL"), lost(*KILLED, "die_of")),
    Case("crashed", call(tasks.die_of, "SIGSEGV"), lost(*CRASHED, "die_of")),
    Case("left", call(tasks.die_of, 3), lost(3, None, "die_of")),
    Case(
        "becomes another program",
        call(tasks.become, "sleep", "60"),
        lost(*KILLED, "become, and put another program in its place"),
    ),
    Case("raises SystemExit", call(tasks.leave, 5), raises(SystemExit, "Traceback", "in leave")),
    Case("raises KeyboardInterrupt", call(tasks.interrupt), raises(KeyboardInterrupt, "Traceback", "in interrupt")),
    Case("raises ValueError", call(tasks.fail, "so"), raises(ValueError, "Traceback", "in fail", "so")),
    Case(
        "is given what cannot be loaded",
        call(tasks.pid_of_worker, tasks.LoadsNowhere()),
        raises(RuntimeError, "Traceback", "in refuse", "not to be loaded"),
    ),
    Case(
        "is given what kills whoever loads it",
        call(tasks.pid_of_worker, tasks.KillsWhoLoadsIt()),
        lost(*CRASHED, "pid_of_worker"),
    ),
    Case(
        "returns what cannot be loaded",
        call(tasks.make_what_cannot_be_loaded),
        raises(RuntimeError, "not to be loaded"),
    ),
    Case(
        "returns what cannot be pickled",
        call(tasks.return_what_cannot_be_pickled),
        raises(MaybeEncodingError, "lock"),
    ),
    Case(
        "raises what cannot be pickled",
        call(tasks.raise_what_cannot_be_pickled),
        raises(MaybeEncodingError, "the reason", "in raise_what_cannot_be_pickled"),
    ),
    Case(
        "raises what cannot be loaded",
        call(tasks.raise_what_cannot_be_loaded),
        raises(MaybeEncodingError, "NeedsTwoError", "in raise_what_cannot_be_loaded"),
    ),
]


@each(TASKS)
def test_a_task_among_twenty_others_fails_alone_if_it(case: Case, method: str, lasting_pool: Pool) -> None:  # noqa: ARG001
    function, arguments = case.act
    results = [
        lasting_pool.apply_async(function, arguments) if i == 7 else lasting_pool.apply_async(tasks.double, (i,))
        for i in range(21)
    ]
    case.outcome(raised_by(lambda: results.pop(7).get(SECONDS)))
    assert [result.get(SECONDS) for result in results] == [2 * i for i in range(21) if i != 7]
    with pytest.raises(type(raised_by(lambda: lasting_pool.apply(function, arguments)))):
        lasting_pool.map(tasks.call, [(function, arguments)])
    assert lasting_pool.map(tasks.double, range(5)) == [0, 2, 4, 6, 8]


# --- map and imap, with and without chunks -----------------------------------------------------------------------------


def map_fails(pool: Pool) -> None:
    with pytest.raises(WorkerLostError, match=r"double_or_die \(item"):
        pool.map(tasks.double_or_die, [1, 2, "SIGKILL", *range(30)], chunksize=1)


def imap_goes_on(pool: Pool, **options: int) -> None:
    items = [*range(7), "exit 3", *range(8, 21)]
    results = pool.imap(tasks.double_or_die, items, **options)
    values = [raised_by_or_value(results) for _ in items]
    assert isinstance(values.pop(7), WorkerLostError)
    assert values == [2 * i for i in range(21) if i != 7]
    with pytest.raises(StopIteration):
        results.next(SECONDS)


def raised_by_or_value(results: Any) -> Any:
    try:
        return results.next(SECONDS)
    except WorkerLostError as error:
        return error


def imap_in_one_chunk_goes_on(pool: Pool) -> None:
    imap_goes_on(pool, chunksize=21)


def a_long_chunk_goes_on(pool: Pool) -> None:
    items = [*range(2000), "SIGKILL", *range(2001, 5000)]
    results = pool.imap(tasks.double_or_die, items, chunksize=len(items))
    values = [raised_by_or_value(results) for _ in items]
    assert [i for i, value in enumerate(values) if isinstance(value, WorkerLostError)] == [2000]
    del values[2000]
    assert values == [2 * i for i in range(5000) if i != 2000]


def unordered_goes_on(pool: Pool) -> None:
    items = [*range(7), "SIGKILL", *range(8, 21)]
    results = pool.imap_unordered(tasks.double_or_die, items, chunksize=3)
    values = [raised_by_or_value(results) for _ in items]
    assert sorted(value for value in values if isinstance(value, int)) == [2 * i for i in range(21) if i != 7]


def one_that_cannot_be_loaded_fails_alone(pool: Pool) -> None:
    items = [1, 2, tasks.LoadsNowhere(), 4, 5, 6, tasks.LoadsNowhere()]
    for results in (pool.imap(tasks.double, items, chunksize=5), pool.imap(tasks.double, iter(items), chunksize=7)):
        values = [value_or_kind(results) for _ in items]
        assert values == [2, 4, RuntimeError, 8, 10, 12, RuntimeError]
        with pytest.raises(StopIteration):
            results.next(SECONDS)


ITERATIONS = [
    Case("map fails with it", map_fails),
    Case("imap goes on after it", imap_goes_on),
    Case("imap in one chunk goes on after it", imap_in_one_chunk_goes_on),
    Case("a chunk of thousands goes on after it", a_long_chunk_goes_on),
    Case("imap_unordered goes on after it", unordered_goes_on),
    Case("imap in chunks goes on after one that cannot be loaded", one_that_cannot_be_loaded_fails_alone),
]


@each(ITERATIONS)
def test_a_death_costs_its_item(case: Case, method: str, lasting_pool: Pool) -> None:  # noqa: ARG001
    case.act(lasting_pool)
    assert lasting_pool.map(tasks.double, range(5)) == [0, 2, 4, 6, 8]


# --- workers that were not asked to do anything -------------------------------------------------------------------------


def kill_one(pool: Pool) -> list[Any]:
    return list(pool._pool)[:1]


def kill_all(pool: Pool) -> list[Any]:
    return list(pool._pool)


@each([Case("one idle worker", kill_one), Case("all idle workers", kill_all)])
def test_queued_work_arrives_after_the_death_of(case: Case, method: str, lasting_pool: Pool) -> None:  # noqa: ARG001
    assert lasting_pool.apply(tasks.double, (1,)) == 2
    for process in case.act(lasting_pool):
        process.kill()
        process.join()
    assert lasting_pool.map(tasks.double, range(10), chunksize=1) == [2 * i for i in range(10)]


@each([Case("two tasks", None)])
def test_all_workers_killed_at_work_cost(case: Case, method: str, lasting_pool: Pool) -> None:  # noqa: ARG001
    results = [lasting_pool.apply_async(tasks.pid_after, (0.05,)) for _ in range(20)]
    first = results[0].get(SECONDS)
    assert first in [process.pid for process in lasting_pool._pool]
    for process in list(lasting_pool._pool):
        process.kill()
    outcomes = [outcome(result) for result in results]
    assert sum(isinstance(got, WorkerLostError) for got in outcomes) <= 2


def outcome(result: Any) -> Any:
    try:
        return result.get(SECONDS)
    except WorkerLostError as error:
        return error


# Often, but not so often that no worker lives to become ready: that breaks a pool in the end (see RestartLimit).
PAUSES = {"fork": 0.05, "forkserver": 0.05, "spawn": 1.0}


@pytest.mark.limit(120)
@each([Case("what they ran", None)])
def test_workers_killed_every_now_and_then_cost(case: Case, method: str, lasting_pool: Pool) -> None:  # noqa: ARG001
    results = [lasting_pool.apply_async(tasks.pid_after, (0.002,)) for _ in range(600)]
    over = threading.Event()
    kills: list[int] = []

    def kill_one_by_one() -> None:
        while not over.wait(PAUSES[method]):
            for process in list(lasting_pool._pool)[:1]:
                process.kill()
                kills.append(process.pid)

    killer = threading.Thread(target=kill_one_by_one)
    killer.start()
    try:
        outcomes = [outcome(result) for result in results]
    finally:
        over.set()
        killer.join()
    errors = [got for got in outcomes if isinstance(got, WorkerLostError)]
    assert len(errors) <= len(kills)
    assert {error.pid for error in errors} <= set(kills)
    assert all(isinstance(got, int) and got != os.getpid() for got in outcomes if got not in errors)


# --- what cannot be sent ------------------------------------------------------------------------------------------------


def raised_at_the_call(pool: Pool) -> None:
    with pytest.raises(TypeError, match="lock") as caught:
        pool.apply(tasks.double, ([threading.Lock()],))
    assert any(note.startswith("args[0][0]") for note in caught.value.__notes__)
    with pytest.raises(TypeError, match="lock"):
        pool.map(tasks.double, [threading.Lock()] * 3)
    assert not pool._cache


def given_to_the_result(pool: Pool) -> None:
    told: list[BaseException] = []
    single = pool.apply_async(tasks.double, (threading.Lock(),), error_callback=told.append)
    many = pool.map_async(tasks.double, [1, threading.Lock()], chunksize=1)
    for result in (single, many):
        with pytest.raises(TypeError, match="lock"):
            result.get(SECONDS)
    assert [type(error) for error in told] == [TypeError]


def given_to_the_item(pool: Pool) -> None:
    results = pool.imap(tasks.double, [1, threading.Lock(), 3])
    assert results.next(SECONDS) == 2
    with pytest.raises(TypeError, match="lock"):
        results.next(SECONDS)
    assert results.next(SECONDS) == 6


def given_to_the_item_of_a_chunk(pool: Pool) -> None:
    results = pool.imap(tasks.double, [1, 2, threading.Lock(), 4, threading.Lock(), 6, 7], chunksize=5)
    values = [value_or_kind(results) for _ in range(7)]
    assert values == [2, 4, TypeError, 8, TypeError, 12, 14]
    with pytest.raises(StopIteration):
        results.next(SECONDS)


def value_or_kind(results: Any) -> Any:
    try:
        return results.next(SECONDS)
    except Exception as error:  # noqa: BLE001 - compared with what was expected
        return type(error)


UNSENDABLE = [
    Case("raised at the call by apply and map", raised_at_the_call),
    Case("given to the result by apply_async and map_async", given_to_the_result),
    Case("given to its item by imap", given_to_the_item),
    Case("given to its item by imap in chunks", given_to_the_item_of_a_chunk),
]


@each(UNSENDABLE)
def test_what_cannot_be_pickled_is(case: Case, method: str, lasting_pool: Pool) -> None:  # noqa: ARG001
    case.act(lasting_pool)
    assert lasting_pool.apply(tasks.double, (2,)) == 4
