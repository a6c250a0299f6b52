"""``wait``: until one of many things is readable, whatever they are."""

from __future__ import annotations

import select
import time

from shoal._connection.messages import Messages
from shoal._connection.stream import poll_milliseconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ["wait"]


def wait(object_list: Iterable[Any], timeout: float | None = None) -> list[Any]:
    """Wait until something can be read, or has ended.

    Args:
        object_list: connections (shoal's or the standard library's), sockets, sentinels of processes, descriptors; anything with ``fileno()``.
        timeout: seconds; None waits for ever.

    Returns:
        Those that are ready, in their order; none if the time was up.

    Raises:
        ValueError: for what is neither a descriptor nor has one.
    """
    objects = list(object_list)
    if len(objects) == 1 and isinstance(objects[0], Messages) and objects[0].readable:
        # One connection knows best how to wait for itself: the end of a pipe need not ask the kernel when a message is there.
        return objects if objects[0].poll(timeout) else []
    poller = select.poll()
    watched = [(_descriptor(obj), obj) for obj in objects]
    for descriptor, _ in watched:
        poller.register(descriptor, select.POLLIN)
    until = None if timeout is None else time.monotonic() + timeout
    remaining = timeout
    while True:
        told = {descriptor for descriptor, _ in poller.poll(poll_milliseconds(remaining))}
        ready = [obj for descriptor, obj in watched if told and _is_ready(obj, descriptor in told)]
        if ready:
            return ready
        if until is not None:
            remaining = until - time.monotonic()
            if remaining <= 0:
                return []


def _descriptor(obj: Any) -> int:
    if isinstance(obj, int):
        descriptor = int(obj)
    else:
        try:
            descriptor = int(obj.fileno())
        except (AttributeError, TypeError, ValueError):
            raise ValueError(f"Invalid file object: {obj!r}") from None
    if descriptor < 0:
        raise ValueError(f"Invalid file descriptor: {descriptor}")
    return descriptor


def _is_ready(obj: Any, told: bool) -> bool:
    """Whether it has something, given whether the kernel says so: over TLS some bytes are nothing yet, and a queue's bell may come after its item.

    So whoever sees a worker's end sees the results that it had put before.
    """
    if not told and not getattr(obj, "_told_late", False):
        return False
    look = getattr(obj, "_has_something", None)
    return True if look is None else bool(look())
