"""Rows about shared ctypes: what reading and writing a value or an item costs, with its lock, alone and between two processes."""

from __future__ import annotations

from itertools import repeat
from typing import Any

from benchmarks.backend import Backend, Feature
from benchmarks.crew import Crew
from benchmarks.pace import Pace, seconds_per_operation, seconds_per_turn
from benchmarks.row import Measurement, Target, row


@row("value.value", unit="s", better="lower", needs=Feature.SHARED_CTYPES, target=Target(ratio=2))
def value_get(backend: Backend, pace: Pace) -> Measurement:
    """`value.value` of a `Value("i")`, nobody else wants it."""
    value = backend.context().Value("i", 5)

    def loop(count: int) -> None:
        for _ in repeat(None, count):
            value.value  # noqa: B018  (reading it is the work)

    return Measurement(seconds_per_turn(loop, pace))


@row("value.value = x", unit="s", better="lower", needs=Feature.SHARED_CTYPES, target=Target(ratio=2))
def value_set(backend: Backend, pace: Pace) -> Measurement:
    """`value.value = 7` of a `Value("i")`, nobody else wants it."""
    value = backend.context().Value("i")

    def loop(count: int) -> None:
        for _ in repeat(None, count):
            value.value = 7

    return Measurement(seconds_per_turn(loop, pace))


@row("value += 1", unit="s", better="lower", needs=Feature.SHARED_CTYPES, target=Target(ratio=2))
def value_increment(backend: Backend, pace: Pace) -> Measurement:
    """`with value.get_lock(): value.value += 1`, nobody else wants it."""
    value = backend.context().Value("i")
    return Measurement(seconds_per_turn(_increments(value), pace))


@row("value += 1, two processes", unit="increments/s", better="higher", needs=Feature.SHARED_CTYPES, target=Target(ratio=1))  # fmt: skip
def value_increment_contended(backend: Backend, pace: Pace) -> Measurement:
    """Two processes do `with value.get_lock(): value.value += 1` at once; the total is checked."""
    context = backend.context()
    value = context.Value("q")
    expected = 0
    with Crew(context, [_increments(value)] * 2) as crew:

        def phase(count: int) -> float:
            nonlocal expected
            expected += 2 * count
            return crew.phase(count, count)

        seconds = seconds_per_operation(phase, pace, first=1000)
    if value.value != expected:
        raise ValueError(f"increments were lost: counted {value.value} of {expected}")
    return Measurement(2 / seconds)


def _increments(value: Any) -> Any:
    def loop(count: int) -> None:
        for _ in repeat(None, count):
            with value.get_lock():
                value.value += 1

    return loop


@row("array[5]", unit="s", better="lower", needs=Feature.SHARED_CTYPES, target=Target(ratio=5))
def array_get(backend: Backend, pace: Pace) -> Measurement:
    """`array[5]` of an `Array("d", 10)`, nobody else wants it."""
    array = backend.context().Array("d", 10)

    def loop(count: int) -> None:
        for _ in repeat(None, count):
            array[5]

    return Measurement(seconds_per_turn(loop, pace))


@row("array[5] = x", unit="s", better="lower", needs=Feature.SHARED_CTYPES, target=Target(ratio=5))
def array_set(backend: Backend, pace: Pace) -> Measurement:
    """`array[5] = 0.5` of an `Array("d", 10)`, nobody else wants it."""
    array = backend.context().Array("d", 10)

    def loop(count: int) -> None:
        for _ in repeat(None, count):
            array[5] = 0.5

    return Measurement(seconds_per_turn(loop, pace))


@row("array[:]", unit="s", better="lower", needs=Feature.SHARED_CTYPES, target=Target(ratio=1))
def array_slice(backend: Backend, pace: Pace) -> Measurement:
    """`array[:]` of an `Array("i", 1000)`, a list of its items."""
    array = backend.context().Array("i", range(1000))

    def loop(count: int) -> None:
        for _ in repeat(None, count):
            array[:]

    return Measurement(seconds_per_turn(loop, pace))


@row("array[::2]", unit="s", better="lower", needs=Feature.SHARED_CTYPES, target=Target(ratio=1))
def array_stepped_slice(backend: Backend, pace: Pace) -> Measurement:
    """`array[::2]` of an `Array("d", 100_000)`, a list of every other item."""
    array = backend.context().Array("d", range(100_000))

    def loop(count: int) -> None:
        for _ in repeat(None, count):
            array[::2]

    return Measurement(seconds_per_turn(loop, pace))


@row("array[::2] = xs", unit="s", better="lower", needs=Feature.SHARED_CTYPES, target=Target(ratio=1))
def array_stepped_slice_set(backend: Backend, pace: Pace) -> Measurement:
    """Every other item of an `Array("d", 100_000)` from a list."""
    array = backend.context().Array("d", 100_000)
    values = [index / 2 for index in range(50_000)]

    def loop(count: int) -> None:
        for _ in repeat(None, count):
            array[::2] = values

    return Measurement(seconds_per_turn(loop, pace))


@row("array in NumPy", unit="s", better="lower", needs=Feature.SHARED_CTYPES, packages=("numpy",))  # fmt: skip
def array_in_numpy(backend: Backend, pace: Pace) -> Measurement:
    """Add 1 to a million numbers: `numpy.frombuffer(raw)[:] += 1` of a `RawArray("d", 1_000_000)`."""
    import numpy as np  # noqa: PLC0415  (not every interpreter has it)

    raw = backend.context().RawArray("d", 1_000_000)

    def loop(count: int) -> None:
        for _ in repeat(None, count):
            view = np.frombuffer(raw)
            view += 1

    seconds = seconds_per_turn(loop, pace)
    if raw[0] != raw[999_999] or raw[0] < 1:
        raise ValueError(f"the view is not of the array: {raw[0]}, {raw[999_999]}")
    return Measurement(seconds)
