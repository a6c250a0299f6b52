"""``Pool(verify_results=True)``: a result that cannot be loaded, or kills whoever loads it, is its item's affair."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pool_tasks as tasks
import pytest
from crash_table import SECONDS, Case, each, raised_by

import shoal
from shoal.errors import WorkerLostError
from shoal.pool import MaybeEncodingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shoal.pool import Pool


def is_lost(error: BaseException) -> None:
    assert isinstance(error, WorkerLostError)
    assert error.exitcode == -signal.SIGSEGV


def cannot_be_loaded(error: BaseException) -> None:
    assert isinstance(error, MaybeEncodingError)
    assert "not to be loaded in any process" in str(error)
    assert "in refuse" in str(error.__cause__), "the traceback of the trial"


RESULTS = [
    Case("kills whoever loads it", "kills", is_lost),
    Case("is an exception that kills whoever loads it", "raises what kills", is_lost),
    Case("cannot be loaded", "refuses", cannot_be_loaded),
]

# How results are asked for: each gives the outcome of item 7 of `items`, when it has seen that the others are there.
Asked = dict[str, "Callable[[Pool, list[Any]], BaseException]"]


def by_apply(pool: Pool, items: list[Any]) -> BaseException:
    results = [pool.apply_async(tasks.numbered_or, (item,)) for item in items]
    error = raised_by(lambda: results.pop(7).get(SECONDS))
    assert [result.get(SECONDS).number for result in results] == [item for item in items if isinstance(item, int)]
    return error


def by_imap(chunksize: int) -> Callable[[Pool, list[Any]], BaseException]:
    def ask(pool: Pool, items: list[Any]) -> BaseException:
        results = pool.imap(tasks.slowly_numbered_or, items, chunksize)
        for item in items[:7]:
            assert results.next(SECONDS).number == item
        error = raised_by(lambda: results.next(SECONDS))
        for item in items[8:]:
            assert results.next(SECONDS).number == item
        return error

    return ask


def by_map(pool: Pool, items: list[Any]) -> BaseException:
    return raised_by(lambda: pool.map(tasks.numbered_or, items, chunksize=5))


ASKED: Asked = {"apply": by_apply, "imap": by_imap(1), "imap in chunks": by_imap(20), "map": by_map}


@pytest.fixture
def pool(context: Any) -> Iterator[Pool]:
    with context.Pool(2, verify_results=True) as pool:
        yield pool


@pytest.mark.parametrize("asked", ASKED)
@each(RESULTS)
def test_a_result_among_others_fails_alone_if_it(case: Case, method: str, pool: Pool, asked: str) -> None:  # noqa: ARG001
    case.outcome(ASKED[asked](pool, [*range(7), case.act, *range(8, 20)]))
    assert pool.map(tasks.double, range(5)) == [0, 2, 4, 6, 8]


@each([Case("arrives", None)])
def test_what_can_be_loaded_once_only(case: Case, method: str, pool: Pool) -> None:  # noqa: ARG001
    receiver = pool.apply(tasks.end_of_a_pipe_with, ("a message",))
    assert receiver.recv() == "a message"
    sock = pool.apply(tasks.end_of_a_socket_pair_with, (b"bytes",))
    with sock:
        assert sock.recv(5) == b"bytes"


def test_what_is_neither_true_nor_false_is_refused() -> None:
    with pytest.raises(TypeError, match="verify_results must be True or False, not 'yes'"):
        shoal.Pool(1, verify_results="yes")  # type: ignore[arg-type]
