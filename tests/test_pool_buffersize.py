"""How far ``imap`` reads ahead: never further than was allowed, and what becomes of the rest when the pool is closed."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING, Any

import pytest

import shoal
from shoal._pool.feeding import BUFFER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shoal.pool import Pool

SECONDS = 20


class Input:
    """Numbers without an end, which knows how many have been taken from it."""

    def __init__(self) -> None:
        self.given = 0
        self.came = threading.Condition()

    def __iter__(self) -> Iterator[int]:
        for number in itertools.count():
            with self.came:
                self.given = number + 1
                self.came.notify_all()
            yield number

    def wait_for(self, count: int) -> None:
        with self.came:
            assert self.came.wait_for(lambda: self.given >= count, SECONDS), f"only {self.given} were read"


@pytest.fixture(params=["imap", "imap_unordered"])
def method(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize(
    ("options", "ahead"),
    [
        ({"buffersize": 1}, 1),
        ({"buffersize": 3}, 3),
        ({"buffersize": 300}, 300),
        ({"buffersize": 2, "chunksize": 5}, 10),
        ({"buffersize": 1, "chunksize": 7}, 7),
        ({}, BUFFER),
        ({"chunksize": 10}, BUFFER),
    ],
)
def test_no_more_is_read_than_may_be_ahead_of_what_was_taken(
    pool: Pool, method: str, options: dict[str, int], ahead: int
):
    inputs = Input()
    results = getattr(pool, method)(abs, inputs, **options)
    taken = []
    for _ in range(3):
        # All the workers do is done long before; so much is read, and stays read, until something is taken.
        inputs.wait_for(len(taken) + ahead - ahead // 2 - options.get("chunksize", 1) + 1)
        for _ in range(20):
            assert inputs.given <= len(taken) + ahead
            taken.append(results.next(SECONDS))
    assert len(set(taken)) == 60
    if method == "imap":
        assert taken == list(range(60))


def test_a_small_buffer_is_filled_again_with_each_result_taken(pool: Pool, method: str):
    inputs = Input()
    results = getattr(pool, method)(abs, inputs, buffersize=4)
    for taken in range(1, 30):
        inputs.wait_for(taken - 1 + 4)
        results.next(SECONDS)


def test_sequences_are_bounded_as_well(pool: Pool, method: str):
    seen = getattr(pool, method)(abs, range(10**12), buffersize=5)
    assert sorted(next(seen) for _ in range(100))[:50] == list(range(50))


def test_joining_ends_a_bounded_input_and_keeps_what_was_read(pool: Pool, method: str):
    inputs = Input()
    results = getattr(pool, method)(abs, inputs, buffersize=4)
    taken = [results.next(SECONDS) for _ in range(10)]
    pool.close()
    pool.join()
    taken += results
    assert len(taken) <= inputs.given <= 14
    assert sorted(taken) == list(range(len(taken)))


def test_joining_works_off_an_input_whose_buffer_was_not_asked_for(pool: Pool, method: str):
    results = getattr(pool, method)(abs, (number for number in range(3 * BUFFER)))
    pool.close()
    pool.join()
    assert sorted(results) == list(range(3 * BUFFER))


def test_closing_leaves_the_consumer_in_peace(pool: Pool, method: str):
    results = getattr(pool, method)(abs, (number for number in range(100)), buffersize=2)
    pool.close()
    assert sorted(results) == list(range(100))
    pool.join()


@pytest.mark.parametrize(("wrong", "error"), [(0, ValueError), (-1, ValueError), ("3", TypeError), (1.5, TypeError)])
def test_a_size_that_is_none_is_refused(pool: Pool, method: str, wrong: Any, error: type[Exception]):
    with pytest.raises(error, match="buffersize must be"):
        getattr(pool, method)(abs, [1], buffersize=wrong)
    with pytest.raises(TypeError, match="positional"):
        getattr(pool, method)(abs, [1], 1, 2)


class LoadsNowhere:
    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("no number",)


def bad_every_hundredth(number: int) -> Any:
    return LoadsNowhere() if number % 100 == 0 else number


# A whole report of outcomes fails for the one in it that cannot be loaded: more of them than are read ahead, so that uncounted ones would end the reading.
@pytest.mark.parametrize("chunksize", [300, 2 * BUFFER])
def test_outcomes_that_cannot_be_loaded_count_as_taken(chunksize: int, method: str) -> None:
    count = 3 * BUFFER
    with shoal.get_context("fork").Pool(1) as pool:
        outcomes = getattr(pool, method)(bad_every_hundredth, range(count), chunksize=chunksize)
        good, bad = [], 0
        for _ in range(count):
            try:
                good.append(outcomes.next(SECONDS))
            except ValueError:
                bad += 1
        with pytest.raises(StopIteration):
            outcomes.next(SECONDS)
    assert good == sorted(set(good))
    assert bad >= count // 100
    assert not any(number % 100 == 0 for number in good)
