"""What a pool has held is given back when the pool is: by whoever drops it last, not by the garbage collector, which may come late or never."""

from __future__ import annotations

import gc
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import pool_tasks as tasks
from own_queues import OwnQueues

import shoal
from shoal.pool import ThreadPool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROUNDS = 4


MAKERS: dict[str, Callable[[], Any]] = {
    "fork": lambda: shoal.get_context("fork").Pool(2),
    "spawn": lambda: shoal.get_context("spawn").Pool(2),
    "forkserver": lambda: shoal.get_context("forkserver").Pool(2),
    "own queues": lambda: OwnQueues(2, context=shoal.get_context("fork")),
    "threads": lambda: ThreadPool(2),
}


def close_and_join(pool: Any) -> None:
    pool.close()
    pool.join()


def terminate_and_join(pool: Any) -> None:
    pool.terminate()
    pool.join()


def leave(pool: Any) -> None:
    with pool:
        pass


def close_join_and_leave(pool: Any) -> None:
    with pool:
        close_and_join(pool)


def terminate_twice(pool: Any) -> None:
    pool.terminate()
    terminate_and_join(pool)


ENDS = (close_and_join, terminate_and_join, leave, close_join_and_leave, terminate_twice)


@pytest.fixture(params=MAKERS)
def make(request: pytest.FixtureRequest) -> Iterator[Callable[[], Any]]:
    """Make pools that nobody clears up after."""
    maker = MAKERS[request.param]
    gc.collect()
    gc.disable()
    try:
        yield maker
    finally:
        gc.enable()


def descriptors() -> Counter[str]:
    """What is open, without the numbers, once it stays the same: threads of an ended pool close theirs a moment later."""
    before, now = Counter[str](), Counter({"none yet": 1})
    while now != before:
        before = now
        time.sleep(0.1)
        now = Counter()
        for entry in Path("/proc/self/fd").iterdir():
            with suppress(FileNotFoundError):  # the one of this very listing
                now[str(entry.readlink()).partition(":[")[0]] += 1
    return now


@pytest.mark.parametrize("end", ENDS)
def test_an_ended_pool_that_is_dropped_gives_its_descriptors_back(
    make: Callable[[], Any], end: Callable[[Any], None]
) -> None:
    def use() -> None:
        pool = make()
        assert pool.map(tasks.double, range(3)) == [0, 2, 4]
        end(pool)

    use()  # what is opened once, stays: the arena, the fork server
    before = descriptors()
    for _ in range(ROUNDS):
        use()
    assert not descriptors() - before


def test_so_it_does_after_every_kind_of_call(make: Callable[[], Any]) -> None:
    def use() -> None:
        with make() as pool:
            assert pool.apply_async(tasks.double, (3,), callback=id).get() == 6
            assert list(pool.imap(tasks.double, range(9), chunksize=2)) == list(range(0, 18, 2))
            assert sorted(pool.imap_unordered(tasks.double, iter(range(3)))) == [0, 2, 4]
            next(pool.imap(tasks.double, range(9)))
            pool.map_async(tasks.double, range(3)).wait()
            for bad in ([None, 0], [lambda: 0]):
                with suppress(Exception):
                    pool.map(tasks.double, bad)

    use()
    before = descriptors()
    for _ in range(ROUNDS):
        use()
    assert not descriptors() - before


@pytest.mark.parametrize("make", ["fork", "spawn", "forkserver"], indirect=True)
def test_results_that_outlive_their_pool_hold_none_of_its_processes(make: Callable[[], Any]) -> None:
    results = []

    def use(end: Callable[[Any], None]) -> None:
        pool = make()
        pool.map(tasks.double, range(3))
        results.append(pool.apply_async(tasks.double, (21,)))
        results[-1].wait()
        results.append(pool.imap(tasks.double, range(3)))
        assert next(results[-1]) == 0
        end(pool)

    use(leave)
    before = descriptors()
    for end in ENDS:
        use(end)
    assert not descriptors() - before
    assert [result.get() for result in results[::2]] == [42] * (len(ENDS) + 1)


def test_an_ended_pool_still_shows_its_workers(make: Callable[[], Any]) -> None:
    for end in ENDS:
        pool = make()
        pool.map(tasks.double, range(3))
        end(pool)
        pool.join()
        assert len(pool._pool) == 2
        assert "pool_size=2" in repr(pool)
        assert all(worker.exitcode is not None for worker in pool._pool)
        pool.terminate()
        pool.join()
