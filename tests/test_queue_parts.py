"""A subclass that reaches into the standard library's queue finds the parts there, on shoal too, and they are those that work."""

from __future__ import annotations

import multiprocessing
import multiprocessing.queues
import sys
from abc import ABCMeta, abstractmethod
from pathlib import Path
from typing import Any

import pytest

import shoal
import shoal.queues

# Spawned children import the functions that they run; they are given this process's sys.path.
sys.path.insert(0, str(Path(__file__).parent))

import queue_parts_tasks as tasks

SECONDS = 20
LIBRARIES: dict[str, Any] = {"standard": multiprocessing, "shoal": shoal}


@pytest.fixture(params=[f"{library}-{method}" for library in LIBRARIES for method in ("fork", "spawn", "forkserver")])
def instance(request: pytest.FixtureRequest) -> Any:
    """The library's name, and a context of it."""
    library, _, method = request.param.partition("-")
    return library, LIBRARIES[library].get_context(method)


def test_a_queue_is_fed_by_the_feeder_of_its_class(instance: Any):
    library, mp = instance
    queue = tasks.FEEDING[library]("tag", ctx=mp)
    process = mp.Process(target=tasks.put_twice, args=(queue,))
    process.start()
    assert [queue.get(timeout=SECONDS) for _ in range(2)] == [("tag", "from the child"), ("tag", 2)]
    process.join()
    queue.put("here")
    assert queue.get(timeout=SECONDS) == ("tag", "here")
    queue.close()
    queue.join_thread()


def test_a_simple_queue_takes_what_its_class_pickles(instance: Any):
    library, mp = instance
    queue = tasks.SIMPLE[library](ctx=mp)
    process = mp.Process(target=tasks.put_twice, args=(queue,))
    process.start()
    assert [queue.get() for _ in range(2)] == [("own", "from the child"), ("own", 2)]
    process.join()
    assert queue.empty()
    queue.close()


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_queue_may_be_an_abstract_base_class_as_well(library: str):
    mp = LIBRARIES[library]
    source: Any = ABCMeta("source", (), {"take": abstractmethod(lambda _: None)})

    class Inbox(mp.queues.Queue, source):
        def take(self) -> Any:
            return self.get(timeout=SECONDS)

    queue = Inbox(ctx=mp.get_context("fork"))
    queue.put("item")
    assert queue.take() == "item"
    assert isinstance(queue, mp.queues.Queue)
    assert not isinstance("item", mp.queues.Queue)
    queue.close()
    queue.join_thread()


def test_such_a_queue_is_one_of_shoals_to_those_who_ask():
    mp = shoal.get_context("fork")
    queue, simple = tasks.ShoalFeeding("tag", ctx=mp), tasks.ShoalSimple(ctx=mp)
    assert isinstance(queue, shoal.queues.Queue)
    assert issubclass(tasks.ShoalFeeding, shoal.queues.Queue)
    assert not isinstance(queue, shoal.queues.JoinableQueue)
    assert isinstance(simple, shoal.queues.SimpleQueue)
    assert not isinstance(simple, shoal.queues.Queue)
    queue.close()
    simple.close()


def test_any_other_subclass_is_a_channel():
    class Named(shoal.queues.Queue):
        def put_all(self, items: list[Any]) -> None:
            for item in items:
                self.put(item)
            self._reader.poll(SECONDS)

    assert shoal.queues.Queue in Named.__mro__
    assert type(Named) is type(shoal.queues.Queue)
