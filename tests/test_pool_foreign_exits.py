"""What is neither a result nor an ``Exception``: ``SystemExit`` and its kin out of iterables, pickles and exceptions; pools that are ended while they read."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

import shoal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shoal.pool import Pool

SECONDS = 20.0
EXITS = [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError]


@pytest.fixture
def processes() -> Iterator[Pool]:
    with shoal.get_context("fork").Pool(2) as pool:
        yield pool
    pool.join()


class Leaves:
    """Nobody can pickle it."""

    def __init__(self, kind: type[BaseException]) -> None:
        self.kind = kind

    def __reduce__(self) -> Any:
        raise self.kind("from __reduce__")

    def __repr__(self) -> str:
        return "Leaves()"


class LeavingError(Leaves, Exception):
    """Nor this exception."""


def same(thing: Any) -> Any:
    return thing


def leaves_if_one(number: int) -> Any:
    return Leaves(SystemExit) if number == 1 else number


def interrupts_if_one(number: int) -> Any:
    return Leaves(KeyboardInterrupt) if number == 1 else number


def fails(_: object) -> None:
    raise LeavingError(SystemExit)


def outcomes(results: Any) -> list[Any]:
    """All of them, exceptions by their class; an iteration that does not end fails."""
    found: list[Any] = []
    while len(found) < 100:
        try:
            found.append(results.next(SECONDS))
        except StopIteration:
            return found
        except shoal.TimeoutError:
            raise
        except BaseException as error:  # noqa: BLE001 - it is what is looked at
            found.append(type(error))
    raise AssertionError(found)


@pytest.mark.parametrize("kind", EXITS)
@pytest.mark.parametrize("chunksize", [1, 2])
@pytest.mark.parametrize("call", ["imap", "imap_unordered"])
def test_an_iterable_that_leaves_ends_the_iteration_with_that(
    pool: Pool, call: str, chunksize: int, kind: type[BaseException]
):
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise kind

    found = outcomes(getattr(pool, call)(same, items(), chunksize))
    assert found[-1:] == [kind] or call == "imap_unordered"
    assert kind in found
    if chunksize == 1:
        assert {1, 2} < set(found)
    assert pool.map(same, [1, 2]) == [1, 2]


@pytest.mark.parametrize("chunksize", [1, 2])
@pytest.mark.parametrize("call", ["imap", "imap_unordered"])
def test_an_item_whose_pickling_leaves_is_that_items_failure(processes: Pool, call: str, chunksize: int):
    found = outcomes(getattr(processes, call)(same, iter([1, 2, Leaves(SystemExit), 3, 4, 5]), chunksize))
    assert found.count(SystemExit) == 1
    assert {1, 2, 4, 5} < set(found)


@pytest.mark.parametrize("function", [leaves_if_one, interrupts_if_one])
def test_a_result_whose_pickling_leaves_is_that_tasks_failure(
    processes: Pool, function: Callable[[int], Any], capfd: pytest.CaptureFixture[str]
):
    workers = {worker.pid for worker in processes._pool}
    with pytest.raises(shoal.pool.MaybeEncodingError, match=r"Leaves\(\)"):
        processes.apply(function, (1,))
    with pytest.raises(shoal.pool.MaybeEncodingError, match=r"from __reduce__"):
        processes.map(function, range(20), 5)
    found = outcomes(processes.imap(function, range(20), 5))
    assert [one for one in found if one.__class__ is int] == [0, *range(2, 20)]
    assert {worker.pid for worker in processes._pool} == workers
    assert capfd.readouterr().err == ""


def test_an_exception_whose_pickling_leaves_is_told(processes: Pool):
    with pytest.raises(shoal.pool.MaybeEncodingError, match="from __reduce__") as caught:
        processes.apply(fails, (1,))
    assert "in fails" in str(caught.value.__cause__)


@pytest.mark.parametrize("end", ["close", "terminate"])
@pytest.mark.parametrize("call", ["map", "starmap", "map_async"])
@pytest.mark.parametrize("by", ["the iterable", "another thread"])
def test_a_pool_that_is_ended_while_a_map_reads_its_input_says_so(pool: Pool, call: str, end: str, by: str):
    def items() -> Iterator[Any]:
        yield (1,)
        if by == "the iterable":
            getattr(pool, end)()
        else:
            thread = threading.Thread(target=getattr(pool, end))
            thread.start()
            thread.join()
        yield (2,)

    with pytest.raises(ValueError, match="Pool not running"):
        getattr(pool, call)(same, items())
    pool.join()


def test_what_is_no_function_is_told(pool: Pool):
    nothing: Any = None
    for call in (
        lambda: pool.apply(nothing, (1,)),
        lambda: pool.map(nothing, range(4)),
        lambda: pool.map(nothing, range(4), 1),
        lambda: pool.starmap(nothing, [(1,)] * 4),
        lambda: list(pool.imap(nothing, range(4))),
        lambda: pool.apply_async(nothing).get(SECONDS),
    ):
        with pytest.raises(TypeError, match="'NoneType' object is not callable"):
            call()
    assert pool.map(same, [1, 2]) == [1, 2]
