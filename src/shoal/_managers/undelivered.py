"""Answers that nobody is there to have.

A client that is killed, or interrupted, while it waits in ``Queue.get`` or ``Lock.acquire`` leaves its thread in the server waiting. What comes to that thread later would be
lost with the answer: the item, or for all others the lock. So the call is undone.
"""

from __future__ import annotations

import queue
import select
from contextlib import suppress

from shoal._managers.held import is_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["hang_up_of", "take_back", "unless"]


def hang_up_of(descriptor: int) -> Callable[[], bool]:
    """Return what tells whether the other end of a socket has been closed.

    The kernel takes a message to somebody who has closed the other end of a TCP connection, and tells only later.
    """

    def new_poller() -> select.poll:
        poller = select.poll()
        poller.register(descriptor, select.POLLRDHUP)
        return poller

    poller = new_poller()

    def has_hung_up() -> bool:
        try:
            return bool(poller.poll(0))
        except RuntimeError:  # another thread is just looking: one poller serves one at a time
            return bool(new_poller().poll(0))

    return has_hung_up


def unless(hung_up: Callable[[], bool], send: Callable[[Any], None]) -> Callable[[Any], None]:
    """Return what sends, and raises BrokenPipeError if the client has hung up."""

    def send_if_there(message: Any) -> None:
        if hung_up():
            raise BrokenPipeError("the client has hung up")
        send(message)

    return send_if_there


def take_back(server: Any, holder: Any, ident: str, methodname: str, answer: tuple[str, Any]) -> None:
    """Undo a call in the thread that made it: put back what was taken from a queue, release what was acquired."""
    obj: Any = None
    with suppress(KeyError, TypeError):  # it may have been no ident, whatever the client took for one
        obj = server.id_to_obj[ident][0]
    if methodname in {"get", "get_nowait"}:
        _put_back(obj, answer[1])
    elif is_lock(obj):
        server.held.undo(holder, ident, obj, methodname, answer)
    elif _has_an_owner(obj) and ((methodname == "acquire" and answer[1] is True) or methodname == "wait"):
        with suppress(RuntimeError):  # released meanwhile, by another
            if methodname == "wait" and answer[1]:
                obj.notify()  # the next one, in its place
            obj.release()


def _has_an_owner(obj: Any) -> bool:
    """Whether it is a recursive lock or a condition of other make."""
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
