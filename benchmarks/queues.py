"""Rows about queues: how many items a second go through a ``Queue()`` of no fixed size."""

from __future__ import annotations

from itertools import repeat
from typing import Any

from benchmarks.backend import Backend, Feature
from benchmarks.crew import Body, Crew
from benchmarks.pace import Pace, seconds_per_operation
from benchmarks.row import Measurement, Target, row


def _producer(queue: Any, item: object) -> Body:
    """Puts the item as often as it is told."""

    def produce(count: int) -> None:
        for _ in repeat(None, count):
            queue.put(item)

    return produce


def _consumer(queue: Any) -> Body:
    """Gets as many items as it is told."""

    def consume(count: int) -> None:
        for _ in repeat(None, count):
            queue.get()

    return consume


def _items_per_second(backend: Backend, pace: Pace, item: object, *, pairs: int, first: int) -> Measurement:
    """So many producers and as many consumers, each in a child; the clock stops when the last item has been received."""
    context = backend.context()
    queue = context.Queue()
    consumers = [_consumer(queue)] * pairs
    producers = [_producer(queue, item)] * pairs
    with Crew(context, [*consumers, *producers]) as crew:
        seconds = seconds_per_operation(lambda count: crew.phase(*[count] * 2 * pairs), pace, first=first)
    return Measurement(pairs / seconds)


@row("queue int", unit="items/s", better="higher", needs=Feature.QUEUE, target=Target(ratio=12))
def queue_int(backend: Backend, pace: Pace) -> Measurement:
    """One producer puts an int, one consumer gets it."""
    return _items_per_second(backend, pace, 12345, pairs=1, first=1000)


@row("queue 1 kB", unit="items/s", better="higher", needs=Feature.QUEUE, target=Target(ratio=12))
def queue_1_kb(backend: Backend, pace: Pace) -> Measurement:
    """One producer puts 1,000 bytes, one consumer gets them."""
    return _items_per_second(backend, pace, bytes(1000), pairs=1, first=1000)


@row("queue 1 MB", unit="items/s", better="higher", needs=Feature.QUEUE, target=Target(ratio=8))
def queue_1_mb(backend: Backend, pace: Pace) -> Measurement:
    """One producer puts 1,000,000 bytes, one consumer gets them."""
    return _items_per_second(backend, pace, bytes(1_000_000), pairs=1, first=10)


@row("queue int 2+2", unit="items/s", better="higher", needs=Feature.QUEUE, target=Target(ratio=5))
def queue_int_two_pairs(backend: Backend, pace: Pace) -> Measurement:
    """Two producers put an int, two consumers get it, all on one queue."""
    return _items_per_second(backend, pace, 12345, pairs=2, first=500)
