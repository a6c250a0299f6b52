"""A pool in a child that somebody has forked, by whatever way: it is the parent's, in the child it refuses."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

# Spawned workers import the functions that they run.
sys.path.insert(0, str(Path(__file__).parent))

import pool_tasks

import shoal
from shoal import pool
from shoal.errors import PoolTerminatedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECONDS = 20
METHODS = ("fork", "spawn", "forkserver", "threads")

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


@pytest.fixture(params=METHODS)
def a_pool(request: pytest.FixtureRequest) -> Iterator[Any]:
    method = request.param
    made = pool.ThreadPool(2) if method == "threads" else shoal.get_context(method).Pool(2)
    with made:
        yield made


def in_a_forked_child(check: Callable[[], object]) -> None:
    """Make a check in a child of ``os.fork``, for whose end there is a bound."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        said = b"no answer"
        try:
            # In a thread, so that one that hangs is not waited for.
            thread = threading.Thread(target=lambda: answers.append(told(check)), daemon=True)
            answers: list[bytes] = []
            thread.start()
            thread.join(SECONDS)
            said = answers[0] if answers else b"it hangs"
        finally:
            os.write(writer, said)
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        said = stream.read()
    os.waitpid(pid, 0)
    assert said == b"as it should be", said.decode()


def told(check: Callable[[], object]) -> bytes:
    try:
        check()
    except BaseException:  # noqa: BLE001 - whatever it is, the parent is told
        return traceback.format_exc().encode()[-4000:]
    return b"as it should be"


def test_a_pool_takes_no_work_in_a_forked_child_and_goes_on_in_the_parent(a_pool: Any) -> None:
    def check() -> None:
        for call in (a_pool.apply, a_pool.apply_async):
            with pytest.raises(ValueError, match="Pool not running"):
                call(pool_tasks.double, (1,))
        for call in (a_pool.map, a_pool.map_async, a_pool.imap, a_pool.imap_unordered):
            with pytest.raises(ValueError, match="Pool not running"):
                call(pool_tasks.double, [1])

    assert a_pool.map(pool_tasks.double, range(4)) == [0, 2, 4, 6]
    in_a_forked_child(check)
    assert a_pool.map(pool_tasks.double, range(4)) == [0, 2, 4, 6]


def test_what_is_outstanding_fails_in_a_forked_child_and_arrives_in_the_parent(a_pool: Any) -> None:
    count = 50
    gate = shoal.Event()  # what is handed in after these two is still to be done when the child is forked
    held = [a_pool.apply_async(gate.wait, (SECONDS,)) for _ in range(2)]
    results = [a_pool.apply_async(pool_tasks.double, (number,)) for number in range(count)]
    mapped, streamed = a_pool.map_async(pool_tasks.double, range(count)), a_pool.imap(pool_tasks.double, range(count))

    def check() -> None:
        for result in (*results, mapped):
            with pytest.raises(PoolTerminatedError, match="belongs to the parent"):
                result.get(SECONDS)
        with pytest.raises(PoolTerminatedError, match="belongs to the parent"):
            list(streamed)

    in_a_forked_child(check)
    gate.set()
    assert [one.get(SECONDS) for one in held] == [True, True]
    assert [result.get(SECONDS) for result in results] == list(range(0, 2 * count, 2))
    assert mapped.get(SECONDS) == list(range(0, 2 * count, 2))
    assert list(streamed) == list(range(0, 2 * count, 2))


@pytest.mark.parametrize("end", ["close", "terminate", "__exit__"])
def test_a_pool_that_is_ended_in_a_forked_child_goes_on_in_the_parent(a_pool: Any, end: str) -> None:
    result = a_pool.map_async(pool_tasks.double, range(4), chunksize=1)

    def check() -> None:
        getattr(a_pool, end)(*(None, None, None) if end == "__exit__" else ())

    in_a_forked_child(check)
    assert result.get(SECONDS) == [0, 2, 4, 6]
    assert a_pool.map(pool_tasks.double, range(4)) == [0, 2, 4, 6]
