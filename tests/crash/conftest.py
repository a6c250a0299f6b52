"""What the crash tests share: where they find each other, a start method's context, and pools that live through many of them."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

# Spawned children import the functions that they run; they are given this process's sys.path.
sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent))

import pool_tasks
from crash_table import SECONDS

import shoal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


HERE = Path(__file__).parent

# Pools replace their workers from a thread, and what a child inherits of it is nothing that a test waits for.
FORK_WITH_THREADS = "ignore:.*multi-threaded, use of fork:DeprecationWarning"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings(FORK_WITH_THREADS))


@pytest.fixture
def context(method: str) -> Any:
    return shoal.get_context(method)


class LastingPools:
    """One pool of two workers for each start method, for as long as tests ask for it; its workers may outlive a test."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self._pools: dict[str, Any] = {}

    def pool(self, method: str) -> Any:
        for other in set(self._pools) - {method}:
            self.end(other)
        if method not in self._pools:
            self._pools[method] = shoal.get_context(method).Pool(2, **self._options)
        return self._pools[method]

    def pids(self) -> set[int]:
        """Of the workers of all pools. One that does not work any more is ended; the next test gets another."""
        for method, pool in list(self._pools.items()):
            try:
                assert pool.map_async(pool_tasks.double, range(4), chunksize=1).get(SECONDS) == [0, 2, 4, 6]
                while len(pool._pool) < 2:  # one is just being replaced; the watchdog counts
                    time.sleep(0.01)
            except Exception:
                self.end(method)
                raise
        return {process.pid for pool in self._pools.values() for process in list(pool._pool)}

    def end(self, method: str) -> None:
        pool = self._pools.pop(method)
        pool.terminate()
        pool.join()


@pytest.fixture(scope="module")
def lasting_pools(request: pytest.FixtureRequest, keepers: list[Callable[[], set[int]]]) -> Iterator[LastingPools]:
    pools = LastingPools(getattr(request.module, "POOL_OPTIONS", {}))
    keepers.append(pools.pids)
    yield pools
    keepers.remove(pools.pids)
    for method in list(pools._pools):
        pools.end(method)


@pytest.fixture
def lasting_pool(method: str, lasting_pools: LastingPools) -> Any:
    return lasting_pools.pool(method)
