"""What becomes of an ``imap`` whose iterator nobody has any more: its work is done, as with the standard library, and it is forgotten."""

from __future__ import annotations

import gc
import itertools
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

import shoal
from shoal._pool.feeding import BUFFER
from shoal.pool import ThreadPool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECONDS = 20
ITEMS = 2 * BUFFER + 100

INPUTS: dict[str, Callable[[], Any]] = {
    "a sequence": lambda: range(ITEMS),
    "a generator": lambda: (number for number in range(ITEMS)),
}


@pytest.fixture(params=["processes", "threads"])
def pool(request: pytest.FixtureRequest) -> Iterator[Any]:
    with shoal.get_context("fork").Pool(2) if request.param == "processes" else ThreadPool(2) as pool:
        yield pool


@pytest.fixture(params=["imap", "imap_unordered"])
def method(request: pytest.FixtureRequest) -> str:
    return request.param


def wait_until(said: Callable[[], bool]) -> None:
    """What is waited for has no event of its own."""
    end = time.monotonic() + SECONDS
    while not said():
        assert time.monotonic() < end
        time.sleep(0.005)


def forgotten(pool: Any) -> bool:
    return not pool._cache and not any(thread.name == "shoal-pool-feeder" for thread in threading.enumerate())


@pytest.mark.parametrize("taken", [0, 10])
@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("chunksize", [1, 50])
def test_all_items_are_worked_on(pool: Any, method: str, inputs: str, taken: int, chunksize: int):
    done = shoal.Semaphore(0)

    def work(_: int) -> None:
        done.release()

    results = getattr(pool, method)(work, INPUTS[inputs](), chunksize)
    for _ in range(taken):
        results.next(SECONDS)
    del results
    gc.collect()
    for _ in range(ITEMS):
        assert done.acquire(timeout=SECONDS)
    wait_until(lambda: forgotten(pool))


def test_it_is_seen_also_when_the_pool_had_stopped_reading_for_want_of_a_consumer(pool: Any, method: str):
    results = getattr(pool, method)(abs, range(ITEMS))
    source = pool._cache[results._job]._source
    wait_until(lambda: source.starved)
    del results
    wait_until(lambda: forgotten(pool))


@pytest.mark.parametrize("inputs", [itertools.count, lambda: range(10**12)])
def test_an_input_with_a_limit_that_was_asked_for_is_left(pool: Any, method: str, inputs: Callable[[], Any]):
    results = getattr(pool, method)(abs, inputs(), buffersize=5)
    results.next(SECONDS)
    del results
    wait_until(lambda: forgotten(pool))
    assert pool.apply(abs, (-1,)) == 1


def test_results_that_nobody_takes_are_not_kept(pool: Any):
    results = pool.imap(bytes, [1 << 16] * 64)
    for _ in range(64):
        assert len(results.next(SECONDS)) == 1 << 16
    results = pool.imap(bytes, [1 << 16] * 64)
    arrivals = pool._cache[results._job]
    del results
    wait_until(lambda: forgotten(pool))
    assert not arrivals._items
    assert not arrivals._unsorted


def test_an_iterator_in_a_cycle_may_be_collected_at_any_moment(pool: Any, method: str):
    for _ in range(20):
        cycle: list[Any] = [getattr(pool, method)(abs, range(100))]
        cycle.append(cycle)
        assert pool.map(abs, range(50)) == list(range(50))
    del cycle
    gc.collect()
    wait_until(lambda: forgotten(pool))
