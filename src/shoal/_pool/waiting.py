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

    Whatever is ever set on it is set when it is made. CPython 3.11 collects garbage in the middle of giving an object an attribute that it did not have, and may run another
    thread meanwhile; if that one gives the same object another new attribute, one of the two is lost, or the interpreter crashes. Two threads, one that waits
    and one that leads, did just that. (From 3.12 on garbage is collected elsewhere.)
    """

    def __init__(self) -> None:
        self._bells: list[Bell] = []  # of the threads that wait
        self._source: Source | None = None  # what still feeds it

    def _wake(self) -> None:
        for bell in list(self._bells):
            bell.ring()
