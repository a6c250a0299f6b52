"""What loading makes of a result is what the program gets, and it is loaded once: types that show if it was not so."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


class PrefixedError(Exception):
    """Gets another prefix each time that it is loaded."""

    def __init__(self, text: str) -> None:
        super().__init__(f"failed: {text}")


def fail(text: str) -> None:
    raise PrefixedError(text)


class Packed:
    """Goes packed, and is not unpacked where it is loaded."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __getstate__(self) -> dict[str, Any]:
        return {"text": self.text.encode()}


class LoadedWhere:
    """Loaded as the id of the process where it is."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.getpid, ()


ONLY: dict[str, object] = {}  # of this process


class TheOnly:
    """Loaded as what a process has of it, which is not made again."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return _find, (self.name,)


def _find(name: str) -> object:
    return ONLY.get(name)


def _read_and_remove(path: str) -> str:
    text = Path(path).read_text(encoding="utf-8")
    Path(path).unlink()
    return text


class Written:
    """Text in a file, which is gone when the text has been loaded."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return _read_and_remove, (self.path,)


def write(path: str) -> Written:
    Path(path).write_text("written", encoding="utf-8")
    return Written(path)


def _open_and_remove(path: str) -> Any:
    file = Path(path).open(encoding="utf-8")  # noqa: SIM115 - who loads it closes it
    Path(path).unlink()
    return file


class Opened(Written):
    """Loaded as an open file, which cannot be pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_and_remove, (self.path,)


def write_to_open(path: str) -> Opened:
    write(path)
    return Opened(path)
