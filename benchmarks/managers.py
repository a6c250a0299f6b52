"""Rows about managers: calls a second on what a server process holds, from one process, and from four at once."""

from __future__ import annotations

import time
from itertools import repeat
from typing import Any

from benchmarks.backend import Backend, Feature
from benchmarks.crew import Body, Crew
from benchmarks.pace import Pace, seconds_per_operation
from benchmarks.row import Measurement, Target, row

AT_ONCE = 4
BATCH = {f"key {number}": number for number in range(1000)}


def _getter(words: Any) -> Body:
    def get(count: int) -> None:
        for _ in repeat(None, count):
            words["key"]

    return get


def _setter(words: Any) -> Body:
    def put(count: int) -> None:
        for number in range(count):
            words["key"] = number

    return put


def _updater(words: Any) -> Body:
    def update(count: int) -> None:
        for _ in repeat(None, count):
            words.update(BATCH)

    return update


def _exchanger(queue: Any) -> Body:
    def exchange(count: int) -> None:
        for number in range(count):
            queue.put(number)
            queue.get()

    return exchange


def _reader(names: Any) -> Body:
    def read(count: int) -> None:
        for _ in repeat(None, count):
            names.x  # noqa: B018 - that is the call

    return read


def _calls_per_second(
    body: Any, shared: Any, context: Any, pace: Pace, *, processes: int = 1, first: int = 100
) -> Measurement:
    """So many children do the same; the clock stops when the last has done its share."""
    with Crew(context, [body(shared)] * processes) as crew:
        seconds = seconds_per_operation(lambda count: crew.phase(*[count] * processes), pace, first=first)
    return Measurement(processes / seconds)


def _on_a_dict(body: Any, backend: Backend, pace: Pace, *, processes: int) -> Measurement:
    context = backend.context()
    with context.Manager() as manager:
        words = manager.dict()
        words["key"] = 1
        return _calls_per_second(body, words, context, pace, processes=processes)


@row("manager dict get", unit="calls/s", better="higher", needs=Feature.MANAGER, target=Target(ratio=8))
def manager_dict_get(backend: Backend, pace: Pace) -> Measurement:
    """One child reads an int from a manager's dict."""
    return _on_a_dict(_getter, backend, pace, processes=1)


@row("manager dict set", unit="calls/s", better="higher", needs=Feature.MANAGER, target=Target(ratio=8))
def manager_dict_set(backend: Backend, pace: Pace) -> Measurement:
    """One child sets an int in a manager's dict."""
    return _on_a_dict(_setter, backend, pace, processes=1)


@row("manager dict get, four", unit="calls/s", better="higher", needs=Feature.MANAGER, target=Target(ratio=8))
def manager_dict_get_four(backend: Backend, pace: Pace) -> Measurement:
    """Four children read an int from a manager's dict, all at once; calls of all together."""
    return _on_a_dict(_getter, backend, pace, processes=AT_ONCE)


@row("manager dict set, four", unit="calls/s", better="higher", needs=Feature.MANAGER, target=Target(ratio=8))
def manager_dict_set_four(backend: Backend, pace: Pace) -> Measurement:
    """Four children set an int in a manager's dict, all at once; calls of all together."""
    return _on_a_dict(_setter, backend, pace, processes=AT_ONCE)


@row("manager dict update", unit="calls/s", better="higher", needs=Feature.MANAGER)
def manager_dict_update(backend: Backend, pace: Pace) -> Measurement:
    """One child updates a manager's dict with 1,000 keys, in one call."""
    context = backend.context()
    with context.Manager() as manager:
        return _calls_per_second(_updater, manager.dict(), context, pace, first=10)


@row("manager queue", unit="items/s", better="higher", needs=Feature.MANAGER)
def manager_queue(backend: Backend, pace: Pace) -> Measurement:
    """One child puts an int into a manager's queue and gets it: two calls an item."""
    context = backend.context()
    with context.Manager() as manager:
        return _calls_per_second(_exchanger, manager.Queue(), context, pace)


@row("manager namespace", unit="calls/s", better="higher", needs=Feature.MANAGER)
def manager_namespace(backend: Backend, pace: Pace) -> Measurement:
    """One child reads an attribute of a manager's namespace."""
    context = backend.context()
    with context.Manager() as manager:
        names = manager.Namespace()
        names.x = 1
        return _calls_per_second(_reader, names, context, pace)


@row("manager make and drop dict", unit="objects/s", better="higher", needs=Feature.MANAGER_MAKES)
def manager_make_and_drop(backend: Backend, pace: Pace) -> Measurement:
    """Make a manager's dict, and drop it."""
    with backend.context().Manager() as manager:

        def make(count: int) -> float:
            begin = time.perf_counter()
            for _ in repeat(None, count):
                manager.dict()
            return time.perf_counter() - begin

        return Measurement(1 / seconds_per_operation(make, pace, first=20))
