"""The ends of a queue as foreign code knows them: ``queue._reader`` and ``queue._writer``.

The standard library's queues are pipes, and ``concurrent.futures``, loky and PyTorch select on the reading end. Ours are channels without a descriptor. A queue
gets an eventfd when somebody asks for one; a ``SimpleQueue`` has it from the start, because ``concurrent.futures`` asks when its workers run already. Children
inherit it, and whoever puts and has it rings it before the item is there: so a worker's last item is seen before its end. Those that got the queue in
a message do not have it; for their sake a thread of the process that asked sleeps until there is an item, rings, and goes on when this process
has emptied the queue. Readable and yet empty is possible when another process was faster, as with a shared pipe.

Relies on `shoal._native.Channel` only.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any

from shoal._runtime.threads import harmless

__all__ = ["Ends", "Reader", "Writer", "hang_bell"]


class Ends:
    """Both ends of one queue, in one process."""

    def __init__(self, queue: Any) -> None:
        self.reader = Reader(queue)
        self.writer = Writer(queue)


class _End:
    def __init__(self, queue: Any) -> None:
        self._queue = weakref.ref(queue)
        self.closed = False

    def _open_queue(self) -> Any:
        queue = self._queue()
        if self.closed or queue is None:
            msg = "handle is closed"
            raise OSError(msg)
        return queue

    def close(self) -> None:
        """Refuse further use of this end. The queue itself is not affected."""
        self.closed = True


class Writer(_End):
    """What can be sent to."""

    def send(self, obj: object) -> None:
        """Put an item."""
        self._open_queue().put(obj)


class Reader(_End):
    """What can be selected on and received from."""

    def __init__(self, queue: Any) -> None:
        super().__init__(queue)
        self._owner = 0
        self._emptied = threading.Event()

    def recv(self) -> Any:
        """Wait for an item and return it."""
        item = self._open_queue().get()
        self._quieten()
        return item

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Whether there is an item within ``timeout`` seconds; None waits for ever."""
        return bool(self._open_queue()._await(timeout))

    def fileno(self) -> int:
        """A descriptor that is readable while there are items."""
        queue = self._open_queue()
        if (
            self._owner != os.getpid()
        ):  # made when first asked for, and anew in a forked child, which has no thread of its parent's
            self._owner = os.getpid()
            self._emptied = threading.Event()
            hang_bell(queue)
            queue._arm()
            thread = threading.Thread(
                target=_ring, args=(self._queue, self._emptied), daemon=True, name="shoal-queue-bell"
            )
            harmless(thread)
            thread.start()
        self._quieten()
        return int(queue._bell)

    def _quieten(self) -> None:
        queue = self._queue()
        if self._owner != os.getpid() or queue is None or not queue.empty():
            return
        queue._quieten()
        self._emptied.set()

    def close(self) -> None:
        """Refuse further use, and let the bell's thread go."""
        super().close()
        self._emptied.set()


def hang_bell(queue: Any) -> None:
    """Give a queue its eventfd, if it has none."""
    if queue._bell < 0:
        queue._set_bell(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))


def _ring(queue_reference: weakref.ref[Any], emptied: threading.Event) -> None:
    """Keep the bell readable while the queue has items, as long as the queue lives."""
    while True:
        emptied.clear()
        queue = queue_reference()
        if queue is None:
            return
        # Bounded, so that the thread does not keep a queue alive that nobody else uses.
        try:
            there = queue._await(60.0)
            if there:
                queue._arm()
        except (ValueError, OSError):  # closed
            return
        del queue
        if there:
            emptied.wait()
