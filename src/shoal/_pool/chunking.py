"""How many items a task takes, and how many tasks are on their way at once.

Guided self-scheduling (Polychronopoulos and Kuck, "Guided Self-Scheduling: A Practical Scheduling Scheme for Parallel Supercomputers", IEEE
Transactions on Computers, 1987) with a target time: chunks start small, grow while items prove to be quick, until one takes about 10 ms,
and shrink towards the end, so that the workers finish together. No chunk is larger than the standard library's would be.
Pure: no clocks, no processes.
"""

from __future__ import annotations

__all__ = ["Chunks", "Window"]

TARGET_SECONDS = 0.010  # of work in one chunk
FLOOR_SECONDS = 0.001  # a chunk near the end is not made smaller than this
FIRST_ITEMS = 8  # at most, in a chunk of which nothing is known
GROWTH = 16  # a chunk has at most that many times the items of the largest one that was measured
TASKS_PER_WORKER = 2  # chunks in flight: one that runs, one that waits


class Chunks:
    """The chunk sizes of one job.

    Args:
        total: number of items of the whole job.
        workers: number of processes of the pool.
        explicit: the size that the caller asked for; then every chunk but the last has it.
    """

    __slots__ = ("_largest", "_seconds", "explicit", "total", "workers")

    def __init__(self, total: int, workers: int, explicit: int | None = None) -> None:
        self.total = total
        self.workers = max(1, workers)
        self.explicit = explicit
        self._seconds: float | None = None
        self._largest = 0

    @property
    def nominal(self) -> int:
        """The chunk size that the standard library would take: never exceeded."""
        return self.explicit or max(1, -(-self.total // (4 * self.workers)))

    @property
    def item_seconds(self) -> float | None:
        """What an item takes by the latest measurements, transport included; None if nothing was measured."""
        return self._seconds

    def next_size(self, remaining: int) -> int:
        """Say how many items the next chunk takes.

        Args:
            remaining: items not yet handed out.
        """
        if self.explicit is not None:
            return self.explicit
        share = max(1, -(-remaining // (4 * self.workers)))
        if self._seconds is None:
            return min(share, FIRST_ITEMS)
        wanted = _fitting(TARGET_SECONDS, self._seconds, self.nominal)
        floor = _fitting(FLOOR_SECONDS, self._seconds, self.nominal)
        size = max(min(wanted, share), floor, 1)
        return max(1, min(size, self._largest * GROWTH, self.nominal, remaining))

    def observe(self, items: int, seconds: float) -> None:
        """Learn from a measurement.

        Args:
            items: how many were run.
            seconds: what they took together.
        """
        if items <= 0:
            return
        each = max(seconds, 0.0) / items
        self._seconds = each if self._seconds is None else (self._seconds + each) / 2
        self._largest = max(self._largest, items)

    def observe_transport(self, items: int, seconds: float) -> None:
        """Learn what it costs to hand items over; a chunk whose items are large must stay small even if they are quick to work on."""
        if items > 0 and self._seconds is not None:
            self._seconds = max(self._seconds, seconds / items)

    @property
    def in_flight(self) -> int:
        """How many chunks of this job may be on their way at once (beyond it only the window limits)."""
        return TASKS_PER_WORKER * self.workers + 1 if self.explicit is None else 1 << 30


def _fitting(available: float, each: float, most: int) -> int:
    """How many things of `each` seconds fit into the `available` ones; `most` at most."""
    return most if each * most <= available else int(available / each)


class Window:
    """How many tasks may be in the shared table at once; the rest waits in private memory.

    The bound is in tasks, and in time: what is in the table should have taken no more than :data:`FILL_SECONDS` to pickle, which
    keeps many megabytes, not gigabytes, on their way, whatever the tasks look like.

    Args:
        workers: number of processes of the pool.
    """

    TASKS = 1024
    FILL_SECONDS = 0.05

    __slots__ = ("_cost", "_least", "limit")

    def __init__(self, workers: int) -> None:
        self._least = 2 * workers + 1
        self._cost = 0.0
        self.limit = max(self.TASKS, self._least)

    def observe(self, tasks: int, seconds: float) -> None:
        """Learn what it took to put tasks into the table.

        Args:
            tasks: how many.
            seconds: what they took together.
        """
        if tasks <= 0:
            return
        each = seconds / tasks
        # Upwards at once (large tasks must be few), downwards slowly (a scheduling hiccup must not throttle for long).
        self._cost = max(each, self._cost * 0.5 ** min(tasks, 16))
        self.limit = max(self._least, _fitting(self.FILL_SECONDS, self._cost, self.TASKS))
