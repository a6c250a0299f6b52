"""Subclasses of queues and synchronisation objects: what they add to the state goes to the child, as they say."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from contract_children import subclasses
from contract_children.waiting import LONG

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import BaseContext

    from contract_children.instances import Instance
    from contract_children.partner import Partner


@pytest.fixture
def classes(instance: Instance) -> Any:
    return getattr(subclasses, instance.library)


@pytest.mark.parametrize(
    ("name", "arguments", "told", "has_come"),
    [
        ("Queue", (), ("put", "over there"), lambda queue: queue.get(timeout=LONG) == "over there"),
        ("SimpleQueue", (), ("put", "over there"), lambda queue: queue.get() == "over there"),
        ("JoinableQueue", (), ("put", "over there"), lambda queue: queue.get(timeout=LONG) == "over there"),
        ("Lock", (), ("acquire",), lambda lock: not lock.acquire(block=False)),
        ("RLock", (), ("acquire",), lambda lock: not lock.acquire(block=False)),
        ("Semaphore", (1,), ("acquire",), lambda semaphore: semaphore.get_value() == 0),
        ("BoundedSemaphore", (1,), ("acquire",), lambda semaphore: semaphore.get_value() == 0),
        ("Condition", (), ("acquire",), lambda condition: not condition.acquire(block=False)),
        ("Barrier", (2,), ("abort",), lambda barrier: barrier.broken),
    ],
)
def test_what_a_subclass_adds_to_the_state_comes_with_the_object(
    mp: BaseContext,
    partners: Callable[..., Partner],
    classes: Any,
    name: str,
    arguments: tuple[Any, ...],
    told: tuple[Any, ...],
    has_come: Callable[[Any], bool],
):
    thing = getattr(classes, name)(*arguments, ctx=mp)
    thing.tag = "added"
    partner = partners(thing=thing)
    assert partner.ask(subclasses.attributes_of) == {"tag": "added"}
    method, *rest = told
    partner.ask(f"thing.{method}", *rest)
    assert has_come(thing)


def test_a_queue_counts_its_items_by_the_well_known_recipe(
    mp: BaseContext, partners: Callable[..., Partner], classes: Any
):
    queue = classes.SizedQueue(mp)
    partner = partners(queue=queue)
    for item in range(3):
        partner.ask("queue.put", item)
    assert queue.qsize() == partner.ask("queue.qsize") == 3
    assert [queue.get(timeout=LONG) for _ in range(3)] == [0, 1, 2]


def test_an_event_keeps_the_attributes_that_it_was_given(
    mp: BaseContext, partners: Callable[..., Partner], classes: Any
):
    event = classes.NamedEvent(mp, "added")
    partner = partners(thing=event)
    assert partner.ask(subclasses.attributes_of) == {"tag": "added"}
    partner.ask("thing.set")
    assert event.wait(LONG)


@pytest.mark.methods("spawn", "forkserver")
def test_an_event_may_leave_an_attribute_behind(mp: BaseContext, partners: Callable[..., Partner], classes: Any):
    event = classes.FrugalEvent(mp, "added")
    event.unpicklable = threading.Lock()
    partner = partners(thing=event)
    assert partner.ask(subclasses.attributes_of) == {"tag": "added"}
    partner.ask("thing.set")
    assert event.wait(LONG)


@pytest.mark.methods("spawn", "forkserver")
@pytest.mark.parametrize("name", ["Queue", "Lock", "Condition"])
def test_attributes_that_are_no_state_stay_behind(
    mp: BaseContext, partners: Callable[..., Partner], classes: Any, name: str
):
    thing = getattr(classes, name)(ctx=mp)
    thing.tag, thing.unpicklable = "added", "not added"
    assert partners(thing=thing).ask(subclasses.attributes_of) == {"tag": "added"}
