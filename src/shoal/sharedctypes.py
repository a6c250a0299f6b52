"""ctypes objects in shared memory, with or without a lock: Value, Array, RawValue, RawArray.

The standard library's names, arguments and exceptions, and its kind of objects: what is shared are ordinary ctypes objects (``c_int``, ``c_double_Array_10``,
a ``Structure``), whose memory lies in the tree's arena. What is different:

* A number, or one item of an array, is read and written in one native call that takes the lock, does its work and lets go. So is ``Synchronized.add``.
* Everything here can be sent to any process of the tree at any time, not only while a child is being started.
* A process that is killed while it holds the lock hangs nobody: the lock is an ``RLock`` of ``shoal.synchronize`` unless another one is given.
* The wrappers offer the buffer protocol: ``memoryview(array)`` and ``numpy.asarray(array)`` are views of the shared memory, without a copy and without the
  lock.

Relies on `shoal.heap` for the memory, and on the native core for reading and writing it (``native/bindings/cell_type.hpp``).
"""

from __future__ import annotations

import ctypes
import weakref
from typing import TYPE_CHECKING, Any

from shoal import _native, _standard, reduction
from shoal._pickling.registrations import registration
from shoal.heap import BufferWrapper
from shoal.synchronize import RLock

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

__all__ = ["Array", "RawArray", "RawValue", "Value", "copy", "synchronized"]

typecode_to_type: dict[str, Any] = {
    "c": ctypes.c_char,
    "u": ctypes.c_wchar,
    "b": ctypes.c_byte,
    "B": ctypes.c_ubyte,
    "h": ctypes.c_short,
    "H": ctypes.c_ushort,
    "i": ctypes.c_int,
    "I": ctypes.c_uint,
    "l": ctypes.c_long,
    "L": ctypes.c_ulong,
    "q": ctypes.c_longlong,
    "Q": ctypes.c_ulonglong,
    "f": ctypes.c_float,
    "d": ctypes.c_double,
}

# What the native core reads and writes by itself. Exactly these types: a class derived from one has a mind of its own.
_codes: dict[Any, str] = {kind: code for code, kind in typecode_to_type.items() if code not in "cu"}
_codes[ctypes.c_bool] = "?"

_standard_synchronized: Any = _standard.sharedctypes


# --- raw objects --------------------------------------------------------------------------------------------------------


def RawValue(typecode_or_type: Any, *args: Any) -> Any:  # noqa: N802
    """Return a ctypes object in shared memory, without a lock.

    Args:
        typecode_or_type: a ctypes type, or a type code of the ``array`` module.
        args: what the type is called with. Without any the object is all zeros.

    Raises:
        MemoryError: if the arena has no room for it; the message has the sizes.
    """
    obj = _new_value(typecode_to_type.get(typecode_or_type, typecode_or_type))
    obj.__init__(*args)
    return obj


def RawArray(typecode_or_type: Any, size_or_initializer: Any) -> Any:  # noqa: N802
    """Return a ctypes array in shared memory, without a lock.

    Args:
        typecode_or_type: the type of its items: a ctypes type, or a type code of the ``array`` module.
        size_or_initializer: how many items, all zero; or a sequence of them.

    Raises:
        MemoryError: if the arena has no room for it; the message has the sizes.
    """
    type_ = typecode_to_type.get(typecode_or_type, typecode_or_type)
    if isinstance(size_or_initializer, int):
        return _new_value(type_ * size_or_initializer)
    array = _new_value(type_ * len(size_or_initializer))
    array.__init__(*size_or_initializer)
    return array


def copy(obj: Any) -> Any:
    """Return a copy of a ctypes object in shared memory of its own."""
    twin = _new_value(type(obj))
    ctypes.memmove(ctypes.addressof(twin), ctypes.addressof(obj), ctypes.sizeof(twin))
    return twin


def _new_value(type_: Any) -> Any:
    return rebuild_ctype(type_, BufferWrapper(ctypes.sizeof(type_)), None)


# --- objects with a lock ------------------------------------------------------------------------------------------------


