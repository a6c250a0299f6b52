"""Nobody who waits for a pool depends on the slices in which it looks after its workers: with slices of an hour everything still arrives."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import shoal
from shoal._pool import collector, leadership
from shoal.pool import ThreadPool

sys.path.insert(0, str(Path(__file__).parent))

import pool_tasks as tasks

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = 20


@pytest.fixture(params=["processes", "threads"])
def pool(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for module in (leadership, collector):
        monkeypatch.setattr(module, "SLICE_SECONDS", 3600.0)
    make = ThreadPool if request.param == "threads" else shoal.get_context("fork").Pool
    with make(2) as pool:
        yield pool


def test_the_end_of_an_imap_is_heard_of(pool: Any) -> None:
    for _ in range(40):
        assert sum(1 for _ in pool.imap_unordered(tasks.double, range(4000))) == 4000
        assert list(pool.imap(tasks.double, range(300))) == [2 * n for n in range(300)]


def test_an_outcome_without_a_message_is_heard_of(pool: Any) -> None:
    for _ in range(20):
        results = pool.imap(tasks.double, (item for item in [1, threading.Lock(), 3]))
        assert results.next(SECONDS) == 2
        with pytest.raises(TypeError, match="lock"):
            results.next(SECONDS)
        assert results.next(SECONDS) == 6


def test_a_result_with_a_callback_is_heard_of(pool: Any) -> None:
    told: list[Any] = []
    for number in range(50):
        assert pool.apply_async(tasks.double, (number,), callback=told.append).get(SECONDS) == 2 * number
    assert told == [2 * number for number in range(50)]
