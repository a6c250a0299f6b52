"""What partners do with shared ctypes objects that they hold, and the types of some."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import SimpleNamespace


class Point(ctypes.Structure):
    _fields_ = (
        ("x", ctypes.c_double),
        ("y", ctypes.c_double),
        ("tag", ctypes.c_char * 6),
        ("weights", ctypes.c_int * 3),
    )


class Color(ctypes.Union):
    _fields_ = (("word", ctypes.c_uint32), ("parts", ctypes.c_uint8 * 4))


class Handle(ctypes.c_int):
    """A number with a mind of its own: arrays give it as it is."""


def get(held: SimpleNamespace, name: str = "thing") -> Any:
    return getattr(held, name).value


def set_to(held: SimpleNamespace, value: Any, name: str = "thing") -> None:
    getattr(held, name).value = value


def get_item(held: SimpleNamespace, key: Any) -> Any:
    return held.thing[key]


def set_item(held: SimpleNamespace, key: Any, value: Any) -> None:
    held.thing[key] = value


def double_all(held: SimpleNamespace) -> None:
    """Every number in ``held.things``, single ones and arrays of them."""
    for thing in held.things:
        if hasattr(thing, "value"):
            thing.value *= 2
        else:
            thing[:] = [2 * item for item in thing]


def count(held: SimpleNamespace, times: int) -> None:
    for _ in range(times):
        with held.thing.get_lock():
            held.thing.value += 1


def add(held: SimpleNamespace, times: int) -> list[int]:
    return [held.thing.add(1) for _ in range(times)]


def move(held: SimpleNamespace, name: str) -> None:
    """Change every field of a point."""
    point = getattr(held, name)
    point.x, point.y = point.y, point.x
    point.tag = b"moved"
    point.weights[1] = 7


def add_in_numpy(held: SimpleNamespace, number: float) -> None:
    import numpy as np  # noqa: PLC0415 - only here

    view = np.frombuffer(getattr(held.thing, "get_obj", lambda: held.thing)())
    view += number


def put_in_queue(held: SimpleNamespace, value: Any) -> None:
    """Set what comes through ``held.queue``, and send it on."""
    thing = held.queue.get()
    thing.value = value
    held.back.put(thing)