def Value(typecode_or_type: Any, *args: Any, lock: Any = True, ctx: Any = None) -> Any:  # noqa: N802
    """Return a ctypes object in shared memory, with a lock.

    Args:
        typecode_or_type: a ctypes type, or a type code of the ``array`` module.
        args: what the type is called with. Without any the object is all zeros.
        lock: True makes an ``RLock``; a lock is used as it is; False gives what `RawValue` gives.
        ctx: the context whose ``RLock`` it is.

    Raises:
        AttributeError: if the lock has no ``acquire``.
        MemoryError: if the arena has no room for it; the message has the sizes.
    """
    obj = RawValue(typecode_or_type, *args)
    return obj if lock is False else synchronized(obj, _lock_for(lock, ctx), ctx=ctx)


def Array(typecode_or_type: Any, size_or_initializer: Any, *, lock: Any = True, ctx: Any = None) -> Any:  # noqa: N802
    """Return a ctypes array in shared memory, with a lock.

    Args:
        typecode_or_type: the type of its items: a ctypes type, or a type code of the ``array`` module.
        size_or_initializer: how many items, all zero; or a sequence of them.
        lock: True makes an ``RLock``; a lock is used as it is; False gives what `RawArray` gives.
        ctx: the context whose ``RLock`` it is.

    Raises:
        AttributeError: if the lock has no ``acquire``.
        MemoryError: if the arena has no room for it; the message has the sizes.
    """
    obj = RawArray(typecode_or_type, size_or_initializer)
    return obj if lock is False else synchronized(obj, _lock_for(lock, ctx), ctx=ctx)


def synchronized(obj: Any, lock: Any = None, ctx: Any = None) -> Any:
    """Return a wrapper that guards a ctypes object with a lock.

    Args:
        obj: any ctypes object; what the wrapper shares between processes is one of `RawValue` or `RawArray`.
        lock: an ``RLock`` of its own unless given.
        ctx: the context whose ``RLock`` it is.
    """
    if isinstance(obj, _standard_synchronized.SynchronizedBase):
        raise AssertionError("object already synchronized")  # noqa: TRY004 - the standard library's
    if isinstance(obj, ctypes._SimpleCData):
        return Synchronized(obj, lock, ctx)
    if isinstance(obj, ctypes.Array):
        return (SynchronizedString if obj._type_ is ctypes.c_char else SynchronizedArray)(obj, lock, ctx)
    return _class_for(type(obj))(obj, lock, ctx)


def _lock_for(lock: Any, ctx: Any) -> Any:
    if lock in (True, None):
        return RLock() if ctx is None else ctx.RLock()
    if not hasattr(lock, "acquire"):
        raise AttributeError(f"{lock!r} has no method 'acquire'")
    return lock


