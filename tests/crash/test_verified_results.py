"""A pool that verifies results: what cannot be loaded, or kills whoever loads it, costs its own item, and the application lives on.

The pools here live through many cases: that a pool works on is shown by the next one.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import handed_over
import pool_tasks as tasks
import pytest
from crash_table import SECONDS, Case, each, raised_by
from test_pool_deaths import CRASHED, TASKS, call, lost, raises
from test_pool_own_queues import OwnQueues

import shoal
from shoal.errors import WorkerLostError
from shoal.pool import MaybeEncodingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

POOL_OPTIONS = {"verify_results": True}

# --- one by one ---------------------------------------------------------------------------------------------------------

VERIFIED = [
    Case("returns what crashes whoever loads it", call(tasks.make, "crashes"), lost(*CRASHED, "make")),
    Case("returns what ends whoever loads it", call(tasks.make, "exits 3"), lost(3, None, "make")),
    Case(
        "returns what raises when it is loaded",
        call(tasks.make, "raises"),
        raises(RuntimeError, "not to be loaded", "Traceback", "in refuse"),
    ),
    Case(
        "returns what raises SystemExit when it is loaded",
        call(tasks.make, "leaves"),
        raises(SystemExit, "out of a pickle", "Traceback"),
    ),
    Case(
        "raises what crashes whoever loads it",
        call(tasks.raise_what_kills_whoever_loads_it),
        lost(*CRASHED, "raise_what_kills_whoever_loads_it"),
    ),
    Case(
        "returns what raises an exception that cannot be loaded either",
        call(tasks.make, "defies"),
        raises(MaybeEncodingError, "DefiantError"),
    ),
    Case(
        "raises what is raised again by its loading",
        call(tasks.defy),
        raises(MaybeEncodingError, "result: 'DefiantError"),
    ),
    *TASKS,
]


@each(VERIFIED)
def test_a_task_among_twenty_others_fails_alone_if_it(case: Case, method: str, lasting_pool: Any) -> None:  # noqa: ARG001
    function, arguments = case.act
    results = [
        lasting_pool.apply_async(function, arguments)
        if i == 7
        else lasting_pool.apply_async(tasks.plain_or_pickled, (i,))
        for i in range(21)
    ]
    case.outcome(raised_by(lambda: results.pop(7).get(SECONDS)))
    assert [result.get(SECONDS) for result in results] == [i for i in range(21) if i != 7]
    case.outcome(raised_by(lambda: lasting_pool.apply(function, arguments)))


# --- map and imap, with and without chunks -----------------------------------------------------------------------------

BAD = {4: "crashes", 5: "raises", 9: "exits 3", 10: "leaves", 13: "defies", 20: "raises"}
KINDS = {
    "crashes": WorkerLostError,
    "exits 3": WorkerLostError,
    "raises": RuntimeError,
    "leaves": SystemExit,
    "defies": MaybeEncodingError,
}


def with_bad_ones(count: int) -> list[Any]:
    return [BAD.get(i, i) for i in range(count)]


def wanted(items: Iterable[Any]) -> list[Any]:
    return [KINDS.get(item, item) for item in items]


def outcomes_of(results: Any, count: int) -> list[Any]:
    found = []
    for _ in range(count):
        try:
            found.append(results.next(SECONDS))
        except tuple(KINDS.values()) as error:
            found.append(type(error))
    with pytest.raises(StopIteration):
        results.next(SECONDS)
    return found


def imap_by(chunksize: int) -> Callable[[Any], None]:
    def act(pool: Any) -> None:
        items = with_bad_ones(21)
        assert outcomes_of(pool.imap(tasks.plain_or_pickled, items, chunksize), 21) == wanted(items)

    return act


def unordered_by(chunksize: int) -> Callable[[Any], None]:
    def act(pool: Any) -> None:
        items = with_bad_ones(21)
        found = outcomes_of(pool.imap_unordered(tasks.plain_or_pickled, items, chunksize), 21)
        assert sorted(map(str, found)) == sorted(
            str(complex(item) if isinstance(item, int) and item % 2 == 0 else item) for item in wanted(items)
        )

    return act


def a_long_chunk_goes_on(pool: Any) -> None:
    items: list[Any] = [2 * i + 1 for i in range(5000)]  # outcomes are plain, and many wait to be published together
    items[1000], items[2000], items[3000:3005] = "crashes", "raises", [2, 4, 6, "exits 3", 8]
    assert outcomes_of(pool.imap(tasks.plain_or_pickled, items, len(items)), len(items)) == wanted(items)


def map_fails(pool: Any) -> None:
    for what, error in KINDS.items():
        for chunksize in (1, 10, None):
            caught = raised_by(
                lambda what=what, size=chunksize: pool.map(tasks.plain_or_pickled, [1, 2, what, *range(30)], size)
            )
            assert isinstance(caught, error)
        caught = raised_by(lambda what=what: pool.starmap(tasks.plain_or_pickled, [(1,), (what,), (2,)]))
        assert isinstance(caught, error)


def map_arrives(pool: Any) -> None:
    items = list(range(500))
    assert pool.map(tasks.plain_or_pickled, items) == items
    assert pool.starmap(tasks.plain_or_pickled, [(i,) for i in items], chunksize=50) == items


ITERATIONS = [
    Case("imap goes on after them", imap_by(1)),
    Case("imap in chunks goes on after them", imap_by(6)),
    Case("imap in one chunk goes on after them", imap_by(21)),
    Case("imap_unordered goes on after them", unordered_by(1)),
    Case("imap_unordered in chunks goes on after them", unordered_by(6)),
    Case("a chunk of thousands goes on after them", a_long_chunk_goes_on),
    Case("map and starmap fail with one", map_fails),
    Case("map and starmap without one arrive", map_arrives),
]


@each(ITERATIONS)
def test_of_results_that_are_loaded_badly(case: Case, method: str, lasting_pool: Any) -> None:  # noqa: ARG001
    case.act(lasting_pool)
    assert lasting_pool.map(tasks.double, range(5)) == [0, 2, 4, 6, 8]


# --- what can be loaded only once ---------------------------------------------------------------------------------------


def received(end: Any) -> Any:
    with end:
        return end.recv(4) if isinstance(end, socket.socket) else end.recv()


HANDED_OVER = [
    Case("a pipe", handed_over.pipe, lambda end: received(end) == "sent"),
    Case("a socket", handed_over.connected_socket, lambda end: received(end) == b"sent"),
    Case("a queue", handed_over.filled_queue, lambda queue: queue.get() == "sent"),
    Case("what is taken from a queue by being loaded", handed_over.first_of_two, lambda came: came == ("sent", False)),
    Case("a Value", handed_over.shared_number, lambda number: number.value == 7),
]


@each(HANDED_OVER)
def test_what_is_handed_over_arrives(case: Case, method: str, lasting_pool: Any) -> None:  # noqa: ARG001
    assert case.outcome(lasting_pool.apply(case.act))
    results = lasting_pool.imap(tasks.call, [(case.act, ()), (tasks.make, ("raises",))], chunksize=2)
    assert case.outcome(results.next(SECONDS))
    assert isinstance(raised_by(lambda: results.next(SECONDS)), RuntimeError)


@each([Case("a socket", None)])
def test_an_exception_hands_over(case: Case, method: str, lasting_pool: Any) -> None:  # noqa: ARG001
    caught = raised_by(lambda: lasting_pool.apply(handed_over.raise_with_a_socket))
    assert received(caught.args[0]) == b"sent"


@each([Case("is loaded once", None)])
def test_what_others_have_registered_with_the_pickler(
    case: Case,  # noqa: ARG001
    method: str,  # noqa: ARG001
    lasting_pool: Any,
    tmp_path: Path,
) -> None:
    assert lasting_pool.apply(handed_over.noted, (str(tmp_path / "note"),)) == "noted"


@each([Case("small", 10), Case("sent beside the pickle", 100_000)])
def test_a_trial_leaves_an_array_as_it_is(case: Case, method: str, lasting_pool: Any) -> None:  # noqa: ARG001
    assert lasting_pool.apply(handed_over.ones_doubled, (case.act,)).tolist() == [2.0] * case.act


# --- the option itself --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [None, 1, "yes"])
def test_the_option_is_a_bool(wrong: Any) -> None:
    with pytest.raises(TypeError, match="verify_results must be a bool, not"):
        shoal.Pool(1, verify_results=wrong)


def test_queues_of_ones_own_are_refused() -> None:
    with pytest.raises(ValueError, match="verify_results: not over queues"):
        OwnQueues(1, verify_results=True)
