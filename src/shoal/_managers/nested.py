"""Nested containers: ``manager.dict(nested=True)``, ``list(nested=True)``.

In a plain managed dict a value is a copy, so an edit of ``d["a"]["b"]`` is an edit of a copy, and lost. In a nested one every plain dict, list or set that is put in
becomes part of the server's tree, at any depth, and what is got out is a proxy of it: an edit anywhere is seen by all.

What is put in is taken over as a copy; a proxy of a container of the same server is that container itself. Instances of subclasses, and what is inside tuples or objects of other
kinds, stay values. ``_getvalue()``, ``copy.deepcopy`` and ``==`` see plain containers.
"""

from __future__ import annotations

from shoal import _standard
from shoal._managers.containers import DictProxy, ListProxy, SetProxy
from shoal._managers.proxies import RebuildProxy, rebuilding
from shoal._managers.words import Token

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Self

__all__ = ["KINDS", "NestedDict", "NestedDictProxy", "NestedList", "NestedListProxy", "NestedSet", "NestedSetProxy"]

_process: Any = _standard.process


def _taken_in(value: Any, seen: dict[int, Any] | None = None) -> Any:
    """What stands for a value in the tree: containers become part of it, all else is what it is."""
    kind = type(value)
    if kind not in _PARTS:
        return value
    seen = {} if seen is None else seen
    part = seen.get(id(value))
    if part is None:
        part = seen[id(value)] = _PARTS[kind]()
        part._fill(value, seen)
    return part


def _plain(value: Any, seen: dict[int, Any] | None = None) -> Any:
    """A plain copy of a part of the tree, at every depth."""
    if not isinstance(value, Part):
        return value
    seen = {} if seen is None else seen
    if id(value) not in seen:
        value._copy_into(seen)
    return seen[id(value)]


class Part:
    """A container in a server's tree. Pickled for somebody else, it is a proxy.

    Attributes:
        shared_ident: what the server's table calls it; None: it has not been asked for.
    """

    __slots__ = ()
    shared_ident: str | None
    _proxytype: Any

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        server = getattr(_process.current_process(), "_manager_server", None)
        if server is None:
            return _as_it_is, (_plain(self),)
        token = Token(type(self).__name__, server.address, server.objects.lend(self))
        return rebuilding(_rebuild, self._proxytype, token, server.serializer, {})

    def _plain_copy(self) -> Any:
        return _plain(self)

    def _fill(self, values: Any, seen: dict[int, Any]) -> None:
        raise NotImplementedError

    def _copy_into(self, seen: dict[int, Any]) -> None:
        raise NotImplementedError


def _as_it_is(value: Any) -> Any:
    return value


def _rebuild(kind: Any, token: Any, serializer: str, kwds: dict[str, Any]) -> Any:
    """In the server whose part it is, the part; elsewhere a proxy of it."""
    server = getattr(_process.current_process(), "_manager_server", None)
    if server is not None and server.address == token.address:
        return server.objects.find(token.id)[0]
    return RebuildProxy(kind, token, serializer, kwds)


def _in_its_tree(reduced: tuple[Any, ...]) -> tuple[Any, ...]:
    """How a proxy is made again, such that in its own server it is the part itself."""
    rebuild, what = reduced
    return (_rebuild if rebuild is RebuildProxy else rebuild), what


class NestedDict(Part, dict):  # type: ignore[type-arg]
    """A dict in a server's tree."""

    __slots__ = ("__weakref__", "shared_ident")

    def __init__(self, /, *args: Any, **kwds: Any) -> None:
        super().__init__()
        self.shared_ident = None
        self.update(*args, **kwds)

    def _fill(self, values: Any, seen: dict[int, Any]) -> None:
        for key, value in values.items():
            dict.__setitem__(self, key, _taken_in(value, seen))

    def _copy_into(self, seen: dict[int, Any]) -> None:
        copy = seen[id(self)] = {}
        copy.update((key, _plain(value, seen)) for key, value in self.items())

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, _taken_in(value))

    def update(self, /, *args: Any, **kwds: Any) -> None:
        """As ``dict.update``; containers are taken in."""
        self._fill(dict(*args, **kwds), {})

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """As ``dict.setdefault``; a container is taken in."""
        return super().setdefault(key, _taken_in(default)) if key not in self else self[key]

    def __ior__(self, other: Any) -> Self:  # type: ignore[misc]
        self.update(other)
        return self

    @classmethod
    def fromkeys(cls, iterable: Iterable[Any], value: Any = None) -> Any:
        """As ``dict.fromkeys``, which looks at no dict: a plain one."""
        return dict.fromkeys(iterable, value)


