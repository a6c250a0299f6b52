"""Rows about ``Pipe()``: how long there and back takes, and how fast a large array gets across."""

from __future__ import annotations

from itertools import repeat
from typing import Any

from benchmarks.backend import Backend, Feature
from benchmarks.crew import Crew
from benchmarks.pace import Pace, seconds_per_operation
from benchmarks.row import Measurement, Target, row


@row("pipe round trip", unit="s", better="lower", needs=Feature.PIPE, target=Target(ratio=20))
def pipe_round_trip(backend: Backend, pace: Pace) -> Measurement:
    """An int to a child through a two-way pipe, and back."""
    context = backend.context()
    near, far = context.Pipe()

    def echo(count: int) -> None:
        for _ in repeat(None, count):
            far.send(far.recv())

    def ask(count: int) -> None:
        for _ in repeat(None, count):
            near.send(12345)
            near.recv()

    with Crew(context, [echo]) as crew:
        return Measurement(
            seconds_per_operation(lambda count: crew.phase(count, here=lambda: ask(count)), pace, first=200)
        )


def _array_bytes_per_second(backend: Backend, pace: Pace, *, summed: bool) -> Measurement:
    """Send an array of floats, wait for the child's answer, again and again."""
    import numpy as np  # noqa: PLC0415  (the other rows do without)

    context = backend.context()
    near, far = context.Pipe()
    size = pace.choose(full=8_000_000, quick=80_000)
    array: Any = np.arange(size, dtype=np.float64)
    expected = float(array.sum()) if summed else float(size - 1)

    def receive(count: int) -> None:
        for _ in repeat(None, count):
            received = far.recv()
            far.send(float(received.sum() if summed else received[-1]))

    def send(count: int) -> None:
        for _ in repeat(None, count):
            near.send(array)
            if near.recv() != expected:
                raise ValueError("the array arrived changed")

    with Crew(context, [receive]) as crew:
        seconds = seconds_per_operation(lambda count: crew.phase(count, here=lambda: send(count)), pace, first=2)
    return Measurement(array.nbytes / seconds)


@row(
    "array 64 MB", unit="B/s", better="higher", needs=Feature.PIPE, packages=("numpy",), target=Target(ratio=30)
)  # fmt: skip
def array_64_mb(backend: Backend, pace: Pace) -> Measurement:
    """A NumPy array of 64 MB to a child through a pipe; the child reads its last element and answers."""
    return _array_bytes_per_second(backend, pace, summed=False)


@row("array 64 MB summed", unit="B/s", better="higher", needs=Feature.PIPE, packages=("numpy",), target=Target(ratio=1))
def array_64_mb_summed(backend: Backend, pace: Pace) -> Measurement:
    """The same, but the child reads all of the array: what first touching the memory costs is in the figure."""
    return _array_bytes_per_second(backend, pace, summed=True)
