"""Rows about locks and their kin: what a call costs alone, and what passing a turn between two processes costs."""

from __future__ import annotations

import mmap
import struct
from itertools import repeat
from typing import Any

from benchmarks.backend import Backend, Feature
from benchmarks.crew import Body, Crew
from benchmarks.pace import Pace, seconds_per_operation, seconds_per_turn
from benchmarks.row import Measurement, Target, row


def _pairs(primitive: Any) -> Body:
    """Acquire and release, as often as told."""

    def pairs(count: int) -> None:
        for _ in repeat(None, count):
            primitive.acquire()
            primitive.release()

    return pairs


@row("with lock", unit="s", better="lower", needs=Feature.SYNCHRONIZE, target=Target(ratio=1.9))
def with_lock(backend: Backend, pace: Pace) -> Measurement:
    """`with lock: pass`, nobody else wants it."""
    lock = backend.context().Lock()

    def loop(count: int) -> None:
        for _ in repeat(None, count):
            with lock:
                pass

    return Measurement(seconds_per_turn(loop, pace))


@row("lock acquire, release", unit="s", better="lower", needs=Feature.SYNCHRONIZE, target=Target(ratio=1))
def lock_acquire_release(backend: Backend, pace: Pace) -> Measurement:
    """`lock.acquire(); lock.release()`, nobody else wants it."""
    return Measurement(seconds_per_turn(_pairs(backend.context().Lock()), pace))


@row("semaphore acquire, release", unit="s", better="lower", needs=Feature.SYNCHRONIZE, target=Target(ratio=1))
def semaphore_acquire_release(backend: Backend, pace: Pace) -> Measurement:
    """`semaphore.acquire(); semaphore.release()` on a `Semaphore(2)`, nobody else wants it."""
    return Measurement(seconds_per_turn(_pairs(backend.context().Semaphore(2)), pace))


@row("lock contended", unit="turns/s", better="higher", needs=Feature.SYNCHRONIZE, target=Target(ratio=1))
def lock_contended(backend: Backend, pace: Pace) -> Measurement:
    """Two processes add 1 to a number in shared memory, under one lock; the total is checked."""
    context = backend.context()
    lock = context.Lock()
    number = struct.Struct("q")
    memory = mmap.mmap(-1, number.size)
    expected = 0

    def add(count: int) -> None:
        unpack, pack = number.unpack_from, number.pack_into
        for _ in repeat(None, count):
            with lock:
                pack(memory, 0, unpack(memory)[0] + 1)

    with Crew(context, [add, add]) as crew:

        def phase(count: int) -> float:
            nonlocal expected
            seconds = crew.phase(count, count)
            expected += 2 * count
            return seconds

        seconds = seconds_per_operation(phase, pace, first=1000)
    (total,) = number.unpack_from(memory)
    if total != expected:
        raise ValueError(f"the lock let both in: counted {total} of {expected}")
    return Measurement(2 / seconds)


@row("condition round trip", unit="s", better="lower", needs=Feature.SYNCHRONIZE, target=Target(ratio=1))
def condition_round_trip(backend: Backend, pace: Pace) -> Measurement:
    """Two processes pass a turn to and fro: `wait` until it is mine, `notify`."""
    context = backend.context()
    condition = context.Condition()
    turn = mmap.mmap(-1, 1)

    def player(me: int) -> Body:
        def play(count: int) -> None:
            with condition:
                for _ in repeat(None, count):
                    while turn[0] != me:
                        condition.wait()
                    turn[0] = 1 - me
                    condition.notify()

        return play

    near, far = player(0), player(1)
    with Crew(context, [far]) as crew:
        return Measurement(
            seconds_per_operation(lambda count: crew.phase(count, here=lambda: near(count)), pace, first=100)
        )


@row("event round trip", unit="s", better="lower", needs=Feature.SYNCHRONIZE, target=Target(ratio=1))
def event_round_trip(backend: Backend, pace: Pace) -> Measurement:
    """Two processes and two events: `set` mine, `wait` for and `clear` the other's."""
    context = backend.context()
    ping, pong = context.Event(), context.Event()

    def answer(count: int) -> None:
        for _ in repeat(None, count):
            ping.wait()
            ping.clear()
            pong.set()

    def ask(count: int) -> None:
        for _ in repeat(None, count):
            ping.set()
            pong.wait()
            pong.clear()

    with Crew(context, [answer]) as crew:
        return Measurement(
            seconds_per_operation(lambda count: crew.phase(count, here=lambda: ask(count)), pace, first=100)
        )
