"""What may have happened, and what must not: the judge of the soak. Pure: it sees records, no processes.

A queue's history says which items a producer began to put and which ``put`` returned, and which items a consumer got. A pool's says which tasks were handed over,
which were run, and what came of each.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["PoolHistory", "QueueHistory"]

SHOWN = 5  # examples in a violation


def shown(things: Iterable[object]) -> str:
    """A few of them, in words."""
    found = sorted(things, key=repr)
    return ", ".join(map(repr, found[:SHOWN])) + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")


@dataclass
class QueueHistory:
    """One queue.

    Attributes:
        begun: items whose ``put`` was begun, as ``(producer, number)``; a producer counts from 0.
        done: those whose ``put`` returned.
        got: what each consumer got, in its order.
        killed_consumers: how many consumers were killed.
    """

    begun: set[tuple[int, int]] = field(default_factory=set)
    done: set[tuple[int, int]] = field(default_factory=set)
    got: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    killed_consumers: int = 0

    @property
    def lost(self) -> set[tuple[int, int]]:
        """Items that were put and that nobody has told of."""
        return self.done.difference(*self.got.values())

    def violations(self) -> list[str]:
        """What must not be, in words; nothing if all is well."""
        found = []
        count = Counter(item for items in self.got.values() for item in items)
        if twice := [item for item, times in count.items() if times > 1]:
            found.append(f"delivered more than once: {shown(twice)}")
        if invented := count.keys() - self.begun:
            found.append(f"delivered and never put: {shown(invented)}")
        for consumer, items in self.got.items():
            latest: dict[int, int] = {}
            for producer, number in items:
                if number <= latest.get(producer, -1):
                    found.append(f"consumer {consumer} got {number} of producer {producer} after {latest[producer]}")
                    break
                latest[producer] = number
        # A consumer that is killed has got one item at most of which it has not told.
        if len(self.lost) > self.killed_consumers:
            found.append(
                f"{len(self.lost)} items lost by {self.killed_consumers} kills of consumers: {shown(self.lost)}"
            )
        return found


@dataclass
class PoolHistory:
    """One pool.

    Attributes:
        submitted: the tasks' numbers.
        run: the numbers of tasks in the order in which they were begun, as workers tell.
        values: what came of a task, by its number.
        lost: tasks whose worker was lost.
        dropped: tasks of pools that were terminated.
        kills: how many workers were killed.
    """

    submitted: set[int] = field(default_factory=set)
    run: list[int] = field(default_factory=list)
    values: dict[int, int] = field(default_factory=dict)
    lost: set[int] = field(default_factory=set)
    dropped: set[int] = field(default_factory=set)
    kills: int = 0

    def violations(self) -> list[str]:
        """What must not be, in words; nothing if all is well."""
        found = []
        count = Counter(self.run)
        if twice := [task for task, times in count.items() if times > 1]:
            found.append(f"run more than once: {shown(twice)}")
        if invented := count.keys() - self.submitted:
            found.append(f"run and never submitted: {shown(invented)}")
        if wrong := [task for task, value in self.values.items() if value != 2 * task]:
            found.append(f"with a wrong result: {shown(wrong)}")
        if unrun := self.values.keys() - count.keys():
            found.append(f"with a result and never run: {shown(unrun)}")
        if silent := self.submitted - self.values.keys() - self.lost - self.dropped:
            found.append(f"without an outcome: {shown(silent)}")
        if both := self.values.keys() & self.lost:
            found.append(f"with a result and lost: {shown(both)}")
        # A worker runs one task at a time.
        if len(self.lost) > self.kills:
            found.append(f"{len(self.lost)} tasks lost by {self.kills} kills: {shown(self.lost)}")
        return found