class NestedList(Part, list):  # type: ignore[type-arg]
    """A list in a server's tree."""

    __slots__ = ("__weakref__", "shared_ident")

    def __init__(self, values: Iterable[Any] = ()) -> None:
        super().__init__()
        self.shared_ident = None
        self.extend(values)

    def _fill(self, values: Any, seen: dict[int, Any]) -> None:
        super().extend([_taken_in(value, seen) for value in values])

    def _copy_into(self, seen: dict[int, Any]) -> None:
        copy = seen[id(self)] = []
        copy.extend(_plain(value, seen) for value in self)

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, [_taken_in(one) for one in value] if isinstance(key, slice) else _taken_in(value))

    def __reversed__(self) -> Any:
        # Of a plain copy: an iterator is pickled with what it goes through, and a proxy would ask for one again.
        return reversed(list(self))

    def append(self, value: Any) -> None:
        """As ``list.append``; a container is taken in."""
        super().append(_taken_in(value))

    def insert(self, index: Any, value: Any) -> None:
        """As ``list.insert``; a container is taken in."""
        super().insert(index, _taken_in(value))

    def extend(self, values: Iterable[Any]) -> None:
        """As ``list.extend``; containers are taken in."""
        self._fill(values, {})

    def __iadd__(self, values: Iterable[Any]) -> Self:  # type: ignore[misc]
        self.extend(values)
        return self


class NestedSet(Part, set):  # type: ignore[type-arg]
    """A set in a server's tree. Nothing is nested in it: what it holds cannot change."""

    __slots__ = ("shared_ident",)

    def __init__(self, values: Iterable[Any] = ()) -> None:
        super().__init__(values)
        self.shared_ident = None

    def _fill(self, values: Any, seen: dict[int, Any]) -> None:  # noqa: ARG002 - as the others
        self.update(values)

    def _copy_into(self, seen: dict[int, Any]) -> None:
        seen[id(self)] = set(self)

    def __repr__(self) -> str:
        return repr(set(self))


def _returning_plain(name: str) -> Any:
    """A method of sets that makes a new one."""
    method = getattr(set, name)

    def call(self: NestedSet, /, *args: Any) -> Any:
        return method(set(self), *args)

    call.__name__ = call.__qualname__ = name
    return call


for _name in (
    *("__and__", "__or__", "__sub__", "__xor__", "__rand__", "__ror__", "__rsub__", "__rxor__"),
    *("copy", "difference", "intersection", "symmetric_difference", "union"),
):
    setattr(NestedSet, _name, _returning_plain(_name))
del _name

_PARTS: dict[type, Any] = {dict: NestedDict, list: NestedList, set: NestedSet}


# --- proxies ------------------------------------------------------------------------------------------------------------


class NestedDictProxy(DictProxy):
    """Of a dict whose containers are proxies."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _in_its_tree(super().__reduce__())


class NestedListProxy(ListProxy):
    """Of a list whose containers are proxies."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _in_its_tree(super().__reduce__())


class NestedSetProxy(SetProxy):
    """Of a set in a nested container."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _in_its_tree(super().__reduce__())


NestedDict._proxytype, NestedList._proxytype, NestedSet._proxytype = NestedDictProxy, NestedListProxy, NestedSetProxy
KINDS = {
    "NestedDict": (NestedDict, NestedDictProxy),
    "NestedList": (NestedList, NestedListProxy),
    "NestedSet": (NestedSet, NestedSetProxy),
}
