"""Proxies of what processes wait for each other with, and of pools."""

from __future__ import annotations

import time

from shoal._managers.proxies import BaseProxy, MakeProxyType
from shoal._managers.words import ENTER, EXIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self

__all__ = [
    "AcquirerProxy",
    "BarrierProxy",
    "BasePoolProxy",
    "ConditionProxy",
    "EventProxy",
    "PoolProxy",
]


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
        return self._callmethod(ENTER)

    def __exit__(self, exc_type: object, exc_val: object, exc_tb: object) -> Any:
        try:
            self._callmethod(EXIT)
        except RuntimeError:
            # A call that was interrupted has closed the connection, and given a condition or recursive lock back by that. What interrupted it is what is to be told.
            if exc_type is None:
                raise


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
