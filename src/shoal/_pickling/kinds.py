"""Which types this process has pickled before, so that the first of a kind can be looked at more closely.

The interpreter's pickler asks its dispatch table about each object that is not of one of its own types. `Kinds` is such a table; it notes who asks for a type
that is not known. Known types are in the table, with what the pickler would do anyway, so they cost nothing.

Types whose loading runs no code but the interpreter's are known from the start: those of the standard library, and classes that leave it to ``object`` how they
are pickled and made.
"""

from __future__ import annotations

import operator
import pickle
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Kinds", "forget_noted", "learn", "noted", "noted_here"]

MOST = 4096  # types that are known; more are made up on the way, and are not noted any more
LIBRARY = frozenset({*sys.stdlib_module_names, "shoal"})
# How an object of a plain class is taken apart and put together again; whoever defines one of these has it run there.
HOOKS = ("__reduce_ex__", "__reduce__", "__getstate__", "__new__", "__setattr__")
ADDITIONS = ("__setstate__", "__getnewargs__", "__getnewargs_ex__")

_known: set[type] = set()
_reduce = operator.methodcaller("__reduce_ex__", pickle.HIGHEST_PROTOCOL)

noted: list[tuple[int, type]] = []  # (thread, type); a type once for each object of it


class Kinds(dict[type, "Callable[[Any], Any]"]):
    """Reducing functions by type: a pickler's dispatch table, which notes the types that are not known."""

    def __missing__(self, kind: type) -> Callable[[Any], Any]:
        if len(_known) < MOST and not issubclass(kind, type):
            if kind in _known or _runs_no_code(kind):
                _known.add(kind)
                self[kind] = _reduce
                return _reduce
            noted.append((threading.get_ident(), kind))
        raise KeyError(kind)


def _runs_no_code(kind: type) -> bool:
    """Whether loading an object of this type runs nothing but the interpreter's own code, apart from what its parts run."""
    try:
        if kind.__module__.partition(".")[0] in LIBRARY:
            return True
        return all(getattr(kind, name) is getattr(object, name) for name in HOOKS) and not any(
            hasattr(kind, name) for name in ADDITIONS
        )
    except Exception:  # noqa: BLE001 - a metaclass may do anything
        return False


def forget_noted() -> None:
    """Begin anew to note types."""
    noted.clear()


def noted_here() -> set[type]:
    """The types that were not known in what this thread has pickled since then."""
    here = threading.get_ident()
    return {kind for thread, kind in noted if thread == here}


def learn(kinds: set[type]) -> None:
    """Know these types from now on."""
    _known.update(kinds)
