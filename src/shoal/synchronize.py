"""Lock, RLock, Semaphore, BoundedSemaphore, Condition, Event and Barrier between processes.

The standard library's names, arguments and exceptions. What is different:

* Killing a process never hangs those who wait for what it held. A lock goes to the next one who waits, with an ``AbandonedLockWarning`` (or
  ``AbandonedLockError``, if the lock was made with ``on_abandoned="raise"``); what it had of a semaphore in a ``with`` statement is given back; a
  barrier that it waited at breaks; conditions and events pass it over.
* Everything here can be pickled at any time and unpickled in any process of the tree, not only while a child is being started.

A ``Lock`` whose holder *exits* stays held, and anybody may release it: handing a lock over is a common idiom. An ``RLock`` belongs to a thread, so it
goes on to the next.

Relies on the native core, which holds the states and the algorithms (``native/sync/``).
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from shoal import _native, _standard

if TYPE_CHECKING:
    from collections.abc import Callable

    from shoal._native import Reference

__all__ = ["Barrier", "BoundedSemaphore", "Condition", "Event", "Lock", "RLock", "Semaphore"]

OnAbandoned = Literal["warn", "raise"]

_T = TypeVar("_T")

RECURSIVE_MUTEX, SEMAPHORE = 0, 1  # kinds of the standard SemLock
SEM_VALUE_MAX = 0x7FFFFFFF


def _my_name() -> str:
    """Name the calling thread as the standard library's representations do: ``MainProcess``, ``Process-1|Thread-2``."""
    name: str = _standard.process.current_process().name
    thread = threading.current_thread().name
    return name if thread == "MainThread" else f"{name}|{thread}"


class SemLock:
    """Base of locks and semaphores, as in the standard library; has what programs that look below the surface expect to find there."""

    __slots__ = ()

    @property
    def _semlock(self) -> Any:
        """The native object, which is the lock itself."""
        return self


class Lock(SemLock, _native.LockBase):
    """A lock that any thread of any process may release.

    A holder that ends in order, with the exit code 0, keeps it, for another process may be about to release it. One that is killed, or fails, does not.

    Args:
        ctx: the context that makes it; every context's locks are alike.
        on_abandoned: what happens to the one who takes the lock over from a holder that died: ``"warn"`` issues ``AbandonedLockWarning``; ``"raise"``
            raises ``AbandonedLockError``, after which the lock is free again.
    """

    def __init__(self, *, ctx: Any = None, on_abandoned: OnAbandoned = "warn") -> None:  # noqa: ARG002 - the standard signature
        super().__init__(on_abandoned=on_abandoned)

    def __repr__(self) -> str:
        try:
            if self._is_mine():
                owner = _my_name()
            elif not self.locked():
                owner = "None"
            elif self._count() > 0:
                owner = "SomeOtherThread"
            else:
                owner = "SomeOtherProcess"
        except Exception:  # noqa: BLE001 - a representation never fails
            owner = "unknown"
        return f"<{type(self).__name__}(owner={owner})>"


class RLock(SemLock, _native.RLockBase):
    """A lock that the thread which holds it may take again; released as often as taken, by that thread.

    Args:
        ctx: the context that makes it; every context's locks are alike.
        on_abandoned: as for ``Lock``; here a holder that exits counts as one that was killed.
    """

    def __init__(self, *, ctx: Any = None, on_abandoned: OnAbandoned = "warn") -> None:  # noqa: ARG002 - the standard signature
        super().__init__(on_abandoned=on_abandoned)

    def __repr__(self) -> str:
        count: int | str = "nonzero"
        try:
            if self._is_mine():
                owner, count = _my_name(), self._count()
            elif not self.locked():
                owner, count = "None", 0
            elif self._count() > 0:
                owner = "SomeOtherThread"
            else:
                owner = "SomeOtherProcess"
        except Exception:  # noqa: BLE001 - a representation never fails
            owner = count = "unknown"
        return f"<{type(self).__name__}({owner}, {count})>"


class Semaphore(SemLock, _native.SemaphoreBase):
    """A counter that ``acquire`` decrements, waiting while it is zero, and ``release`` increments.

    What a process took with ``acquire()`` stays taken when it dies, for whoever consumes what another produces holds it rightly. What it took with a
    ``with`` statement is given back.

    Args:
        value: what it starts with.
        ctx: the context that makes it; every context's semaphores are alike.
    """

    def __init__(self, value: int = 1, *, ctx: Any = None) -> None:  # noqa: ARG002 - the standard signature
        super().__init__(value)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}(value={_or_unknown(self.get_value)})>"


