"""Carries tasks over queues that a subclass of ``Pool`` brought (an overridden ``_setup_queues``: PyTorch, joblib).

The queues are like ``SimpleQueue``: in the worker ``get`` and ``put``; in the application the pool's ``_quick_put`` and ``_quick_get``, and
a ``_reader`` to wait for. A worker reports what it has taken before it runs it, so a task is known to be lost when its worker dies, unless that happens
between taking and reporting.
"""

from __future__ import annotations

import os
import queue
import threading
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

from shoal import _standard
from shoal._pool.functions import LearnedFunctions
from shoal.reduction import ForkingPickler

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["QueueEnd", "QueueWorkerEnd"]

TAKEN = 0  # in place of a task's number: (pid, task)
END = object()  # the sending thread may leave
STEP_SECONDS = 0.002  # of work between two signs of life within a chunk
LIMIT = 512  # messages that one `collect` returns at most


class QueueEnd:
    """The application's end.

    Args:
        inqueue: carries tasks.
        outqueue: carries outcomes.
        put: sends into `inqueue`.
        get: receives from `outqueue`.
    """

    def __init__(
        self, inqueue: Any, outqueue: Any, put: Callable[[Any], object] | None, get: Callable[[], Any] | None
    ) -> None:
        self._put = put or inqueue.put
        self._get = get or outqueue.get
        self._reader = outqueue._reader
        self._running: dict[int, int] = {}  # by pid
        self._outgoing: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._sender: threading.Thread | None = None
        self._bell, self._bell_writer = os.pipe()
        os.set_blocking(self._bell, False)
        os.set_blocking(self._bell_writer, False)
        self._finalizer = _standard.util.Finalize(self, _close_all, args=((self._bell, self._bell_writer),))

    def submit(self, task: int, payload: tuple[Any, ...]) -> None:
        """Queue a task; if its payload cannot be pickled, raise that and queue nothing."""
        ForkingPickler.dumps(payload)  # the queue may have a pickler of its own, but errors belong to the caller
        self._send((task, payload))

    def submit_many(self, first_task: int, payloads: list[tuple[Any, ...]]) -> int:
        """Queue tasks with consecutive numbers."""
        for task, payload in enumerate(payloads, first_task):
            self._send((task, payload))
        return len(payloads)

    def _send(self, message: Any) -> None:
        # The pipe may be full while workers wait for us to empty the other one: so a thread of its own sends.
        if self._sender is None:
            self._sender = threading.Thread(target=self._send_all, name="shoal-pool-sender", daemon=True)
            self._sender.start()
        self._outgoing.put(message)

    def _send_all(self) -> None:
        with suppress(OSError, EOFError, ValueError):
            while (message := self._outgoing.get()) is not END:
                self._put(message)

    def collect(self, timeout: float | None) -> list[tuple[int, bool, Any]]:
        """Wait for messages; none after `timeout` seconds, or when woken."""
        deadline = None if timeout is None else monotonic() + timeout
        found: list[tuple[int, bool, Any]] = []
        while len(found) < LIMIT:
            left = 0.0 if found else (None if deadline is None else max(0.0, deadline - monotonic()))
            ready = _standard.connection.wait([self._reader, self._bell], left)
            if self._bell in ready:
                with suppress(OSError):
                    os.read(self._bell, 4096)
            if self._reader not in ready:
                break
            task, last, payload = self._get()
            if task == TAKEN:
                pid, taken = payload
                self._running[pid] = taken
            else:
                found.append((task, last, payload))
        return found

    def wake(self) -> None:
        """Make ``collect`` return."""
        with suppress(OSError):
            os.write(self._bell_writer, b"\0")

    def close(self) -> None:
        """Let workers leave: one end mark, which each of them hands on."""
        self._send(None)
        self._send(END)

    drop = close

    def running(self, process: Any) -> int | None:
        """Say which task a dead worker had reported last; the ledger knows whether it has been finished."""
        return self._running.pop(process.pid, None)


def _close_all(descriptors: tuple[int, ...]) -> None:
    for descriptor in descriptors:
        with suppress(OSError):
            os.close(descriptor)


class QueueWorkerEnd:
    """A worker's end.

    Args:
        inqueue: carries tasks.
        outqueue: carries outcomes.
    """

    def __init__(self, inqueue: Any, outqueue: Any) -> None:
        self.identity = os.getpid()
        self.functions = LearnedFunctions
        self._inqueue = inqueue
        self._outqueue = outqueue
        # Nobody but the application reads outcomes: so its end is noticed. The writing end of tasks is kept, to hand the end mark on.
        if hasattr(outqueue, "_reader"):
            outqueue._reader.close()

    def claim(self) -> tuple[int, Any] | None:
        """Wait for a task; None when there will be no more."""
        message: tuple[int, Any] | None = self._inqueue.get()
        if message is None:
            self._inqueue.put(None)
            return None
        self._outqueue.put((TAKEN, False, (self.identity, message[0])))
        return message

    def publish(self, task: int, last: bool, payload: Any) -> None:
        """Send an outcome; if it cannot be pickled, raise that and send nothing."""
        self._outqueue.put((task, last, payload))

    def run(
        self,
        _task: int,
        function: Callable[..., Any],
        items: Sequence[Any],
        first: int,
        starred: bool,
        failed: Callable[[BaseException], Any] | None,
    ) -> list[Any]:
        """Run items of a chunk until it is time for a sign of life. What is not published is lost with the worker."""
        outcomes: list[Any] = []
        until = monotonic() + STEP_SECONDS
        for index in range(first, len(items)):
            try:
                outcomes.append(function(*items[index]) if starred else function(items[index]))
            except BaseException as error:
                if failed is None:
                    raise
                outcomes.append(failed(error))
                break
            if monotonic() > until:
                break
        return outcomes

    @staticmethod
    def check(payload: Any) -> None:
        """Raise what publishing would raise."""
        ForkingPickler.dumps(payload)
