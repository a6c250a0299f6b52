"""``Pool``: a task that fails is reported whole, where it belongs, and costs nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from contract_children import tasks
from contract_children.waiting import LONG

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.pool import Pool

    from contract_children.instances import Instance


pytestmark = pytest.mark.threads_too


def assert_remote(error: BaseException, *words: str) -> None:
    """Its cause shows the traceback of where it was raised."""
    assert "Traceback" in str(error.__cause__)
    for word in ("contract_children", *words):
        assert word in str(error.__cause__)


@pytest.mark.processes_only("nothing is pickled for a thread")
def test_an_exception_arrives_whole_with_the_traceback_from_the_worker(pool: Pool):
    for call in (
        lambda: pool.apply(tasks.fail, (7,)),
        lambda: pool.apply_async(tasks.fail, (7,)).get(LONG),
        lambda: pool.map(tasks.fail, [7]),
        lambda: pool.map_async(tasks.fail, [7]).get(LONG),
        lambda: pool.starmap(tasks.fail, [(7,)]),
        lambda: next(pool.imap(tasks.fail, [7])),
        lambda: next(pool.imap(tasks.fail, [7], chunksize=2)),
        lambda: next(pool.imap_unordered(tasks.fail, [7])),
    ):
        with pytest.raises(tasks.TaskError) as caught:
            call()
        assert (caught.value.args, caught.value.number) == ((7,), 7)
        assert_remote(caught.value, "in fail", "raise TaskError(number)")
    with pytest.raises(LookupError) as caught_outer:
        pool.apply(tasks.fail_because_of_another, (7,))
    assert_remote(caught_outer.value, "TaskError: 7", "direct cause", "LookupError: outer")
    assert pool.apply(tasks.square, (2,)) == 4


def test_a_failed_task_fails_its_map_and_nothing_else(pool: Pool):
    with pytest.raises(tasks.TaskError) as caught:
        pool.map(tasks.fail_if_odd, [0, 2, 4, 5, 6], chunksize=1)
    assert caught.value.number == 5
    result = pool.map_async(tasks.fail_if_odd, range(10))
    other = pool.map_async(tasks.square, range(10))
    result.wait(LONG)
    assert (result.ready(), result.successful()) == (True, False)
    assert other.get(LONG) == [number * number for number in range(10)]


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
def test_a_failed_item_does_not_end_the_iterator(pool: Pool, method: str):
    results = getattr(pool, method)(tasks.fail_if_odd, range(6))
    outcomes: list[Any] = []
    for _ in range(6):
        try:
            outcomes.append(results.next(LONG))
        except tasks.TaskError as error:
            outcomes.append(-error.number)
    assert (outcomes if method == "imap" else sorted(outcomes, key=abs)) == [0, -1, 2, -3, 4, -5]
    with pytest.raises(StopIteration):
        next(results)


def test_an_input_that_fails_is_reported_where_it_stands(pool: Pool):
    def inputs() -> Iterator[int]:
        yield 1
        yield 2
        raise LookupError("no more inputs")

    with pytest.raises(LookupError, match="no more inputs"):
        pool.map(tasks.square, inputs())
    results = pool.imap(tasks.square, inputs())
    assert [results.next(LONG), results.next(LONG)] == [1, 4]
    with pytest.raises(LookupError, match="no more inputs"):
        results.next(LONG)
    unordered = pool.imap_unordered(tasks.square, inputs())
    outcomes: list[Any] = []
    for _ in range(3):
        try:
            outcomes.append(unordered.next(LONG))
        except LookupError as error:
            outcomes.append(str(error))
    assert sorted(outcomes, key=str) == [1, 4, "no more inputs"]
    with pytest.raises(TypeError):
        pool.map(tasks.square, 3)
    assert pool.apply(tasks.square, (3,)) == 9


@pytest.mark.processes_only("nothing is pickled for a thread")
def test_a_result_that_cannot_be_pickled_is_a_maybe_encoding_error(pool: Pool, instance: Instance):
    kind = instance.module("pool").MaybeEncodingError
    for call in (
        lambda: pool.apply(tasks.unpicklable),
        lambda: pool.apply_async(tasks.unpicklable).get(LONG),
        lambda: pool.map(tasks.unpicklable, [1]),
        lambda: pool.map(tasks.unpicklable_if_odd, range(4), chunksize=1),
        lambda: next(pool.imap(tasks.unpicklable, [1])),
        lambda: next(pool.imap_unordered(tasks.unpicklable, [1])),
    ):
        with pytest.raises(kind) as caught:
            call()
        assert "lock" in caught.value.value
        assert "cannot pickle '_thread.lock' object" in caught.value.exc
        assert caught.value.exc in str(caught.value)
    with pytest.raises(kind) as caught:
        pool.map(tasks.unpicklable, [1])
    assert caught.value.value.startswith("[<"), "the results of the chunk, and nothing of how they travel"
    assert pool.map(tasks.square, range(3)) == [0, 1, 4], "the workers go on"


@pytest.mark.processes_only("nothing is pickled for a thread")
def test_an_exception_that_cannot_be_pickled_is_a_maybe_encoding_error(pool: Pool, instance: Instance):
    kind = instance.module("pool").MaybeEncodingError
    failed: list[Any] = []
    with pytest.raises(kind) as caught:
        pool.apply_async(tasks.fail_unpicklably, error_callback=failed.append).get(LONG)
    assert "cannot pickle '_thread.lock' object" in caught.value.exc
    assert [type(error) for error in failed] == [kind]
    assert pool.apply(tasks.square, (3,)) == 9
