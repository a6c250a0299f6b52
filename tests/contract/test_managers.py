"""Managers: what is shared through a server process, and the proxies."""

from __future__ import annotations

import copy
import queue as standard_queue
import threading
from typing import TYPE_CHECKING, Any

import pytest
from contract_children import managers as child
from contract_children.waiting import LONG, SHORT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.context import BaseContext

    from contract_children.instances import Instance
    from contract_children.partner import Partner

NEW_IN_314 = "came to the standard library with Python 3.14"


@pytest.fixture
def manager(mp: BaseContext) -> Iterator[Any]:
    with mp.Manager() as manager:
        yield manager


@pytest.fixture
def own(mp: BaseContext, instance: Instance) -> Iterator[Any]:
    """A manager with types of one's own."""
    kind = child.ShoalManager if instance.library == "shoal" else child.StandardManager
    with kind(ctx=mp) as manager:
        yield manager


def test_what_a_child_edits_is_seen_by_all(manager: Any, partners: Callable[..., Partner]):
    numbers, words, names = manager.list([1, 2, 3]), manager.dict(a=1), manager.Namespace(x=5)
    partners(numbers=numbers, words=words, names=names).ask(child.edit)
    assert list(numbers) == ["first", 2, 3, 4]
    assert words.copy() == {"b": [1, 2]}
    assert names.y == 6
    assert str(numbers) == "['first', 2, 3, 4]"
    assert copy.deepcopy(words) == {"b": [1, 2]}


def test_containers_do_what_the_types_do(manager: Any):
    numbers = manager.list(range(5))
    numbers += [5]
    numbers *= 2
    assert (len(numbers), numbers[-2:], numbers.index(5), 3 in numbers) == (12, [4, 5], 5, True)
    numbers[1:3] = []
    del numbers[0]
    assert list(reversed(numbers))[:2] == [5, 4]
    words = manager.dict({"a": 1}, b=2)
    words.update({"c": 3}, d=4)
    assert sorted(words) == ["a", "b", "c", "d"]
    assert (words.pop("d"), words.get("zz"), words.setdefault("e", 5), len(words)) == (4, None, 5, 4)
    assert min(words.items()) == ("a", 1)
    value, array = manager.Value("i", 3), manager.Array("d", [1.5, 2.5])
    value.value += 1
    array[0] = 7.0
    assert (value.get(), array[0], len(array)) == (4, 7.0, 2)


def test_an_exception_in_the_server_is_raised_here(manager: Any, own: Any):
    words = manager.dict()
    with pytest.raises(KeyError):
        words["nothing"]
    with pytest.raises(IndexError):
        manager.list().pop()
    with pytest.raises(ZeroDivisionError, match="on purpose"):
        own.Counter().fail()
    words["still"] = "there"
    assert words["still"] == "there"


def test_proxies_inside_proxies(manager: Any):
    inner = manager.dict(x=1)
    outer = manager.list([inner])
    outer[0]["x"] = 2
    assert inner["x"] == 2
    del inner
    outer[0]["y"] = 3
    assert sorted(outer[0].items()) == [("x", 2), ("y", 3)]
    outer.append(outer)
    assert len(outer[1]) == 2


def test_a_lock_taken_by_a_child_keeps_this_process_out(manager: Any, partners: Callable[..., Partner]):
    lock = manager.Lock()
    assert partners(lock=lock).ask(child.take_and_keep) is True
    assert lock.acquire(False) is False
    lock.release()
    with lock:
        assert lock.acquire(timeout=SHORT) is False


def test_a_recursive_lock_belongs_to_a_thread(manager: Any):
    lock = manager.RLock()
    with lock, lock:
        taken = []
        thread = threading.Thread(target=lambda: taken.append(lock.acquire(False)))
        thread.start()
        thread.join(LONG)
        assert taken == [False]


def test_a_call_that_waits_keeps_nobody_else_waiting(manager: Any, partners: Callable[..., Partner]):
    queue, event, condition = manager.Queue(), manager.Event(), manager.Condition()
    getter, waiter, listener = partners(queue=queue), partners(event=event), partners(condition=condition)
    getter.tell("queue.get")
    waiter.tell("event.wait")
    listener.ask("condition.acquire")
    listener.tell("condition.wait", LONG)
    words = manager.dict()
    words["x"] = 1
    queue.put(words)
    assert getter.answer()["x"] == 1
    event.set()
    assert waiter.answer() is True
    with condition:
        condition.notify_all()
    assert listener.answer() is True


