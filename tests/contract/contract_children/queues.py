"""What producers and consumers do in the tests of queues."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.queues import Queue
    from types import SimpleNamespace


def put_all(held: SimpleNamespace, items: list[Any]) -> None:
    for item in items:
        held.queue.put(item)


def put_numbered(held: SimpleNamespace, name: str, number: int) -> None:
    for item in range(number):
        held.queue.put((name, item))


def get_until_none(held: SimpleNamespace) -> list[Any]:
    return list(iter(held.queue.get, None))


def work_until_none(held: SimpleNamespace) -> int:
    """Consume a JoinableQueue as its documentation shows."""
    number = 0
    while held.queue.get() is not None:
        number += 1
        held.done.release()
        held.queue.task_done()
    held.queue.task_done()
    return number


def put_and_return(queue: Queue, items: list[Any]) -> None:
    for item in items:
        queue.put(item)


def put_size_and_return(queue: Queue, size: int) -> None:
    queue.put(bytes(size))


def put_without_waiting_for_it_to_be_read(queue: Queue, size: int) -> None:
    queue.put(bytes(size))
    queue.cancel_join_thread()


def put_close_and_join(queue: Queue, to: Connection) -> None:
    queue.put("flushed")
    queue.close()
    queue.join_thread()
    to.send("joined")
    to.recv()
    os._exit(0)  # nothing is flushed on this way out


def put_through_what_comes(held: SimpleNamespace, item: Any) -> None:
    held.queue.get().put(item)
