"""``queue._reader`` on which foreign code selects: the thread behind its descriptor is nobody's burden."""

from __future__ import annotations

import os
import select
import threading
import warnings
from pathlib import Path

import pytest

import shoal
from shoal import connection


def readable(descriptor: int, seconds: float = 30.0) -> bool:
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(seconds * 1000))


def threads() -> set[str]:
    return {task.name for task in Path("/proc/self/task").iterdir()}


def gone(thread: str) -> None:
    """Wait for the end of a thread that cannot be joined."""
    while thread in threads():
        os.sched_yield()


@pytest.mark.parametrize("kind", ["Queue", "JoinableQueue", "SimpleQueue"])
def test_the_thread_and_the_descriptor_go_with_the_queue(kind, descriptors_steady):
    queue = getattr(shoal, kind)()
    descriptors_steady()  # the arena is there
    before = threads()
    descriptor = queue._reader.fileno()
    (bell,) = threads() - before
    queue.put(1)
    assert readable(descriptor)
    assert queue._reader.recv() == 1
    assert not readable(descriptor, 0)
    del queue
    gone(bell)


def test_a_thread_that_has_rung_ends_as_well():
    before = threads()
    queue = shoal.Queue()
    assert not readable(queue._reader.fileno(), 0)
    (bell,) = threads() - before
    queue.put(1)
    assert readable(queue._reader.fileno())
    queue._reader.close()
    gone(bell)
    assert queue.get() == 1, "the queue itself is as it was"


def test_no_program_sees_the_thread_or_is_warned_of_it():
    queue = shoal.Queue()
    queue._reader.fileno()
    assert threading.enumerate() == [threading.main_thread()]
    with warnings.catch_warnings(action="error"):
        process = shoal.get_context("fork").Process(target=queue.put, args=(7,))
        process.start()
    process.join()
    assert queue._reader.recv() == 7


def test_a_forked_child_rings_for_itself():
    queue = shoal.Queue()
    assert not readable(queue._reader.fileno(), 0)

    def child() -> None:
        queue.put("in")
        assert readable(queue._reader.fileno())
        assert queue._reader.recv() == "in"
        assert not readable(queue._reader.fileno(), 0)

    process = shoal.get_context("fork").Process(target=child)
    process.start()
    process.join()
    assert process.exitcode == 0


def test_a_thread_can_no_longer_be_started_and_the_end_works_all_the_same(monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    for name in ("_start_new_thread", "_start_joinable_thread"):
        monkeypatch.setattr(threading, name, refuse, raising=False)
    queue = shoal.Queue()
    queue.put(1)
    assert readable(queue._reader.fileno())


def test_a_closed_simple_queue_has_closed_ends():
    queue = shoal.SimpleQueue()
    queue.close()
    assert queue._reader.closed
    assert queue._writer.closed


def test_wait_that_is_told_of_an_end_finds_the_items_put_before_it():
    queue = shoal.SimpleQueue()
    reader, writer = shoal.Pipe(duplex=False)
    queue._reader.fileno()
    queue._reader._ringer.stop()
    queue.put(1)
    os.eventfd_read(queue._bell)  # as if somebody without the bell had put it, and the thread had not come to run yet
    writer.close()
    assert connection.wait([queue._reader, reader]) == [queue._reader, reader]
    assert queue.get() == 1
    assert connection.wait([queue._reader, reader]) == [reader]


def test_wait_does_not_answer_with_a_queue_that_another_has_emptied():
    queue = shoal.Queue()
    queue.put(1)
    assert connection.wait([queue._reader]) == [queue._reader]
    assert queue.get() == 1  # past the reader, as another process would
    assert connection.wait([queue._reader], 0.05) == []
