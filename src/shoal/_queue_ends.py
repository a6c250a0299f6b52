"""The ends of a queue as foreign code knows them: ``queue._reader`` and ``queue._writer``.

The standard library's queues are pipes, and ``concurrent.futures``, loky and PyTorch select on the reading end. Ours are channels without a descriptor. A queue
gets an eventfd when somebody asks for one; a ``SimpleQueue`` has it from the start, because ``concurrent.futures`` asks when its workers run already. Children
inherit it, and whoever puts and has it rings it before the item is there: so a worker's last item is seen before its end. Those that got the queue in
a message do not have it; for their sake a thread of the process that asked sleeps until there is an item, rings, and goes on when this process
has emptied the queue. Readable and yet empty is possible when another process was faster, as with a shared pipe.

Relies on `shoal._native.Channel` only. Promises that the thread ends with the queue.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import weakref
from typing import Any

from shoal import _native
from shoal._runtime import threads

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
    """What can be sent to, and selected on for writing."""

    _descriptor: weakref.finalize[..., Writer] | None = None

    def send(self, obj: object) -> None:
        """Put an item."""
        self._open_queue().put(obj)

    def fileno(self) -> int:
        """A descriptor that is always writable, and never readable: there is no pipe that could be full."""
        self._open_queue()
        if self._descriptor is None:
            descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            self._number = descriptor
            self._descriptor = weakref.finalize(self, os.close, descriptor)
            self._descriptor.atexit = False
        return self._number

    def close(self) -> None:
        """Refuse further use, and close the descriptor."""
        super().close()
        if self._descriptor is not None:
            self._descriptor()


class Reader(_End):
    """What can be selected on and received from."""

    _ringer: _Ringer | None = None
    _told_late = True  # for `wait`: an item may be there before the descriptor says so

    def _has_something(self) -> bool:
        queue = self._queue()
        if self.closed or queue is None:
            return True  # `recv` says what is wrong
        self._quieten(queue)
        return not queue.empty()

    def recv(self) -> Any:
        """Wait for an item and return it."""
        queue = self._open_queue()
        item = queue.get()
        self._quieten(queue)
        return item

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Whether there is an item within ``timeout`` seconds; None waits for ever."""
        return bool(self._open_queue()._await(timeout))

    def fileno(self) -> int:
        """A descriptor that is readable while there are items."""
        queue = self._open_queue()
        if self._ringer is None or self._ringer.owner != os.getpid():  # a forked child has no thread of its parent's
            hang_bell(queue)
            queue._arm()
            self._ringer = ringer = _Ringer(queue)
            weakref.finalize(self, ringer.stop)
        self._quieten(queue)
        return int(queue._bell)

    def _quieten(self, queue: Any) -> None:
        ringer = self._ringer
        if ringer is not None and ringer.owner == os.getpid() and queue.empty():
            queue._quieten()
            ringer.go_on()

    def close(self) -> None:
        """Refuse further use, and end the thread that rings."""
        super().close()
        if self._ringer is not None:
            self._ringer.stop()


def hang_bell(queue: Any) -> None:
    """Give a queue its eventfd, if it has none."""
    if queue._bell < 0:
        queue._set_bell(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))


class _Ringer:
    """A thread that rings a queue's bell for those who put and have none, until it is stopped.

    It sleeps on a handle of its own, so that it keeps nobody's queue alive. It is none of `threading`'s: no program waits for it, counts it as left over,
    or keeps it from starting.
    """

    def __init__(self, queue: Any) -> None:
        self.owner = os.getpid()
        # A lock, which is held but when it rings: an Event, set by a thread in which a signal handler raises, would keep its own for ever.
        self._bell = _thread.allocate_lock()
        self._bell.acquire()
        self._stopped = False
        self._handle = _native.Channel._adopt(queue._reference())
        self._handle._set_bell(os.dup(queue._bell))
        _thread.start_new_thread(self._ring, ())

    def _ring(self) -> None:
        with threads.unseen(), contextlib.suppress(ValueError):  # the handle was given up
            while self._handle._await(None):
                self._bell.acquire(blocking=False)
                if self._stopped:
                    return
                self._handle._arm()
                self._bell.acquire()

    def go_on(self) -> None:
        """Tell the thread that the queue has been found empty. May be called again and again."""
        with contextlib.suppress(RuntimeError):  # it rings already
            self._bell.release()

    def stop(self) -> None:
        """End the thread; a forked child has none."""
        if self.owner == os.getpid() and not self._stopped:
            self._stopped = True
            self.go_on()
            self._handle._give_up()
