"""What goes to whoever loads it, and to nobody after him: made in a worker, which keeps the other end."""

from __future__ import annotations

import socket
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np

import shoal

_kept: list[Any] = []


def pipe() -> Any:
    first, second = shoal.Pipe()
    second.send("sent")
    _kept[:] = [second]
    return first


def connected_socket() -> socket.socket:
    first, second = socket.socketpair()
    second.send(b"sent")
    _kept[:] = [second]
    return first


def filled_queue() -> Any:
    queue = shoal.SimpleQueue()
    queue.put("sent")
    return queue


class FirstOf:
    """Loaded as the first item of a queue, which is taken from it."""

    def __init__(self, queue: Any) -> None:
        self.queue = queue

    def __reduce__(self) -> tuple[Any, ...]:
        return _first, (self.queue,)


def _first(queue: Any) -> tuple[Any, bool]:
    return queue.get(), queue.empty()


def first_of_two() -> FirstOf:
    queue = filled_queue()
    queue.put("sent later")
    return FirstOf(queue)


def shared_number() -> Any:
    return shoal.Value("i", 7)


class HasSocketError(Exception):
    """Pickled by its ``args``."""


def raise_with_a_socket() -> None:
    raise HasSocketError(connected_socket())


class Note:
    """Text in a file, which is gone when the text has been loaded."""

    def __init__(self, path: str) -> None:
        self.path = path


def _take(path: str) -> str:
    text = Path(path).read_text(encoding="utf-8")
    Path(path).unlink()
    return text


def _reduce_note(note: Note) -> tuple[Any, ...]:
    return _take, (note.path,)


ForkingPickler.register(Note, _reduce_note)


def noted(path: str) -> Note:
    Path(path).write_text("noted", encoding="utf-8")
    return Note(path)


class Doubled:
    """An array that is doubled, in place, by being loaded."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array

    def __reduce__(self) -> tuple[Any, ...]:
        return _double, (self.array,)


def _double(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    array *= 2
    return array


def ones_doubled(count: int) -> Doubled:
    return Doubled(np.ones(count, order="F"))
