"""``Value`` and ``Array`` of threads: ordinary objects with a lock.

The standard library's two have no lock to ask for, and an array needs all its items. Here they have what those of processes have: ``get_lock``,
``get_obj``, ``with``; a size instead of the items; ctypes classes instead of type codes.
"""

from __future__ import annotations

import array
import threading
from inspect import Signature, signature
from typing import TYPE_CHECKING, Any

from shoal import _standard

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Array", "RawArray", "RawValue", "Value"]


class _Locked:
    """What a value and an array have in common."""

    _lock: Any

    def _take(self, lock: Any) -> None:
        self._lock = threading.RLock() if isinstance(lock, bool) or lock is None else lock

    def get_lock(self) -> Any:
        """Return its lock. Nothing takes it by itself."""
        return self._lock

    def get_obj(self) -> Any:
        """Return the object without the lock: itself."""
        return self

    def acquire(self, *args: Any, **kwds: Any) -> bool:
        """Take the lock."""
        return bool(self._lock.acquire(*args, **kwds))

    def release(self) -> None:
        """Give the lock back."""
        self._lock.release()

    def __enter__(self) -> Any:
        return self._lock.__enter__()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self._lock.__exit__(exc_type, exc_value, exc_tb)


class Value(_Locked):
    """Something with an attribute ``value``, of any type, as in the standard library.

    Args:
        typecode: a type code; zero of that type is the default of `value`. A ctypes class (or ``c``) makes an object of it, whose attributes
            take the lock, and whose arguments follow.
        value: what it starts with.
        lock: a lock to use; True or False makes one.
    """

    def __new__(cls, typecode: Any, *args: Any, lock: Any = True) -> Any:
        """Make a value, or an object of a ctypes class."""
        if _is_plain(typecode):
            return super().__new__(cls)
        return _synchronized(_ctypes_class(typecode)(*args), lock)

    def __init__(self, typecode: Any, value: Any = None, lock: Any = True) -> None:
        self._typecode = typecode
        self._value = array.array(typecode, _zeros(typecode, 1))[0] if value is None else value
        self._take(lock)

    @property
    def value(self) -> Any:
        """The value itself."""
        return self._value

    @value.setter
    def value(self, value: Any) -> None:
        self._value = value

    def __repr__(self) -> str:
        return f"<{type(self).__name__}({self._typecode!r}, {self._value!r})>"


# Told by `__init__`, not by `__new__`, which takes more.
Value.__signature__ = Signature([*signature(Value.__init__).parameters.values()][1:])  # type: ignore[attr-defined]


class _Array(_Locked, array.array):  # type: ignore[type-arg]
    """An ``array.array`` with a lock."""


def Array(typecode: Any, sequence: Any, lock: Any = True) -> Any:  # noqa: N802 - the standard name
    """Return an ``array.array`` with a lock.

    Args:
        typecode: its type code. A ctypes class (or ``c``) makes a ctypes array, whose items take the lock.
        sequence: its items, or how many zeros.
        lock: a lock to use; True or False makes one.
    """
    if not _is_plain(typecode):
        kind = _ctypes_class(typecode)
        items = () if isinstance(sequence, int) else tuple(sequence)
        size = sequence if isinstance(sequence, int) else len(items)
        return _synchronized((kind * size)(*items), lock)
    made = _Array(typecode, _zeros(typecode, sequence) if isinstance(sequence, int) else sequence)
    made._take(lock)
    return made


def RawValue(typecode_or_type: Any, *args: Any) -> Any:  # noqa: N802 - the standard name
    """Return what `Value` returns."""
    return Value(typecode_or_type, *args)


def RawArray(typecode_or_type: Any, size_or_initializer: Any) -> Any:  # noqa: N802 - the standard name
    """Return what `Array` returns."""
    return Array(typecode_or_type, size_or_initializer)


def _is_plain(typecode: Any) -> bool:
    """Whether ``array.array`` knows it."""
    return isinstance(typecode, str) and typecode in array.typecodes


def _zeros(typecode: str, size: int) -> Any:
    """So many items that are zero.

    Raises:
        ValueError: if there cannot be so many.
    """
    if size < 0:
        raise ValueError(f"an array of {size} items")
    return "\0" * size if typecode in "uw" else (0 for _ in range(size))


def _ctypes_class(typecode: Any) -> Any:
    """The ctypes class of a type code, as ``multiprocessing.sharedctypes`` has it; a class stands for itself."""
    return _standard.sharedctypes.typecode_to_type.get(typecode, typecode)


def _synchronized(thing: Any, lock: Any) -> Any:
    """A ctypes object behind a lock."""
    return _standard.sharedctypes.synchronized(
        thing, threading.RLock() if isinstance(lock, bool) or lock is None else lock
    )