def test_queues_have_the_standard_queues_behaviour(manager: Any):
    queue = manager.Queue(2)
    queue.put(1)
    queue.put((2, [3]))
    with pytest.raises(standard_queue.Full):
        queue.put_nowait(4)
    assert (queue.qsize(), queue.full(), queue.get(), queue.get(timeout=1)) == (2, True, 1, (2, [3]))
    with pytest.raises(standard_queue.Empty):
        queue.get_nowait()
    joinable = manager.JoinableQueue()
    joinable.put(1)
    joinable.get()
    joinable.task_done()
    joinable.join()


def test_a_barrier_opens_when_all_wait(manager: Any, partners: Callable[..., Partner]):
    barrier = manager.Barrier(2)
    partner = partners(barrier=barrier)
    partner.tell("barrier.wait", LONG)
    turns = {barrier.wait(LONG), partner.answer()}
    assert turns == {0, 1}
    assert (barrier.parties, barrier.n_waiting, barrier.broken) == (2, 0, False)


def test_a_pool_in_the_server(manager: Any):
    with manager.Pool(2) as pool:
        assert pool.map(abs, [-1, -2, -3]) == [1, 2, 3]
        assert pool.apply_async(abs, (-4,)).get() == 4
        assert list(pool.imap(abs, [-5, -6])) == [5, 6]


def test_a_type_of_ones_own(own: Any):
    counter = own.Counter(3)
    assert (counter.add(4), counter.add(n=1)) == (7, 8)
    assert list(counter.numbers()) == list(range(8))
    with pytest.raises(AttributeError):
        counter.nothing()
    with pytest.raises(AttributeError):
        counter._hidden()


def test_a_result_that_cannot_be_pickled_is_an_error_and_the_server_goes_on(own: Any, instance: Instance):
    counter = own.Counter()
    with pytest.raises(instance.module("managers").RemoteError, match=r"(?s)Traceback.*cannot pickle"):
        counter.unpicklable()
    assert counter.add(1) == 1


def test_an_exception_that_cannot_be_pickled_is_told_of_and_the_server_goes_on(own: Any, instance: Instance):
    counter = own.Counter()
    with pytest.raises(instance.module("managers").RemoteError, match="Unserializable message"):
        counter.fail_with_what_cannot_be_pickled()
    assert counter.add(1) == 1


def test_an_object_registered_by_name_is_one_for_all(own: Any):
    own.get_queue().put("once")
    assert own.get_queue().get(timeout=LONG) == "once"


def test_a_function_that_makes_new_objects_makes_one_for_each(own: Any):
    first = own.make_queue()
    first.put("first")
    second = own.make_queue()
    assert second.empty()
    assert first.get(timeout=LONG) == "first"


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition"])
def test_two_locks_are_two(manager: Any, kind: str):
    first, second = getattr(manager, kind)(), getattr(manager, kind)()
    for _ in range(2):
        assert first.acquire()
        assert second.acquire(False)
        first.release()
        second.release()


def test_an_object_ends_with_its_last_proxy(manager: Any):
    before = manager._number_of_objects()
    first = manager.dict()
    second = manager.list([first])
    assert manager._number_of_objects() == before + 2
    del first, second
    assert manager._number_of_objects() == before


def test_many_processes_at_once(manager: Any, partners: Callable[..., Partner]):
    words = manager.dict()
    workers = [partners(words=words) for _ in range(3)]
    for number, worker in enumerate(workers):
        worker.tell(child.edit_many, 100 * number, 100)
    for worker in workers:
        worker.answer()
    assert words.copy() == {key: -key for key in range(300)}


def test_a_manager_that_has_shut_down_cannot_be_started_again(mp: BaseContext, instance: Instance):
    manager = mp.Manager()
    with pytest.raises(instance.module().ProcessError, match="Already started"):
        manager.start()
    manager.shutdown()
    with pytest.raises(instance.module().ProcessError, match="has shut down"):
        manager.start()
    manager.shutdown()


def test_it_has_its_own_children_for_a_context(mp: BaseContext, manager: Any):
    assert manager._process.is_alive()
    assert type(manager._process) is mp.Process


@pytest.mark.shoal_only(NEW_IN_314)
def test_sets_and_the_newer_methods(manager: Any):
    letters = manager.set("abc")
    letters |= {"d"}
    letters.add("e")
    assert (len(letters), "d" in letters, sorted(letters), letters - {"a"}) == (5, True, list("abcde"), set("bcde"))
    words = manager.dict(a=1)
    words |= {"b": 2}
    assert words | {"c": 3} == {"a": 1, "b": 2, "c": 3}
    assert {"c": 3} | words == {"c": 3, "a": 1, "b": 2}
    numbers = manager.list([1])
    assert (numbers.copy(), numbers.clear(), len(numbers)) == ([1], None, 0)
    for kind in ("Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition"):
        lock = getattr(manager, kind)()
        with lock:
            assert lock.locked() is True
        assert lock.locked() is False
