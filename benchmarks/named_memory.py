"""Rows about shared memory that is found by name: making a block and taking it away, attaching to one."""

from __future__ import annotations

import importlib
import time
from itertools import repeat
from typing import TYPE_CHECKING, Any

from benchmarks.backend import Backend, Feature
from benchmarks.pace import Pace, seconds_per_operation
from benchmarks.row import Measurement, Target, row

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE = 64 << 10  # bytes


def _shared_memory(backend: Backend) -> Any:
    return importlib.import_module(f"{backend.module}.shared_memory").SharedMemory


def _repeated(operation: Callable[[], object], pace: Pace) -> Measurement:
    def phase(count: int) -> float:
        begin = time.perf_counter()
        for _ in repeat(None, count):
            operation()
        return time.perf_counter() - begin

    return Measurement(seconds_per_operation(phase, pace, first=50))


@row("named memory 64 kB", unit="s", better="lower", needs=Feature.NAMED_MEMORY, target=Target(ratio=1))
def make_fill_unlink(backend: Backend, pace: Pace) -> Measurement:
    """`SharedMemory(create=True, size=64 kB)`, filled; `close` and `unlink`."""
    cls, data = _shared_memory(backend), bytes(SIZE)

    def operation() -> None:
        block = cls(create=True, size=SIZE)
        block.buf[:] = data
        block.close()
        block.unlink()

    return _repeated(operation, pace)


@row("named memory empty", unit="s", better="lower", needs=Feature.NAMED_MEMORY)
def make_unlink(backend: Backend, pace: Pace) -> Measurement:
    """The same, a page of it, and never written to."""
    cls = _shared_memory(backend)

    def operation() -> None:
        block = cls(create=True, size=4096)
        block.close()
        block.unlink()

    return _repeated(operation, pace)


@row("named memory attach", unit="s", better="lower", needs=Feature.NAMED_MEMORY, target=Target(ratio=1))
def attach(backend: Backend, pace: Pace) -> Measurement:
    """Attaching to a block of 64 kB, and `close`."""
    cls = _shared_memory(backend)
    block = cls(create=True, size=SIZE)
    try:
        return _repeated(lambda: cls(block.name).close(), pace)
    finally:
        block.close()
        block.unlink()