class SynchronizedBase(_native.Cell, _standard_synchronized.SynchronizedBase):  # type: ignore[misc]
    """A ctypes object with a lock; ``with`` holds the lock.

    Args:
        obj: the ctypes object.
        lock: an ``RLock`` of its own unless given.
        ctx: the context whose ``RLock`` it is.
    """

    def __init__(self, obj: Any, lock: Any = None, ctx: Any = None) -> None:
        if not lock:
            lock = RLock() if ctx is None else ctx.RLock()
        kind, length = (obj._type_, obj._length_) if isinstance(obj, ctypes.Array) else (type(obj), 1)
        self._bind(obj, lock, _codes.get(kind, "") if _wrapper_of(obj) is not None else "", length)

    def __reduce__(self) -> tuple[Any, ...]:
        wrapper = _wrapper_of(self._obj)
        if wrapper is None:
            return synchronized, (self._obj, self._lock)
        return _rebuild_synchronized, (*_taken_apart(type(self._obj)), wrapper._reference(), self._lock)

    def __copy__(self) -> NoReturn:
        """Refuse, as the standard library does: what travels is a reference, and "the copy" would be the same memory."""
        raise RuntimeError(
            f"{type(self).__name__} objects are shared, not copied: sharedctypes.copy(value.get_obj()) has memory of its own"
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> NoReturn:
        """Refuse, for the same reason."""
        self.__copy__()


class Synchronized(SynchronizedBase, _native.ValueCell, _standard_synchronized.Synchronized):  # type: ignore[misc]
    """A value with a lock: ``value`` is read and written under it, ``add`` does both at once."""


class SynchronizedArray(SynchronizedBase, _native.ArrayCell, _standard_synchronized.SynchronizedArray):  # type: ignore[misc]
    """An array with a lock: an item or a slice is read and written under it."""

    def __bytes__(self) -> bytes:
        # The buffer would give the bytes of the memory; the standard library's arrays give one for each item.
        return bytes(iter(self))


def make_property(name: str) -> property:
    """Return a property that reads and writes an attribute of the ctypes object under the lock."""
    try:
        return prop_cache[name]
    except KeyError:
        pass

    def get(self: Any) -> Any:
        with self:
            return getattr(self._obj, name)

    def set_(self: Any, value: Any) -> None:
        with self:
            setattr(self._obj, name, value)

    return prop_cache.setdefault(name, property(get, set_))


prop_cache: dict[str, property] = {}
class_cache: weakref.WeakKeyDictionary[type, type] = weakref.WeakKeyDictionary()


class SynchronizedString(SynchronizedArray, _standard_synchronized.SynchronizedString):  # type: ignore[misc]
    """An array of ``c_char`` with a lock: ``value`` is the bytes before the first zero, ``raw`` are all."""

    value = make_property("value")
    raw = make_property("raw")


def _class_for(cls: Any) -> Any:
    """The wrapper's class for a ``Structure`` or ``Union``: each field is a property."""
    try:
        return class_cache[cls]
    except KeyError:
        fields = {field[0]: make_property(field[0]) for field in cls._fields_}
        made = class_cache[cls] = type(f"Synchronized{cls.__name__}", (SynchronizedBase,), fields)
        return made


# --- how they travel ----------------------------------------------------------------------------------------------------


def _wrapper_of(obj: Any) -> BufferWrapper | None:
    """The memory of an object that was made here; None of any other. A copy of an object has its attributes, and other memory."""
    wrapper = getattr(obj, "_wrapper", None)
    if isinstance(wrapper, BufferWrapper) and wrapper._address == ctypes.addressof(obj):
        return wrapper
    return None


def _taken_apart(type_: Any) -> tuple[Any, tuple[int, ...]]:
    """A type that can be pickled and the lengths of the arrays around it, the outermost first."""
    lengths = []
    while issubclass(type_, ctypes.Array) and type_.__name__ == f"{type_._type_.__name__}_Array_{type_._length_}":
        lengths.append(type_._length_)
        type_ = type_._type_
    return type_, tuple(lengths)


def reduce_ctype(obj: Any) -> Any:
    """Take a ctypes object apart for a pickle: one in shared memory by reference, any other as if it had nothing to do with this module."""
    return _reduce(obj, None)


def _reduce(obj: Any, before: Callable[[Any], Any] | None) -> Any:
    """The same; `before` is what else is registered for its type, by the standard library perhaps."""
    wrapper = _wrapper_of(obj)
    if wrapper is not None:
        type_, lengths = _taken_apart(type(obj))
        return rebuild_ctype, (type_, wrapper, lengths)
    if before is not None and hasattr(obj, "_wrapper") and not isinstance(obj._wrapper, BufferWrapper):
        return before(obj)
    return obj.__reduce_ex__(reduction.PROTOCOL)


def rebuild_ctype(type_: Any, wrapper: BufferWrapper, length: int | tuple[int, ...] | None) -> Any:
    """Make a ctypes object of a type, or of an array of it, in the memory of a wrapper.

    Args:
        type_: the type, or that of the innermost items.
        wrapper: its memory.
        length: None, or the length of the array; several, the outermost first, of an array of arrays.
    """
    for each in reversed(length if isinstance(length, tuple) else () if length is None else (length,)):
        type_ = type_ * each
    obj = type_.from_buffer(wrapper)
    obj._wrapper = wrapper
    wrapper._registration = registration(type_, _reduce)
    return obj


def _rebuild_synchronized(type_: Any, lengths: tuple[int, ...], reference: _native.Reference, lock: Any) -> Any:
    return synchronized(rebuild_ctype(type_, BufferWrapper._adopt(reference), lengths), lock)


def __getattr__(name: str) -> Any:
    """Find what else programs import from the standard module."""
    return getattr(_standard.sharedctypes, name)
