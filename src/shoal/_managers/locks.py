"""Locks and their kin as a server makes them: those of threads, with what later versions of the standard library added."""

from __future__ import annotations

import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["BoundedSemaphore", "Condition", "Lock", "RLock", "Semaphore", "is_recursive"]

Lock = threading.Lock


class _LockedSemaphore:
    """`locked`, which the standard library's semaphores of threads lack."""

    _value: int

    def locked(self) -> bool:
        """Whether `acquire` would wait."""
        return self._value == 0


class Semaphore(_LockedSemaphore, threading.Semaphore):
    """A semaphore in the server."""


class BoundedSemaphore(_LockedSemaphore, threading.BoundedSemaphore):
    """A bounded semaphore in the server."""


if hasattr(threading.RLock(), "locked"):
    RLock: Any = threading.RLock
else:

    class RLock:  # type: ignore[no-redef]
        """A re-entrant lock in the server, with `locked`, which that of threads has from Python 3.14 on."""

        def __init__(self) -> None:
            self._lock = threading.RLock()
            self.acquire = self._lock.acquire
            self.release = self._lock.release
            self._is_owned = self._lock._is_owned  # type: ignore[attr-defined]
            self._release_save = self._lock._release_save  # type: ignore[attr-defined]
            self._acquire_restore = self._lock._acquire_restore  # type: ignore[attr-defined]

        def locked(self) -> bool:
            """Whether any thread holds it."""
            if self._is_owned():
                return True
            if self._lock.acquire(blocking=False):
                self._lock.release()
                return False
            return True

        def __enter__(self) -> bool:
            return bool(self._lock.acquire())

        def __exit__(self, *args: object) -> None:
            self._lock.release()

        def __repr__(self) -> str:
            return repr(self._lock)


class Condition(threading.Condition):
    """A condition in the server, with `locked`, which that of threads has from Python 3.14 on."""

    _lock: Any

    def __init__(self, lock: Any = None) -> None:
        super().__init__(RLock() if lock is None else lock)

    def locked(self) -> bool:
        """Whether its lock is held."""
        return bool(self._lock.locked())


_RECURSIVE = tuple({type(threading.RLock()), type(RLock())})


def is_recursive(lock: Any) -> bool:
    """Whether a lock belongs to the thread that has acquired it, and can be released by no other."""
    return isinstance(lock._lock if isinstance(lock, threading.Condition) else lock, _RECURSIVE)  # type: ignore[attr-defined]