class BoundedSemaphore(Semaphore):
    """A semaphore whose value never exceeds what it started with: a ``release`` too many is a ValueError."""

    def __init__(self, value: int = 1, *, ctx: Any = None) -> None:  # noqa: ARG002 - the standard signature
        _native.SemaphoreBase.__init__(self, value, value)

    def __repr__(self) -> str:
        value, maximum = _or_unknown(self.get_value), _or_unknown(lambda: self.maxvalue)
        return f"<{type(self).__name__}(value={value}, maxvalue={maximum})>"


def _or_unknown(read: Callable[[], int]) -> int | str:
    try:
        return read()
    except Exception:  # noqa: BLE001 - a representation never fails
        return "unknown"


class Event(_native.EventBase):
    """A flag that processes wait for.

    Who waited when it was set goes on, even if it is cleared at once.
    """

    def __init__(self, *, ctx: Any = None) -> None:  # noqa: ARG002 - the standard signature
        super().__init__()

    # The standard one is pickled as a plain object: with the attributes that it was given, of which a subclass may leave some out. So its reference is
    # no part of its state.
    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_event, (type(self), self._reference()), self.__getstate__()

    def __getstate__(self) -> Any:
        return object.__getstate__(self)

    def __setstate__(self, state: Any) -> None:
        attributes, slots = state if isinstance(state, tuple) else (state, None)
        self.__dict__.update(attributes or {})
        for name, value in (slots or {}).items():
            setattr(self, name, value)

    def __repr__(self) -> str:
        try:
            state = "set" if self.is_set() else "unset"
        except Exception:  # noqa: BLE001 - a representation never fails
            state = "unknown"
        return f"<{type(self).__qualname__} at {id(self):#x} {state}>"


def _rebuild_event(cls: type[Event], reference: Reference) -> Event:
    return cls._adopt(reference)


class _Count:
    """What the standard Condition has semaphores for, as far as programs look at them."""

    __slots__ = ("_read",)

    def __init__(self, read: Callable[[], int]) -> None:
        self._read = read

    def get_value(self) -> int:
        return self._read()


class Condition(_native.ConditionBase):
    """A condition variable: ``wait`` lets go of a lock until another thread or process notifies.

    Args:
        lock: an ``RLock`` or ``Lock``, a new ``RLock`` unless given.
        ctx: the context that makes it.
    """

    def __init__(self, lock: Any = None, *, ctx: Any = None) -> None:
        super().__init__(lock or RLock(ctx=ctx))

    def wait_for(self, predicate: Callable[[], _T], timeout: float | None = None) -> _T:
        """Wait until the predicate is true.

        Args:
            predicate: called with the lock held.
            timeout: seconds.

        Returns:
            What the predicate returned last: something false when the time was over.
        """
        result = predicate()
        if timeout is None:
            while not result:
                self.wait()
                result = predicate()
            return result
        end = time.monotonic() + timeout
        while not result and (left := end - time.monotonic()) > 0:
            self.wait(left)
            result = predicate()
        return result

    def __getstate__(self) -> tuple[Any, ...]:
        return *super().__getstate__(), self._lock

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        *own, self._lock = state
        super().__setstate__(tuple(own))

    def __repr__(self) -> str:
        return f"<{type(self).__name__}({self._lock}, {_or_unknown(self._waiters)})>"

    @property
    def _sleeping_count(self) -> _Count:
        return _Count(self._waiters)

    @property
    def _woken_count(self) -> _Count:
        return _Count(int)

    @property
    def _wait_semaphore(self) -> _Count:
        return _Count(int)


class Barrier(_native.BarrierBase):
    """A point where a number of processes wait for each other; a party that is killed breaks it.

    Args:
        parties: how many.
        action: called by one of them when all have come, before they go on. An exception breaks the barrier.
        timeout: seconds: the default of ``wait``.
        ctx: the context that makes it.
    """

    def __init__(
        self,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
        *,
        ctx: Any = None,  # noqa: ARG002 - the standard signature
    ) -> None:
        super().__init__(parties, action, timeout)

    def __getstate__(self) -> tuple[Any, ...]:
        return *super().__getstate__(), *self._defaults()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        *own, action, timeout = state
        super().__setstate__(tuple(own))
        self._set_defaults(action, timeout)

    def __repr__(self) -> str:
        try:
            state = "broken" if self.broken else f"waiters={self.n_waiting}/{self.parties}"
        except Exception:  # noqa: BLE001 - a representation never fails
            state = "unknown"
        return f"<{type(self).__module__}.{type(self).__qualname__} at {id(self):#x}: {state}>"


def __getattr__(name: str) -> Any:
    """Find what else programs import from the standard module."""
    return getattr(_standard.synchronize, name)
