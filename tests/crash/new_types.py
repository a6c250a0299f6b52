"""Types whose loading runs code of their own; in a module that workers import."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pool_tasks as tasks


class Moved:
    """Text on its way: in a file from when it is pickled until it is loaded."""

    def __init__(self, path: str, text: str) -> None:
        self.path, self.text = path, text

    def __getstate__(self) -> tuple[str, int]:
        written = Path(f"{self.path}.{time.monotonic_ns()}")
        written.write_text(self.text, encoding="utf-8")
        return str(written), len(self.text)

    def __setstate__(self, state: tuple[str, int]) -> None:
        path = Path(state[0])
        self.path, self.text = str(path), path.read_text(encoding="utf-8")
        assert len(self.text) == state[1]
        path.unlink()


def moved(path: str, text: str) -> Moved:
    return Moved(path, text)


class Opened:
    """Loaded as an open file, which cannot be pickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path,)


class Counted:
    """Notes in a file who loads it."""

    def __init__(self, path: str, padding: bytes = b"") -> None:
        self.path, self.padding = path, padding

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        with Path(self.path).open("a", encoding="utf-8") as file:
            file.write(f"{os.getpid()}\n")


def counted(path: str, size: int = 0) -> Counted:
    return Counted(path, bytes(size))


@dataclass
class Beside:
    """What runs no code when it is loaded, and has such a thing in it."""

    thing: object


def beside(what: str) -> Beside:
    return Beside(tasks.make(what))


def by_value(what: str) -> list[object]:
    """Make it beside what is only pickled by value."""
    return [lambda: None, tasks.make(what)]


def after_a_while(item: int | str) -> object:
    time.sleep(0.001)
    return tasks.plain_or_pickled(item)


class TwoWordsError(Exception):
    """Taken apart in its own way."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")
        self.words = first, second

    def __reduce__(self) -> tuple[Any, ...]:
        return TwoWordsError, self.words


def raise_two_words() -> None:
    raise TwoWordsError("very", "wrong")
