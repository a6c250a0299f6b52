"""Registrations with the pickler that end with the last object that needs them.

What is registered with the standard library's ``ForkingPickler`` stays there for ever, and everybody who sends a message compares the registrations with
those he knows. Where types come and go (each length of a ctypes array is a type of its own) that would grow without end.

`registration` gives something to hold: as long as anybody holds it the type is registered; after that the registry is as it was before.

Relies on `shoal.reduction`. May be called from any thread; a registration may also end in the middle of anything, by the garbage collector's hand.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any

from shoal import _runtime, reduction

if TYPE_CHECKING:
    from collections.abc import Callable

    Reducer = Callable[[Any], Any]

__all__ = ["Registration", "registration"]

_lock = threading.RLock()
_runtime.in_forked_child(_lock._at_fork_reinit)  # type: ignore[attr-defined]


class _Entry:
    """What stands in the registry: no two are alike, so a registration that ends knows its own."""

    __slots__ = ("before", "reduce")

    def __init__(self, reduce: Callable[[Any, Reducer | None], Any], before: Reducer | None) -> None:
        self.reduce = reduce
        self.before: Reducer | None = before.before if isinstance(before, _Entry) else before

    def __call__(self, obj: Any) -> Any:
        return self.reduce(obj, self.before)


class Registration:
    """That a type is registered."""

    __slots__ = ("__weakref__", "_entry", "_gone", "_lock", "_registry", "_type")

    def __init__(self, type_: Any, reduce: Callable[[Any, Reducer | None], Any]) -> None:
        # All that __del__ needs is here: while the interpreter exits, nothing may be left of this module.
        self._gone = False
        self._lock = _lock
        self._registry = reduction._extra
        self._type = type_
        self._entry = _Entry(reduce, self._registry.get(type_))
        reduction.register(type_, self._entry)

    def __del__(self) -> None:
        with self._lock:
            self._gone = True
            if self._registry.get(self._type) is not self._entry:
                return
            if self._entry.before is None:
                del self._registry[self._type]
            else:
                self._registry[self._type] = self._entry.before


_living: weakref.WeakValueDictionary[Any, Registration] = weakref.WeakValueDictionary()


def registration(type_: Any, reduce: Callable[[Any, Reducer | None], Any]) -> Registration:
    """Register a type, unless it is.

    Args:
        type_: exactly this type.
        reduce: called with an object to be pickled, and with what was registered for the type before (None: nothing); returns what ``__reduce__`` would.

    Returns:
        The registration, which lasts as long as it is held.
    """
    with _lock:
        found = _living.get(type_)
        if found is None or found._gone:  # it may be found by another thread while it ends
            found = _living[type_] = Registration(type_, reduce)
        return found
