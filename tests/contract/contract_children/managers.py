"""What children do with proxies, and the manager classes that tests use."""

from __future__ import annotations

import queue
from multiprocessing import managers as standard
from typing import Any

from shoal import managers as shoal

QUEUE: queue.Queue[Any] = queue.Queue()


class Counter:
    """A type of one's own."""

    def __init__(self, start: int = 0) -> None:
        self.value = start

    def add(self, n: int) -> int:
        self.value += n
        return self.value

    def fail(self) -> None:
        raise ZeroDivisionError("on purpose")

    def unpicklable(self) -> object:
        return (number for number in range(3))

    def fail_with_what_cannot_be_pickled(self) -> None:
        raise ZeroDivisionError(number for number in range(3))

    def numbers(self) -> Any:
        return iter(range(self.value))

    def _hidden(self) -> str:
        return "hidden"


def get_queue() -> queue.Queue[Any]:
    return QUEUE


def make_queue() -> queue.Queue[Any]:
    """A new one for whoever asks."""
    return queue.Queue()


class _Registering:
    def __init_subclass__(cls, **kwds: Any) -> None:
        super().__init_subclass__(**kwds)
        module = standard if issubclass(cls, standard.BaseManager) and not issubclass(cls, shoal.BaseManager) else shoal
        cls.register("Counter", Counter, method_to_typeid={"numbers": "Numbers"})
        cls.register("Numbers", proxytype=module.IteratorProxy, create_method=False)
        cls.register("get_queue", get_queue)
        cls.register("make_queue", make_queue)


class ShoalManager(_Registering, shoal.BaseManager):
    """A manager class of shoal's."""


class StandardManager(_Registering, standard.BaseManager):
    """And one of the standard library."""


def edit(held: Any) -> None:
    """Edit a dict, a list and a namespace."""
    held.numbers.append(4)
    held.numbers[0] = "first"
    held.words["b"] = [1, 2]
    del held.words["a"]
    held.names.y = held.names.x + 1


def take_and_keep(held: Any) -> bool:
    """Take a lock, and do not give it back."""
    return bool(held.lock.acquire())


def edit_many(held: Any, start: int, count: int) -> None:
    """Enter so many keys."""
    for key in range(start, start + count):
        held.words[key] = -key
