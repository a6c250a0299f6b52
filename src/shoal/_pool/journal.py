"""Which tasks have been put into a queue, and who has reported to have taken them: so one that is gone without a word is found.

Tasks are taken in the order in which they were put in. So one that nobody has reported is not in the queue any more if a later one has been reported, or if the queue is
empty: somebody has it, and whoever lives reports it at once. What stays unreported for ``REPORT_SECONDS`` went with a worker that has died since it was put in.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["REPORT_SECONDS", "Journal"]

REPORT_SECONDS = (
    0.5  # within which a worker that lives has reported what it has taken: it does so before it loads the rest
)


class Suspect(NamedTuple):
    """A worker that has died, and may have taken a task without a word.

    Attributes:
        pid: its process id.
        sent: how many tasks had been sent by then.
    """

    pid: int
    sent: int


class Journal:
    """What a pool knows of its tasks on their way by a queue. One thread puts in, one hears of reports, and one asks."""

    def __init__(self) -> None:
        self._sent: dict[int, int] = {}  # by task: which one it was to be sent; until it is reported
        self._count = 0  # of tasks that are in the queue, or have been
        self._furthest = -1  # of those reported, the one that was sent last
        self._gone = -1  # all up to this one are known not to be in the queue any more
        self._running: dict[int, int] = {}  # by task: the pid
        self._suspects: list[Suspect] = []
        self._missing: dict[int, float] = {}  # by task: since when it is known to be with a worker that has not said so

    def sending(self, task: int) -> None:
        """A task is about to be sent. It may be reported from now on, but is not missing before ``sent``."""
        self._sent[task] = self._count

    def sent(self) -> None:
        """It is in the queue."""
        self._count += 1

    def reported(self, task: int, pid: int) -> None:
        """A worker has taken a task."""
        self._running[task] = pid
        self._furthest = max(self._furthest, self._sent.pop(task, -1))

    def ended(self, task: int) -> None:
        """Its outcome is there, or it will have none."""
        self._running.pop(task, None)
        self._sent.pop(task, None)

    def died(self, pid: int, *, in_order: bool) -> int | None:
        """Say which task a worker ran that has ended. If none that is known of, and it did not leave by itself, it may have had one that is not."""
        task = next((task for task, whose in list(self._running.items()) if whose == pid), None)
        if task is not None:
            self.ended(task)
        elif not in_order:
            self._suspects.append(Suspect(pid, self._count))
        return task

    def lost(self, is_empty: Callable[[], bool]) -> Iterator[tuple[int, int]]:
        """Find tasks that went with a suspect; to be asked now and then.

        Args:
            is_empty: whether there is nothing in the queue.

        Yields:
            A task and the pid of a worker that may have had it.
        """
        now = monotonic()
        count = self._count  # first: what is put in after the look is there
        self._gone = max(self._gone, self._furthest, count - 1 if is_empty() else -1)
        waiting = {task: place for task, place in list(self._sent.items()) if place <= self._gone}
        self._missing = {task: self._missing.get(task, now) for task in waiting}
        for task, place in waiting.items():
            suspect = next((suspect for suspect in self._suspects if place < suspect.sent), None)
            if suspect is not None and now - self._missing[task] >= REPORT_SECONDS:
                self._suspects.remove(suspect)
                self.ended(task)
                yield task, suspect.pid
        # A worker takes one task at a time: those that were sent when it died have all been reported, so it had none.
        first = min(list(self._sent.values()), default=self._count)
        self._suspects = [suspect for suspect in self._suspects if suspect.sent > first]
