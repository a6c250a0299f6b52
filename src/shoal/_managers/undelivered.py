"""Answers that nobody is there to have.

A client that is killed, or interrupted, while it waits in ``Queue.get`` or ``Lock.acquire`` leaves its thread in the server waiting. What comes to that thread later would be
lost with the answer: the item, or for all others the lock. So the call is undone.
"""

from __future__ import annotations

import queue
import select
import threading
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["take_back", "unless_hung_up"]

LOCKS = (type(threading.Lock()), threading.Semaphore)


def unless_hung_up(connection: Any) -> Callable[[Any], None]:
    """Return what sends over a socket's connection, and raises BrokenPipeError if the client has hung up.

    The kernel takes a message to somebody who has closed the other end of a TCP connection, and tells only later.
    """
    send = connection.send
    poller = select.poll()
    poller.register(connection.fileno(), select.POLLRDHUP)

    def send_if_there(message: Any) -> None:
        if poller.poll(0):
            raise BrokenPipeError("the client has hung up")
        send(message)

    return send_if_there


def take_back(obj: Any, methodname: str, result: Any) -> None:
    """Undo a call in the thread that made it: put back what was taken from a queue, release what was acquired."""
    if methodname in {"get", "get_nowait"}:
        _put_back(obj, result)
    elif (methodname == "acquire" and result is True and (isinstance(obj, LOCKS) or _has_an_owner(obj))) or (
        methodname == "wait" and isinstance(obj, threading.Condition)
    ):
        with suppress(RuntimeError):  # released meanwhile, by another
            obj.release()


def _has_an_owner(obj: Any) -> bool:
    """Whether it is a recursive lock or a condition, of whatever make."""
    return hasattr(obj, "_is_owned")


def _put_back(obj: Any, item: Any) -> None:
    """Put an item where the next one is taken from, however full the queue is."""
    if isinstance(obj, queue.SimpleQueue):
        obj.put(item)
    elif isinstance(obj, queue.Queue):
        with obj.not_empty:
            if isinstance(obj, (queue.LifoQueue, queue.PriorityQueue)):
                obj._put(item)
            else:
                obj.queue.appendleft(item)
            obj.not_empty.notify()
