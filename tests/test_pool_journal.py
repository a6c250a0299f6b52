"""Which task went with a dead worker, as a pool over queues of its own finds out: by what is missing, and never what is only waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shoal._pool import journal
from shoal._pool.journal import REPORT_SECONDS, Journal

if TYPE_CHECKING:
    from collections.abc import Callable


class Clock:
    """The monotonic clock of the journal."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(journal, "monotonic", clock)
    return clock


def journal_of(tasks: range) -> Journal:
    made = Journal()
    for task in tasks:
        made.sending(task)
        made.sent()
    return made


def lost_in_time(made: Journal, clock: Clock, is_empty: Callable[[], bool]) -> list[tuple[int, int]]:
    """What is found by looks before, at, and long after the moment at which a report is due."""
    found = list(made.lost(is_empty))
    for _ in range(3):
        clock.now += REPORT_SECONDS
        found += made.lost(is_empty)
    return found


def empty() -> bool:
    return True


def not_empty() -> bool:
    return False


def test_a_task_that_is_gone_from_the_queue_went_with_the_worker_that_died_since(clock: Clock) -> None:
    made = journal_of(range(3))
    made.reported(0, 71)
    made.reported(2, 72)
    made.ended(0)
    made.ended(2)
    assert made.died(71, in_order=False) is None
    assert lost_in_time(made, clock, not_empty) == [(1, 71)]


def test_what_a_worker_has_reported_is_what_it_ran(clock: Clock) -> None:
    made = journal_of(range(2))
    made.reported(0, 71)
    assert made.died(71, in_order=False) == 0
    made.reported(1, 72)
    assert lost_in_time(made, clock, empty) == []


def test_a_task_that_is_still_in_the_queue_waits_for_ever(clock: Clock) -> None:
    made = journal_of(range(2))
    made.died(71, in_order=False)
    assert lost_in_time(made, clock, not_empty) == []


def test_a_task_that_is_reported_late_but_in_time_is_not_lost(clock: Clock) -> None:
    made = journal_of(range(2))
    made.died(71, in_order=False)
    assert list(made.lost(empty)) == []
    clock.now += REPORT_SECONDS * 0.9
    assert list(made.lost(empty)) == []
    made.reported(0, 72)
    made.reported(1, 73)
    assert lost_in_time(made, clock, empty) == []


@pytest.mark.parametrize("in_order", [False, True])
def test_nobody_is_accused_who_died_before_the_task_was_sent_or_left_in_order(clock: Clock, in_order: bool) -> None:
    made = journal_of(range(2 if in_order else 0))
    made.died(71, in_order=in_order)
    assert list(made.lost(empty)) == []
    for task in range(2, 4):
        made.sending(task)
        made.sent()
    assert lost_in_time(made, clock, empty) == []


def test_each_dead_worker_had_one_task_at_most(clock: Clock) -> None:
    made = journal_of(range(3))
    made.died(71, in_order=False)
    made.died(72, in_order=False)
    assert lost_in_time(made, clock, empty) == [(0, 71), (1, 72)]


def test_a_task_that_is_being_put_in_is_not_missed(clock: Clock) -> None:
    made = journal_of(range(1))
    made.reported(0, 71)
    made.ended(0)
    made.sending(1)
    made.died(71, in_order=False)
    assert lost_in_time(made, clock, empty) == []
