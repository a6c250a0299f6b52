"""What holds values: the types that are made in the server, and their proxies."""

from __future__ import annotations

import types

from shoal import _standard
from shoal._managers.proxies import BaseProxy, MakeProxyType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

__all__ = [
    "Array",
    "ArrayProxy",
    "BaseListProxy",
    "DictProxy",
    "IteratorProxy",
    "ListProxy",
    "Namespace",
    "NamespaceProxy",
    "SetProxy",
    "Value",
    "ValueProxy",
]

_managers: Any = _standard.managers

# A namespace is pickled under the standard library's name, so that a client without shoal can have a copy.
Namespace = _managers.Namespace
Value = _managers.Value
Array = _managers.Array


class IteratorProxy(BaseProxy):
    """Of an iterator or generator."""

    _exposed_ = ("__next__", "send", "throw", "close")

    def __iter__(self) -> Self:
        return self

    def __next__(self, *args: Any) -> Any:
        return self._callmethod("__next__", args)

    def send(self, *args: Any) -> Any:
        """Send a value into a generator."""
        return self._callmethod("send", args)

    def throw(self, *args: Any) -> Any:
        """Raise an exception in a generator."""
        return self._callmethod("throw", args)

    def close(self, *args: Any) -> Any:
        """End a generator."""
        return self._callmethod("close", args)


class NamespaceProxy(BaseProxy):
    """Of a `Namespace`: its attributes are read, set and deleted there, except those that begin with an underscore."""

    _exposed_ = ("__getattribute__", "__setattr__", "__delattr__")

    def __getattr__(self, key: str) -> Any:
        if key[0] == "_":
            return object.__getattribute__(self, key)
        return self._callmethod("__getattribute__", (key,))

    def __setattr__(self, key: str, value: Any) -> None:
        if key[0] == "_":
            object.__setattr__(self, key, value)
        else:
            self._callmethod("__setattr__", (key, value))

    def __delattr__(self, key: str) -> None:
        if key[0] == "_":
            object.__delattr__(self, key)
        else:
            self._callmethod("__delattr__", (key,))


class ValueProxy(BaseProxy):
    """Of a `Value`."""

    _exposed_ = ("get", "set")

    def get(self) -> Any:
        """Return the value."""
        return self._callmethod("get")

    def set(self, value: Any) -> None:
        """Set the value."""
        self._callmethod("set", (value,))

    value = property(get, set, doc="The value.")  # noqa: A003 - the method of that name

    __class_getitem__: Any = classmethod(types.GenericAlias)


def _value_of(thing: Any) -> Any:
    return thing._getvalue() if isinstance(thing, BaseProxy) else thing


class _Comparable(BaseProxy):
    """Equal to what the object is equal to: two proxies are compared by what they stand for."""

    def __eq__(self, other: object) -> Any:
        if isinstance(other, BaseProxy):
            if other._token.address == self._token.address and other._id == self._id:
                return True
            other = other._getvalue()
        return bool(self._getvalue() == other)

    # Equal by a value that changes, so of no use as a key; yet programs keep proxies in sets and dicts, as with the standard library's.
    __hash__ = object.__hash__


BaseListProxy = MakeProxyType(
    "BaseListProxy",
    (
        *("__add__", "__contains__", "__delitem__", "__getitem__", "__imul__", "__len__", "__mul__", "__reversed__"),
        *("__rmul__", "__setitem__", "append", "clear", "copy", "count", "extend", "index", "insert", "pop", "remove"),
        *("reverse", "sort"),
    ),
)


class ListProxy(BaseListProxy, _Comparable):  # type: ignore[misc, valid-type]
    """Of a list."""

    # In terms of what servers of older versions of the standard library know.
    def clear(self) -> None:
        """Remove all items."""
        self._callmethod("__delitem__", (slice(None),))

    def copy(self) -> Any:
        """Return a plain list of the items."""
        return self._callmethod("__getitem__", (slice(None),))

    def __iadd__(self, value: Any) -> Self:
        self._callmethod("extend", (value,))
        return self

    def __imul__(self, value: Any) -> Self:
        self._callmethod("__imul__", (value,))
        return self

    __class_getitem__: Any = classmethod(types.GenericAlias)


_BaseDictProxy = MakeProxyType(
    "_BaseDictProxy",
    (
        *("__contains__", "__delitem__", "__getitem__", "__ior__", "__iter__", "__len__", "__or__", "__reversed__"),
        *(
            "__ror__",
            "__setitem__",
            "clear",
            "copy",
            "fromkeys",
            "get",
            "items",
            "keys",
            "pop",
            "popitem",
            "setdefault",
        ),
        *("update", "values"),
    ),
)
_BaseDictProxy._method_to_typeid_ = {"__iter__": "Iterator"}


class DictProxy(_BaseDictProxy, _Comparable):  # type: ignore[misc, valid-type]
    """Of a dict."""

    # Made here, from one copy: that is what it costs in any case, and servers of older versions of the standard library have no `|`.
    def __or__(self, other: Any) -> Any:
        other = _value_of(other)
        return self._callmethod("copy") | other if isinstance(other, dict) else NotImplemented

    def __ror__(self, other: Any) -> Any:
        return other | self._callmethod("copy") if isinstance(other, dict) else NotImplemented

    def __ior__(self, value: Any) -> Self:
        self._callmethod("update", (_value_of(value),))  # `__ior__` would return the whole dict
        return self

    __class_getitem__: Any = classmethod(types.GenericAlias)


_BaseSetProxy = MakeProxyType(
    "_BaseSetProxy",
    (
        *("__and__", "__contains__", "__ge__", "__gt__", "__iand__", "__ior__", "__isub__", "__iter__", "__ixor__"),
        *("__le__", "__len__", "__lt__", "__or__", "__rand__", "__ror__", "__rsub__", "__rxor__", "__sub__", "__xor__"),
        *("add", "clear", "copy", "difference", "difference_update", "discard", "intersection", "intersection_update"),
        *("isdisjoint", "issubset", "issuperset", "pop", "remove", "symmetric_difference"),
        *("symmetric_difference_update", "union", "update"),
    ),
)
_BaseSetProxy._method_to_typeid_ = {"__iter__": "Iterator"}


class SetProxy(_BaseSetProxy, _Comparable):  # type: ignore[misc, valid-type]
    """Of a set."""

    def __ior__(self, value: Any) -> Self:
        self._callmethod("__ior__", (value,))
        return self

    def __iand__(self, value: Any) -> Self:
        self._callmethod("__iand__", (value,))
        return self

    def __ixor__(self, value: Any) -> Self:
        self._callmethod("__ixor__", (value,))
        return self

    def __isub__(self, value: Any) -> Self:
        self._callmethod("__isub__", (value,))
        return self

    __class_getitem__: Any = classmethod(types.GenericAlias)


ArrayProxy = MakeProxyType("ArrayProxy", ("__len__", "__getitem__", "__setitem__"))
