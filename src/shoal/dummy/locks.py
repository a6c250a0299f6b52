"""The locks of ``threading``, where those of processes can do more: ``locked()``, which Python has had for all of them since 3.14."""

from __future__ import annotations

import _thread
import threading

__all__ = ["BoundedSemaphore", "RLock", "Semaphore"]


class RLock(_thread.RLock):  # type: ignore[misc]  # final only to those who check types
    """``threading.RLock``, which can say whether it is held."""

    if not hasattr(_thread.RLock, "locked"):

        def locked(self) -> bool:
            """Return whether some thread holds it."""
            # Nothing else tells it without trying to take the lock, which others would notice.
            return _thread.RLock.__repr__(self).startswith("<locked")


class _Counting(threading.Semaphore):
    def locked(self) -> bool:
        """Return whether ``acquire`` would have to wait."""
        return self.get_value() == 0

    def get_value(self) -> int:
        """Return the value it has now."""
        return self._value


class Semaphore(_Counting):
    """``threading.Semaphore``, which can say what it has left."""


class BoundedSemaphore(_Counting, threading.BoundedSemaphore):
    """``threading.BoundedSemaphore``, which can say what it has left."""
