"""How many items a task takes, and how many tasks are on their way: pure arithmetic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal._pool.chunking import Chunks, Window

counts = st.integers(1, 10**7)
workers = st.integers(1, 256)
seconds = st.floats(0, 100, allow_nan=False)


def drain(chunks: Chunks, item_seconds: float) -> list[int]:
    """Hand out all items, each measured to take that long."""
    left = chunks.total
    sizes = []
    while left:
        size = min(chunks.next_size(left), left)
        sizes.append(size)
        left -= size
        chunks.observe(size, size * item_seconds)
    return sizes


@given(counts, workers, st.integers(1, 10**6), seconds)
def test_an_explicit_size_is_honoured_whatever_was_measured(total: int, count: int, size: int, each: float) -> None:
    chunks = Chunks(total, count, size)
    chunks.observe(size, size * each)
    assert chunks.next_size(total) == size


@given(counts, workers, st.lists(st.tuples(counts, seconds), max_size=20), st.data())
def test_a_size_is_at_least_one_and_at_most_what_remains(total: int, count: int, measured, data) -> None:
    chunks = Chunks(total, count)
    for items, taken in measured:
        chunks.observe(items, taken)
        chunks.observe_transport(items, taken)
    remaining = data.draw(st.integers(1, total))
    assert 1 <= chunks.next_size(remaining) <= remaining


@given(st.integers(1, 5_000), workers, seconds)
def test_no_chunk_is_larger_than_the_standard_librarys(total: int, count: int, each: float) -> None:
    chunks = Chunks(total, count)
    standard = -(-total // (4 * count))
    assert max(drain(chunks, each)) <= max(1, standard)


def test_chunks_of_quick_items_come_to_take_about_ten_milliseconds() -> None:
    sizes = drain(Chunks(10**7, 2), 1e-6)
    assert max(sizes) == pytest.approx(10_000, rel=0.01)
    assert len(sizes) < 1200  # some more at the start and at the end


def test_slow_items_go_one_by_one() -> None:
    sizes = drain(Chunks(1000, 2), 0.5)
    assert sizes[0] <= 8
    assert set(sizes[1:]) == {1}


def test_chunks_shrink_towards_the_end_so_that_workers_finish_together() -> None:
    sizes = drain(Chunks(4000, 4), 1e-4)
    assert sizes[-1] < max(sizes)
    assert sizes[-1] * 1e-4 <= 0.005


def test_items_that_are_costly_to_send_stay_in_small_chunks() -> None:
    chunks = Chunks(100_000, 2)
    chunks.observe(8, 8e-6)  # a microsecond of work each
    chunks.observe_transport(8, 8e-3)  # but a millisecond to pickle
    assert chunks.next_size(100_000) <= 10


@given(workers, st.lists(st.tuples(st.integers(0, 5000), seconds), max_size=30))
def test_the_window_never_closes(count: int, observed: list[tuple[int, float]]) -> None:
    window = Window(count)
    for tasks, taken in observed:
        window.observe(tasks, taken)
        assert 2 * count + 1 <= window.limit <= max(Window.TASKS, 2 * count + 1)


def test_large_tasks_narrow_the_window_at_once_and_small_ones_widen_it_again() -> None:
    window = Window(2)
    window.observe(1, 0.01)
    assert window.limit == 5
    for _ in range(30):
        window.observe(1, 1e-6)
    assert window.limit == Window.TASKS
