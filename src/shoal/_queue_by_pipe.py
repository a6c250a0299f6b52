"""Queues by pipe, for subclasses that reach into the standard library's queues.

A standard ``Queue`` is a pipe, two locks, a semaphore, a buffer and a thread that feeds the pipe from it. There are subclasses that put something else in the place
of a part: loky, and with it joblib, feeds the pipe itself, with its own pickler, and sends the parts to its children one by one. A channel has no such parts,
and a stand-in for each would still not be asked by ``put``. So a class whose code names one of them is derived from the standard class, whatever its author wrote
for a base: it gets the parts, and works as it was written to. For ``isinstance`` it is a queue of shoal's all the same.

Such a queue is as fast and as safe as the standard library's, but for the locks, which are those of the context that makes it. It relies on `Connection`, of
which its ends are: foreign picklers know that class.
"""

from __future__ import annotations

import functools
from abc import ABCMeta
from types import CodeType, FunctionType

from shoal import _standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from shoal._connection.stream import Connection

__all__ = ["QueueType"]

OWN = "shoal.queues"  # whose classes each have a standard one of their name
# What a standard queue consists of and a channel does not. (Its ends, `_reader` and `_writer`, every queue of shoal's has.)
PARTS = frozenset(
    {
        "_buffer",
        "_feed",
        "_finalize_close",
        "_finalize_join",
        "_ignore_epipe",
        "_notempty",
        "_opid",
        "_poll",
        "_recv_bytes",
        "_rlock",
        "_sem",
        "_send_bytes",
        "_start_thread",
        "_wlock",
    }
)


class QueueType(ABCMeta):
    """The type of shoal's queue classes, which chooses what a new subclass is derived from. One of abstract base classes, so that a queue may be one of these as well."""

    _stands_for: QueueType

    def __new__(mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **keywords: Any) -> Any:
        """Make a class: a queue by pipe, if its code names a part that only such a one has."""
        if not PARTS.isdisjoint(_names(namespace)):
            replaced = tuple(
                _by_pipe(base) if type(base) is mcls and base.__module__ == OWN else base for base in bases
            )
            if replaced != bases:
                return type(name, replaced, namespace, **keywords)
        return super().__new__(mcls, name, bases, namespace, **keywords)

    def __instancecheck__(cls, instance: object) -> bool:
        return super().__instancecheck__(instance) or cls.__subclasscheck__(type(instance))

    def __subclasscheck__(cls, subclass: type) -> bool:
        return super().__subclasscheck__(subclass) or super().__subclasscheck__(
            getattr(subclass, "_stands_for", object)
        )


def _names(namespace: dict[str, Any]) -> Iterator[str]:
    """What a class defines, and the attributes and globals that its methods' code names."""
    yield from namespace
    codes: list[CodeType] = []
    for value in namespace.values():
        methods = (
            (value.fget, value.fset, value.fdel)
            if isinstance(value, property)
            else (getattr(value, "__func__", value),)
        )
        codes += [method.__code__ for method in methods if isinstance(method, FunctionType)]
    while codes:
        code = codes.pop()
        yield from code.co_names
        codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]


@functools.cache
def _by_pipe(kind: QueueType) -> type:
    """Derive from the standard class of the same name."""
    standard: Any = getattr(_standard.queues, kind.__name__)

    def __init__(self: Any, *arguments: Any, **keywords: Any) -> None:  # noqa: N807 - a method of the class below
        standard.__init__(self, *arguments, **keywords)
        self._reader, self._writer = _taken_over(self._reader), _taken_over(self._writer)
        # The standard object holds methods of the ends that it was made with.
        if hasattr(self, "_reset"):
            self._reset()
        else:
            self._poll = self._reader.poll

    namespace = {"__init__": __init__, "__doc__": standard.__doc__, "__module__": kind.__module__, "_stands_for": kind}
    return type(kind.__name__, (standard,), namespace)


def _taken_over(end: Any) -> Connection:
    from shoal._connection.stream import Connection  # noqa: PLC0415 - only for such a queue

    handle, end._handle = end._handle, None
    return Connection(handle, end.readable, end.writable)
