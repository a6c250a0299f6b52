"""Rows about making and dropping: what it costs, and what it leaves behind.

shoal does a million of each, the others fewer; the figure is per object. By how much the open descriptors grew meanwhile,
and what the arena counts, are extras of the row. Nothing may grow.
"""

from __future__ import annotations

import gc
import time
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import arena
from benchmarks.backend import Backend, Feature
from benchmarks.row import GROWTH, Measurement, Target, row

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.pace import Pace

MILLION = 1_000_000


def _in_use() -> dict[str, int]:
    """What could leak, by name."""
    gc.collect()
    counts = {f"arena {name}": count for name, count in arena.statistics().items() if name != "quota"}
    counts["descriptors"] = len(list(Path("/proc/self/fd").iterdir()))
    return counts


def _made_and_dropped(make: Callable[[], object], count: int) -> Measurement:
    """Seconds per object, and the growth."""
    for _ in repeat(None, max(1, count // 50)):
        make()
    before = _in_use()
    begin = time.perf_counter()
    for _ in repeat(None, count):
        make()
    seconds = time.perf_counter() - begin
    extras: dict[str, float] = {"objects": count}
    extras |= {name + GROWTH: value - before.get(name, 0) for name, value in _in_use().items()}
    return Measurement(seconds / count, extras)


def _count(backend: Backend, pace: Pace, others: int) -> int:
    """A million for shoal, so many for the others."""
    full = MILLION if backend.name == "shoal" else others
    return pace.choose(full=full, quick=full // 100)


@row(
    "make and drop Lock", unit="s", better="lower", needs=Feature.SYNCHRONIZE, target=Target(ratio=1, no_growth=True), most_rounds=3
)  # fmt: skip
def make_and_drop_lock(backend: Backend, pace: Pace) -> Measurement:
    """A `Lock()` made and dropped; a million of them in shoal."""
    return _made_and_dropped(backend.context().Lock, _count(backend, pace, 20_000))


@row(
    "make and drop Queue",
    unit="s",
    better="lower",
    needs=Feature.QUEUE,
    target=Target(ratio=1, no_growth=True),
    most_rounds=3,
)
def make_and_drop_queue(backend: Backend, pace: Pace) -> Measurement:
    """A `Queue()` made and dropped; a million of them in shoal."""
    return _made_and_dropped(backend.context().Queue, _count(backend, pace, 2_000))


@row(
    "make and drop Value",
    unit="s",
    better="lower",
    needs=Feature.SHARED_CTYPES,
    target=Target(ratio=1, no_growth=True),
    most_rounds=3,
)
def make_and_drop_value(backend: Backend, pace: Pace) -> Measurement:
    """A `Value("i")` made and dropped, its lock along with it; a million of them in shoal."""
    context = backend.context()
    return _made_and_dropped(lambda: context.Value("i"), _count(backend, pace, 10_000))


@row(
    "make and drop RawArray",
    unit="s",
    better="lower",
    needs=Feature.SHARED_CTYPES,
    target=Target(ratio=1, no_growth=True),
    most_rounds=3,
)
def make_and_drop_raw_array(backend: Backend, pace: Pace) -> Measurement:
    """A `RawArray("d", 1000)` made and dropped; a million of them in shoal."""
    context = backend.context()
    return _made_and_dropped(lambda: context.RawArray("d", 1000), _count(backend, pace, 50_000))
