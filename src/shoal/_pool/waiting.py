"""What threads wait for, and what they sleep on."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shoal._pool.feeding import Source

__all__ = ["Awaited", "Bell"]


class Bell:
    """What one thread sleeps on, once.

    Args:
        source: what that thread feeds, if anything.
    """

    __slots__ = ("_lock", "source")

    def __init__(self, source: Source | None) -> None:
        self.source = source
        self._lock = threading.Lock()
        self._lock.acquire()

    def wait(self, seconds: float) -> None:
        """Sleep until it rings, or that many seconds."""
        self._lock.acquire(timeout=seconds)

    def ring(self) -> None:
        """Wake the thread. May be called again and again."""
        with suppress(RuntimeError):
            self._lock.release()


class Awaited:
    """Something threads wait for, under the leadership of one of them (see ``leadership``).

    A subclass has `_done`: whether there is something to take.
    """

    _bells: list[Bell] | None = None  # of the threads that wait
    _source: Source | None = None  # what still feeds it

    def _wake(self) -> None:
        for bell in list(self._bells or ()):
            bell.ring()
