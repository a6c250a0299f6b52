"""How long a measurement takes, and how it warms up.

The count of operations is found during the warm-up, for each side its own: a fast side and a slow one both run for
``Pace.seconds``.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


@dataclass(frozen=True)
class Pace:
    """Full, for figures; or quick, to see that everything runs."""

    quick: bool = False

    @property
    def seconds(self) -> float:
        """How long the timed part lasts, about."""
        return 0.02 if self.quick else 0.35

    def choose(self, *, full: T, quick: T) -> T:
        """The first when figures matter, the second otherwise."""
        return quick if self.quick else full


def seconds_per_operation(phase: Callable[[int], float], pace: Pace, *, first: int) -> float:
    """Warm up, then time one long phase.

    Args:
        phase: Does so many operations and returns the seconds they took.
        pace: How long the timed phase lasts.
        first: How many operations the warm-up begins with.

    Returns:
        The seconds that one operation took in the timed phase.
    """
    count = first
    seconds = phase(count)
    while seconds < pace.seconds / 5:
        per_operation = max(seconds, 1e-6) / count
        count = min(10 * count, max(2 * count, round(pace.seconds / 3 / per_operation)))
        seconds = phase(count)
    count = max(1, round(count * pace.seconds / seconds))
    return phase(count) / count


def seconds_per_turn(loop: Callable[[int], object], pace: Pace) -> float:
    """Time a loop in this process, told how many turns to take; the seconds that one took."""

    def phase(count: int) -> float:
        begin = time.perf_counter()
        loop(count)
        return time.perf_counter() - begin

    return seconds_per_operation(phase, pace, first=1000)
