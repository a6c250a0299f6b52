"""Where in an object the part lies that could not be pickled: ``args[0].handle``.

The search runs only after a failure. It walks down from the object, into whichever part fails when it is pickled alone, as far as a
failing part can be found: through containers, attributes, slots, closures, and what reducing functions return. Wide containers are halved, so that a level
costs about as much as pickling it twice. It is bounded in time and depth, survives cycles, and never raises.
"""

from __future__ import annotations

import copyreg
import time
from collections import deque
from functools import partial
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Parts = list[tuple[str, Any]]  # how each part is written behind its owner's path, and the part

__all__ = ["path_to_culprit"]

SECONDS = 1.0
DEPTH = 100
FEW = 8  # parts that are tried one by one
ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes, bytearray})


def path_to_culprit(
    obj: object,
    attempt: Callable[[object], BaseException | None],
    reducers: Mapping[type, Callable[[Any], Any]],
) -> tuple[list[str], BaseException | None]:
    """Find the innermost part of `obj` that fails.

    Args:
        obj: what could not be pickled.
        attempt: pickles something for a trial; returns what that raised, or None.
        reducers: the reducing functions in force.

    Returns:
        The steps of the path, outermost first (``['[0]', '.handle']``), and what pickling the culprit alone raises (None if nothing was found).
    """
    deadline = time.monotonic() + SECONDS
    path: list[str] = []
    seen = {id(obj)}
    error: BaseException | None = None
    while len(path) < DEPTH:
        parts = [part for part in _parts(obj, reducers) if type(part[1]) not in ATOMS and id(part[1]) not in seen]
        found = _failing(parts, attempt, deadline)
        if found is None:
            break
        step, obj, error = found
        path.append(step)
        seen.add(id(obj))
    return path, error


def _failing(
    parts: Parts, attempt: Callable[[object], BaseException | None], deadline: float
) -> tuple[str, Any, BaseException] | None:
    """The first of the parts that fails when it is pickled alone."""
    while len(parts) > FEW and time.monotonic() < deadline:
        half = parts[: len(parts) // 2]
        parts = half if attempt([part for _, part in half]) is not None else parts[len(half) :]
    for step, part in parts:
        if time.monotonic() > deadline:
            break
        error = attempt(part)
        if error is not None:
            return step, part, error
    return None


def _parts(obj: Any, reducers: Mapping[type, Callable[[Any], Any]]) -> Parts:  # noqa: PLR0911 - a table
    """What pickling `obj` pickles in turn. Nothing if asking fails: then `obj` itself is the culprit."""
    kind = type(obj)
    if kind is dict:
        return _items(obj)
    if kind in {list, tuple, set, frozenset, deque}:
        return [(f"[{index}]", part) for index, part in enumerate(list(obj))]
    if kind is FunctionType:
        return _of_function(obj)
    if kind is MethodType:
        return [(".__self__", obj.__self__)]
    if isinstance(obj, type):
        return [(f".{name}", part) for name, part in list(vars(obj).items()) if name not in {"__dict__", "__weakref__"}]
    try:
        reduce = reducers.get(kind)
        return _of_reduced(obj, reduce(obj) if reduce is not None else obj.__reduce_ex__(5))
    except Exception:  # noqa: BLE001 - foreign code: whatever it raises, it is the culprit
        return []


def _items(mapping: Mapping[Any, Any]) -> Parts:
    items = list(mapping.items())
    return [(f"[{key!r:.40}]", value) for key, value in items] + [(f" key {key!r:.40}", key) for key, _ in items]


def _of_function(function: FunctionType) -> Parts:
    code = function.__code__
    parts: Parts = []
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=False):
        try:
            parts.append((f".<closure>.{name}", cell.cell_contents))
        except ValueError:  # not assigned yet
            continue
    names = [name for name in code.co_names if name in function.__globals__]
    parts += [(f".<globals>.{name}", function.__globals__[name]) for name in names]
    parts += [(f".__defaults__[{index}]", value) for index, value in enumerate(function.__defaults__ or ())]
    return parts


def _of_reduced(obj: Any, reduced: Any) -> Parts:
    if isinstance(reduced, str):
        return []
    function, args, state, items, pairs = (*reduced, *(None,) * 5)[:5]
    owned = getattr(obj, "__dict__", {})
    if isinstance(obj, partial):
        owned = {"func": obj.func, "args": obj.args, "keywords": obj.keywords, **owned}
    parts: Parts = []
    made_by = getattr(function, "__name__", repr(function))
    if function is getattr(copyreg, "__newobj__", None) or made_by == "__newobj_ex__":
        args = args[1:]
    for index, part in enumerate(args):
        attribute = next((name for name, value in owned.items() if value is part), None)
        parts.append((f".{attribute}" if attribute else f".<argument {index} of {made_by}>", part))
    for attributes in state if isinstance(state, tuple) and len(state) == 2 else (state,):  # noqa: PLR2004 - (__dict__, slots)
        if isinstance(attributes, dict):
            parts += [(f".{name}", part) for name, part in attributes.items()]
        elif attributes is not None:
            parts.append((".__getstate__()", attributes))
    parts += [(f"[{index}]", part) for index, part in enumerate(items or ())]
    if pairs is not None:
        parts += _items(dict(pairs))
    return parts
