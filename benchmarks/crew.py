"""Child processes that wait for a starting gun.

The children are started, by the backend's ``Process``, before any clock runs. Orders and reports go through plain
``os.pipe`` pairs, so that what starts and stops the clock is the same on both sides. Needs the fork start method.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import TracebackType

Body = Callable[[int], object]

_ORDER = struct.Struct("q")


class Crew:
    """One child for each body; a phase runs every body, in its child, with a count of its own."""

    def __init__(self, context: Any, bodies: Sequence[Body]) -> None:
        """Start the children.

        Args:
            context: Where ``Process`` comes from; it must fork.
            bodies: What each child does when told a count.
        """
        self._orders: list[int] = []
        self._reports: list[int] = []
        self._processes: list[Any] = []
        for body in bodies:
            order, order_end = os.pipe()
            report, report_end = os.pipe()
            process = context.Process(target=_follow, args=(body, order, report_end))
            process.daemon = True
            process.start()
            os.close(order)
            os.close(report_end)
            self._orders.append(order_end)
            self._reports.append(report)
            self._processes.append(process)

    def phase(self, *counts: int, here: Callable[[], object] | None = None) -> float:
        """Fire the gun and wait until every child reports.

        Args:
            counts: What each child's body is told, in order; each at least 1.
            here: What this process does meanwhile.

        Returns:
            Seconds between the gun and the last report.

        Raises:
            RuntimeError: A child ended instead of reporting.
        """
        begin = time.perf_counter()
        for order, count in zip(self._orders, counts, strict=True):
            os.write(order, _ORDER.pack(count))
        if here is not None:
            here()
        for report in self._reports:
            if not os.read(report, 1):
                raise RuntimeError("a child of this benchmark ended before its work was done")
        return time.perf_counter() - begin

    def __enter__(self) -> Self:
        """The crew itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Send the children home; after an error, end them."""
        for order in self._orders:
            if kind is None:
                os.write(order, _ORDER.pack(0))
            os.close(order)
        for process, report in zip(self._processes, self._reports, strict=True):
            if kind is not None:
                process.terminate()
            process.join()
            os.close(report)


def _follow(body: Body, order: int, report: int) -> None:
    """A child's life: do what each order says; the order 0, or none any more, is the end."""
    while packed := os.read(order, _ORDER.size):
        (count,) = _ORDER.unpack(packed)
        if count == 0:
            return
        body(count)
        os.write(report, b".")
