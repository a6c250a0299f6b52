"""What processes wait for each other with, and pools: the types that are made in the server, and their proxies."""

from __future__ import annotations

import threading
import time

from shoal._managers.proxies import BaseProxy, MakeProxyType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self

__all__ = [
    "AcquirerProxy",
    "BarrierProxy",
    "BasePoolProxy",
    "BoundedSemaphore",
    "Condition",
    "ConditionProxy",
    "EventProxy",
    "PoolProxy",
    "RLock",
    "Semaphore",
]


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


class AcquirerProxy(BaseProxy):
    """Of a lock or semaphore."""

    _exposed_: tuple[str, ...] = ("acquire", "release", "locked")

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> Any:
        """Take it; wait if ``blocking``, for at most ``timeout`` seconds."""
        return self._callmethod("acquire", (blocking,) if timeout is None else (blocking, timeout))

    def release(self) -> Any:
        """Give it back."""
        return self._callmethod("release")

    def locked(self) -> Any:
        """Whether `acquire` would wait."""
        return self._callmethod("locked")

    def __enter__(self) -> Any:
        return self._callmethod("acquire")

    def __exit__(self, exc_type: object, exc_val: object, exc_tb: object) -> Any:
        self._callmethod("release")


class ConditionProxy(AcquirerProxy):
    """Of a condition."""

    _exposed_ = ("acquire", "release", "locked", "wait", "notify", "notify_all")

    def wait(self, timeout: float | None = None) -> Any:
        """Wait to be notified, for at most so many seconds."""
        return self._callmethod("wait", (timeout,))

    def notify(self, n: int = 1) -> Any:
        """Wake up to ``n`` of those who wait."""
        return self._callmethod("notify", (n,))

    def notify_all(self) -> Any:
        """Wake all who wait."""
        return self._callmethod("notify_all")

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        """Wait until ``predicate()``, which is called here, is true; return what it returned last."""
        give_up = None if timeout is None else time.monotonic() + timeout
        while not (result := predicate()):
            left = None if give_up is None else give_up - time.monotonic()
            if left is not None and left <= 0:
                break
            self.wait(left)
        return result


class EventProxy(BaseProxy):
    """Of an event."""

    _exposed_ = ("is_set", "set", "clear", "wait")

    def is_set(self) -> Any:
        """Whether it is set."""
        return self._callmethod("is_set")

    def set(self) -> Any:
        """Set it, and wake all who wait."""
        return self._callmethod("set")

    def clear(self) -> Any:
        """Take it back."""
        return self._callmethod("clear")

    def wait(self, timeout: float | None = None) -> Any:
        """Wait until it is set, for at most so many seconds; return whether it is."""
        return self._callmethod("wait", (timeout,))


class BarrierProxy(BaseProxy):
    """Of a barrier."""

    _exposed_ = ("__getattribute__", "wait", "abort", "reset")

    def wait(self, timeout: float | None = None) -> Any:
        """Wait until all parties wait; return which of them this is."""
        return self._callmethod("wait", (timeout,))

    def abort(self) -> Any:
        """Break it: all who wait, now or later, get BrokenBarrierError."""
        return self._callmethod("abort")

    def reset(self) -> Any:
        """Make it as new; who waits gets BrokenBarrierError."""
        return self._callmethod("reset")

    @property
    def parties(self) -> Any:
        """How many have to wait for it to open."""
        return self._callmethod("__getattribute__", ("parties",))

    @property
    def n_waiting(self) -> Any:
        """How many wait."""
        return self._callmethod("__getattribute__", ("n_waiting",))

    @property
    def broken(self) -> Any:
        """Whether it is broken."""
        return self._callmethod("__getattribute__", ("broken",))


BasePoolProxy = MakeProxyType(
    "PoolProxy",
    (
        *("apply", "apply_async", "close", "imap", "imap_unordered", "join"),
        *("map", "map_async", "starmap", "starmap_async", "terminate"),
    ),
)
BasePoolProxy._method_to_typeid_ = {
    "apply_async": "AsyncResult",
    "map_async": "AsyncResult",
    "starmap_async": "AsyncResult",
    "imap": "Iterator",
    "imap_unordered": "Iterator",
}


class PoolProxy(BasePoolProxy):  # type: ignore[misc, valid-type]
    """Of a pool, whose workers are the server's children."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exc_type: object, exc_val: object, exc_tb: object) -> None:
        self.terminate()
