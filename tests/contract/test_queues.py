"""``Queue``, ``SimpleQueue`` and ``JoinableQueue``: each item exactly once, each producer's items in order."""

from __future__ import annotations

import queue as standard_queue
from typing import TYPE_CHECKING, Any

import pytest
from contract_children import queues as child
from contract_children.connections import SIZES, pattern
from contract_children.waiting import LONG, SHORT, eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import BaseContext

    from contract_children.instances import Instance
    from contract_children.partner import Partner

MEGABYTES_10 = 10 * 1024 * 1024


@pytest.fixture(params=["Queue", "SimpleQueue", "JoinableQueue"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


# --- every kind of queue ---------------------------------------------------------------------------------------------------


def test_items_come_out_as_they_went_in_and_in_order(mp: BaseContext, partners: Callable[..., Partner], kind: str):
    queue = getattr(mp, kind)()
    partner = partners(queue=queue)
    items = [
        0,
        None,
        "text",
        b"bytes",
        (1, (2.5, None)),
        [1, {"a": {1, 2}}],
        10**30,
        ValueError("as a value"),
        *range(100),
    ]
    partner.tell(child.put_all, items)
    assert [repr(queue.get()) for _ in items] == [repr(item) for item in items]
    partner.answer()
    assert queue.empty() is True

    for item in items:
        queue.put(item)
    for item in items:
        assert repr(partner.ask("queue.get")) == repr(item)


def test_items_of_any_size_come_out_whole(mp: BaseContext, partners: Callable[..., Partner], kind: str):
    queue = getattr(mp, kind)()
    partner = partners(queue=queue)
    items = [pattern(size) for size in SIZES]
    partner.tell(child.put_all, items)
    assert [queue.get() for _ in items] == items
    partner.answer()


def test_a_ten_megabyte_item_passes(mp: BaseContext, kind: str):
    queue = getattr(mp, kind)()
    process = mp.Process(target=child.put_size_and_return, args=(queue, MEGABYTES_10))
    process.start()
    assert queue.get() == bytes(MEGABYTES_10)
    process.join(LONG)
    assert process.exitcode == 0


def test_many_producers_and_consumers_pass_each_item_once_and_in_order(
    mp: BaseContext, partners: Callable[..., Partner], kind: str
):
    queue = getattr(mp, kind)()
    producers = {name: partners(queue=queue) for name in ("one", "other")}
    consumers = [partners(queue=queue), partners(queue=queue)]
    for consumer in consumers:
        consumer.tell(child.get_until_none)
    for name, producer in producers.items():
        producer.tell(child.put_numbered, name, 1000)
    for producer in producers.values():
        producer.answer()
    if kind != "SimpleQueue":
        # What a process has put may still be on its way when another's item is in the queue already.
        for producer in producers.values():
            producer.ask("queue.close")
            producer.ask("queue.join_thread")
    for _ in consumers:
        queue.put(None)
    received = [consumer.answer() for consumer in consumers]
    assert sorted(received[0] + received[1]) == sorted((name, number) for name in producers for number in range(1000))
    for part in received:
        for name in producers:
            numbers = [number for sender, number in part if sender == name]
            assert numbers == sorted(numbers)
    assert queue.empty()


def test_an_item_put_before_its_producer_ends_is_received_after_it_has_gone(mp: BaseContext, kind: str):
    queue = getattr(mp, kind)()
    process = mp.Process(target=child.put_and_return, args=(queue, ["first", "second"]))
    process.start()
    process.join(LONG)
    assert process.exitcode == 0
    assert [queue.get(), queue.get()] == ["first", "second"]


def test_a_consumer_that_waits_gets_the_next_item(mp: BaseContext, partners: Callable[..., Partner], kind: str):
    queue = getattr(mp, kind)()
    partner = partners(queue=queue)
    for number in range(100):
        partner.tell("queue.get")
        queue.put(number)
        assert partner.answer() == number
    partner.tell("queue.get")
    assert not partner.answered(SHORT)
    queue.put("at last")
    assert partner.answer() == "at last"


def test_empty_tells_whether_anything_is_in_it(mp: BaseContext, partners: Callable[..., Partner], kind: str):
    queue = getattr(mp, kind)()
    partner = partners(queue=queue)
    assert queue.empty() is True
    queue.put("item")
    assert eventually(lambda: not queue.empty())
    assert partner.ask("queue.empty") is False
    partner.ask("queue.get")
    assert queue.empty() is True


@pytest.mark.shoal_only("what the standard queue holds is in a pipe: its producer cannot end before it is read")
def test_a_producer_can_be_joined_before_its_ten_megabytes_are_read(mp: BaseContext, kind: str):
    queue = getattr(mp, kind)()
    process = mp.Process(target=child.put_size_and_return, args=(queue, MEGABYTES_10))
    process.start()
    process.join(LONG)
    assert process.exitcode == 0
    assert queue.get() == bytes(MEGABYTES_10)


@pytest.mark.shoal_only("the standard library shares queues through inheritance only")
def test_a_queue_travels_in_a_queue(mp: BaseContext, partners: Callable[..., Partner], kind: str):
    queue, inner = getattr(mp, kind)(), getattr(mp, kind)()
    partner = partners(queue=queue)
    inner.put("was there")
    queue.put(inner)
    partner.ask(child.put_through_what_comes, "came through")
    assert [inner.get(), inner.get()] == ["was there", "came through"]


# --- Queue -----------------------------------------------------------------------------------------------------------------


def test_a_full_queue_takes_no_more(mp: BaseContext, partners: Callable[..., Partner]):
    queue = mp.Queue(2)
    partner = partners(queue=queue)
    assert queue.full() is False
    queue.put(1)
    partner.ask("queue.put", 2)
    assert queue.full() is True
    assert partner.ask("queue.full") is True
    for put in (
        lambda: queue.put_nowait(3),
        lambda: queue.put(3, False),
        lambda: queue.put(3, block=False),
        lambda: queue.put(3, True, SHORT),
        lambda: queue.put(3, timeout=0),
        lambda: partner.ask("queue.put_nowait", 3),
        lambda: partner.ask("queue.put", 3, timeout=SHORT),
    ):
        with pytest.raises(standard_queue.Full):
            put()
    assert sorted([queue.get(timeout=LONG), queue.get(timeout=LONG)]) == [1, 2]
    assert queue.full() is False
    queue.put_nowait(4)
    assert partner.ask("queue.get") == 4


def test_a_producer_that_waits_for_room_goes_on_when_there_is(mp: BaseContext, partners: Callable[..., Partner]):
    queue = mp.Queue(maxsize=1)
    partner = partners(queue=queue)
    queue.put("first")
    partner.tell("queue.put", "second")
    partner.tell("queue.put", "third", timeout=LONG)
    assert not partner.answered(SHORT)
    assert queue.get() == "first"
    assert partner.answer() is None
    assert not partner.answered(SHORT)
    assert queue.get() == "second"
    assert partner.answer() is None
    assert queue.get() == "third"


def test_an_empty_queue_gives_nothing(mp: BaseContext, partners: Callable[..., Partner]):
    queue = mp.Queue()
    partner = partners(queue=queue)
    for get in (
        queue.get_nowait,
        lambda: queue.get(False),
        lambda: queue.get(block=False),
        lambda: queue.get(True, SHORT),
        lambda: queue.get(timeout=0),
        lambda: queue.get(timeout=-1),
        lambda: partner.ask("queue.get_nowait"),
        lambda: partner.ask("queue.get", timeout=SHORT),
    ):
        with pytest.raises(standard_queue.Empty):
            get()
    partner.tell("queue.get", timeout=LONG)
    queue.put("item")
    assert partner.answer() == "item"


def test_qsize_counts_what_is_put_and_not_yet_got(mp: BaseContext, partners: Callable[..., Partner]):
    queue = mp.Queue()
    partner = partners(queue=queue)
    assert queue.qsize() == 0
    for number in range(3):
        queue.put(number)
    partner.ask("queue.put", 3)
    assert (queue.qsize(), partner.ask("queue.qsize")) == (4, 4)
    partner.ask("queue.get")
    queue.get()
    assert (queue.qsize(), partner.ask("queue.qsize")) == (2, 2)


@pytest.mark.parametrize("size", [0, -1])
def test_a_queue_without_a_size_never_fills(mp: BaseContext, size: int):
    queue = mp.Queue(size)
    for number in range(5000):
        queue.put_nowait(number)
    assert queue.full() is False
    assert [queue.get(timeout=LONG) for _ in range(5000)] == list(range(5000))


def test_a_closed_queue_takes_and_gives_nothing_in_this_process(mp: BaseContext, partners: Callable[..., Partner]):
    queue = mp.Queue()
    partner = partners(queue=queue)
    queue.put("before")
    queue.close()
    queue.close()
    queue.join_thread()
    for use in (lambda: queue.put("after"), queue.get, lambda: queue.put_nowait("after"), queue.get_nowait):
        with pytest.raises(ValueError, match="closed"):
            use()
    assert partner.ask("queue.get") == "before", "elsewhere it is open"
    partner.ask("queue.put", "still")
    assert partner.ask("queue.get") == "still"


def test_join_thread_wants_a_closed_queue(mp: BaseContext):
    queue = mp.Queue()
    queue.put("item")
    with pytest.raises(AssertionError):
        queue.join_thread()
    queue.get()


def test_after_close_and_join_thread_everything_is_in_the_queue(mp: BaseContext):
    queue = mp.Queue()
    ours, theirs = mp.Pipe()
    process = mp.Process(target=child.put_close_and_join, args=(queue, theirs))
    process.start()
    assert ours.recv() == "joined"
    ours.send("leave without any exit procedure")
    process.join(LONG)
    assert queue.get(timeout=LONG) == "flushed"


def test_cancel_join_thread_lets_a_process_end_with_its_items_unread(mp: BaseContext):
    queue = mp.Queue()
    process = mp.Process(target=child.put_without_waiting_for_it_to_be_read, args=(queue, MEGABYTES_10))
    process.start()
    process.join(LONG)
    assert process.exitcode == 0


@pytest.mark.shoal_only("the standard queue pickles in a thread, some time after put has returned")
def test_an_item_is_what_it_was_when_it_was_put(mp: BaseContext):
    queue = mp.Queue()
    for number in range(100):
        item = [number]
        queue.put(item)
        item.append("changed afterwards")
    assert [queue.get() for _ in range(100)] == [[number] for number in range(100)]


@pytest.mark.shoal_only("what is put into a standard queue is in it some time after put has returned")
def test_what_was_put_is_there_at_once(mp: BaseContext):
    queue = mp.Queue()
    for number in range(100):
        queue.put(number)
        assert queue.empty() is False
        assert queue.get_nowait() == number


# --- SimpleQueue -----------------------------------------------------------------------------------------------------------


def test_a_closed_simple_queue_refuses_everything(mp: BaseContext):
    queue = mp.SimpleQueue()
    queue.put("item")
    queue.close()
    queue.close()
    for use in (lambda: queue.put(1), queue.get, queue.empty):
        with pytest.raises(OSError, match="closed"):
            use()


# --- JoinableQueue ---------------------------------------------------------------------------------------------------------


def test_join_waits_until_every_item_is_done(mp: BaseContext, partners: Callable[..., Partner]):
    queue = mp.JoinableQueue()
    queue.join()
    joining = partners(queue=queue)
    for number in range(3):
        queue.put(number)
    joining.tell("queue.join")
    for number in range(3):
        assert queue.get() == number
    for _ in range(2):
        queue.task_done()
    assert not joining.answered(SHORT), "got is not done"
    queue.task_done()
    assert joining.answer() is None
    queue.join()
    queue.put("another round")
    joining.tell("queue.join")
    queue.get()
    assert not joining.answered(SHORT)
    queue.task_done()
    assert joining.answer() is None


def test_two_workers_do_everything_before_join_returns(mp: BaseContext, partners: Callable[..., Partner]):
    queue, done = mp.JoinableQueue(), mp.Semaphore(0)
    workers = [partners(queue=queue, done=done), partners(queue=queue, done=done)]
    for worker in workers:
        worker.tell(child.work_until_none)
    for number in range(200):
        queue.put(number)
    queue.join()
    assert done.get_value() == 200
    for _ in workers:
        queue.put(None)
    queue.join()
    assert sum(worker.answer() for worker in workers) == 200


def test_task_done_too_often_is_refused(mp: BaseContext, partners: Callable[..., Partner]):
    queue = mp.JoinableQueue()
    partner = partners(queue=queue)
    with pytest.raises(ValueError, match="too many times"):
        queue.task_done()
    queue.put("item")
    partner.ask("queue.get")
    partner.ask("queue.task_done")
    for task_done in (queue.task_done, lambda: partner.ask("queue.task_done")):
        with pytest.raises(ValueError, match="too many times"):
            task_done()
    queue.join()


def test_items_may_be_reported_before_they_are_taken(mp: BaseContext, partners: Callable[..., Partner]):
    queue = mp.JoinableQueue()
    partner = partners(queue=queue)
    for number in range(3):
        queue.put(number)
    partner.ask("queue.task_done")
    for _ in range(2):
        queue.task_done()
    queue.join()
    with pytest.raises(ValueError, match="too many times"):
        queue.task_done()
    assert [queue.get(timeout=LONG), partner.ask("queue.get"), queue.get(timeout=LONG)] == [0, 1, 2]
    queue.join()
    queue.put("one that has not been")
    queue.get(timeout=LONG)
    partner.tell("queue.join")
    assert not partner.answered(SHORT)
    queue.task_done()
    assert partner.answer() is None


def test_a_joinable_queue_has_a_size_too(mp: BaseContext):
    queue = mp.JoinableQueue(maxsize=1)
    queue.put("item")
    with pytest.raises(standard_queue.Full):
        queue.put("another", timeout=SHORT)
    assert queue.qsize() == 1
    assert queue.get(timeout=LONG) == "item"
    with pytest.raises(standard_queue.Empty):
        queue.get_nowait()
    queue.task_done()
    queue.join()


def test_the_exceptions_are_those_of_the_queue_module(instance: Instance):
    queues: Any = instance.module("queues")
    assert queues.Empty is standard_queue.Empty
    assert queues.Full is standard_queue.Full
