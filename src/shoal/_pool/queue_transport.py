"""Carries tasks over queues that a subclass of ``Pool`` brought (an overridden ``_setup_queues``: PyTorch, joblib).

The queues are like ``SimpleQueue``: in the worker ``get`` and ``put``; in the application the pool's ``_quick_put`` and ``_quick_get``, and
a ``_reader`` to wait for. They have picklers of their own, so a message can only be loaded as a whole. Its first part is a :class:`Head`, which says whose
it is as soon as it is loaded: before the rest, which may raise, or kill whoever loads it. In a worker that is also when it reports what it has taken, so a task is known to be lost when its
worker dies. One that dies between taking a message and that report is found by what is missing (`shoal._pool.journal`).
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from contextlib import suppress
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from shoal import _native, _standard
from shoal._pool import lineage
from shoal._pool.failures import FAILURES, Failure, NotRun
from shoal._pool.functions import LearnedFunctions
from shoal._pool.journal import Journal
from shoal._pool.ledger import LOST
from shoal._pool.outcomes import Outcomes
from shoal._runtime.threads import harmless
from shoal.reduction import ForkingPickler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from shoal._pool.ledger import Message

__all__ = ["QueueEnd", "QueueWorkerEnd"]

TAKEN = 0  # in place of a task's number: (pid, task)
END = object()  # the sending thread may leave
STEP_SECONDS = 0.002  # of work between two signs of life within a chunk
CATCH_UP_SECONDS = 1.0
PAUSE_SECONDS = 0.25  # between two looks for dead workers, however much arrives
DRAIN_SECONDS = 1.0


class Loading(threading.local):
    """What is being loaded in this thread.

    Attributes:
        head: the number of the task, and whether it ends with the message; None: nothing that is known.
        report: told the number before the rest is loaded.
    """

    head: tuple[int, bool] | None = None
    report: Callable[[int], object] | None = None

    def begin(self, report: Callable[[int], object] | None = None) -> None:
        """Forget what was loaded before."""
        self.head, self.report = None, report


_loading = Loading()


class Head:
    """The number of a task in a message, and whether the task ends with it; it is loaded as these two.

    Args:
        task: the number.
        last: whether the task ends with the message.
    """

    __slots__ = ("_last", "_task")

    def __init__(self, task: int, last: bool) -> None:
        self._task = task
        self._last = last

    def __reduce__(self) -> tuple[Any, ...]:
        return _head, (self._task, self._last)


def _head(task: int, last: bool) -> tuple[int, bool]:
    if _loading.report is not None:
        _loading.report(task)
    _loading.head = task, last
    return task, last


class NotLoaded(Failure):
    """Stands for outcomes that cannot be loaded in the application."""

    __slots__ = ()


class Untold:
    """Stands in for the outcome of a task that a worker has taken, and died before it could say so.

    Args:
        pid: the worker's.
    """

    __slots__ = ("pid",)

    # How far it had got is not known: any item of a chunk may have been run.
    begun = sys.maxsize
    first = 0
    outcomes = ()

    def __init__(self, pid: int) -> None:
        self.pid = pid


FAILURES.add(NotLoaded)
LOST.add(Untold)


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
        self._inqueue = inqueue
        self._reader = outqueue._reader
        self._journal = Journal()
        self._outcomes = Outcomes()
        self.wake = self._outcomes.wake
        self._pause_at = 0.0  # on the monotonic clock
        self._receiving = False
        self._ended = False
        self._outgoing: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._sender: threading.Thread | None = None
        self._bell, self._bell_writer = os.pipe()
        self._failure: BaseException | None = None  # why nothing can be received any more
        # A thread of its own loads what comes: a signal handler, which may raise, runs in the main thread only.
        _start(self._receive_all, "shoal-pool-receiver")

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
            self._sender = _start(self._send_all, "shoal-pool-sender")
        self._outgoing.put(message)

    def _send_all(self) -> None:
        while (message := self._outgoing.get()) is not END:
            if message is None:
                with suppress(BaseException):
                    self._put(None)
                continue
            task, payload = message
            self._journal.sending(task)
            try:
                self._put((Head(task, True), payload))
            except BaseException as error:  # noqa: BLE001 - pickling runs foreign code
                self._journal.ended(task)
                self._outcomes.put((task, True, Failure(error)))
            else:
                self._journal.sent()

    def collect(self, timeout: float | None) -> Iterable[Message]:
        """Wait for messages; none after `timeout` seconds, or when woken, or now and then: whoever finds nothing looks for workers that have died."""
        if self._failure is not None and not self._ended:
            raise self._failure
        now = monotonic()
        if timeout != 0.0 and now >= self._pause_at:
            self._pause_at = now + PAUSE_SECONDS
            return [(task, True, Untold(pid)) for task, pid in self._journal.lost(self._is_drained)]
        left = self._pause_at - now
        return self._outcomes.collect(left if timeout is None else min(timeout, left))

    def _is_drained(self) -> bool:
        """Whether there is nothing to be taken by workers. Where that cannot be known there always is."""
        try:
            return not self._inqueue._reader.poll(0.0)
        except (AttributeError, OSError):
            return False

    def catch_up(self) -> None:
        """See to it that what dead workers have published can be collected."""
        until = monotonic() + CATCH_UP_SECONDS  # while others publish there is no end
        while monotonic() < until and not (self._ended or self._failure):
            if not (self._receiving or self._reader.poll(0.0)):
                break
            sleep(0.0005)

    def _receive_all(self) -> None:
        try:
            while self._bell not in _standard.connection.wait([self._reader, self._bell]):
                self._receiving = True
                self._receive()
                self._receiving = False
        except BaseException as error:  # noqa: BLE001 - whoever collects is told
            self._failure = error
            self._receiving = False
            self.wake()
        finally:
            os.close(self._bell)

    def _receive(self) -> None:
        _loading.begin()
        try:
            (task, last), payload = self._get()
        except BaseException as error:
            if _loading.head is None:
                raise
            task, last = _loading.head
            payload = NotLoaded(error)
        if task == TAKEN:
            self._journal.reported(*payload)
            return
        if last:
            self._journal.ended(task)
        self._outcomes.put((task, last, payload))

    def close(self) -> None:
        """Let workers leave: one end mark, which each of them hands on. May be called again, should it have gone with one that was killed."""
        self._send(None)

    def shut_down(self) -> None:
        """Forget what has not been sent, let workers leave, and the threads end."""
        with suppress(queue.Empty):
            while True:
                self._outgoing.get_nowait()
        self._send(None)
        self._send(END)
        self._let_go_of_sender()
        if not self._ended:
            self._ended = True
            os.close(self._bell_writer)  # which the receiving thread sees

    def _let_go_of_sender(self) -> None:
        """Take what is in the queue, for there may be no worker any more to make room for what is being sent."""
        until = monotonic() + DRAIN_SECONDS
        with suppress(AttributeError, EOFError, OSError):
            while self._sender is not None and self._sender.is_alive() and monotonic() < until:
                if self._inqueue._reader.poll(0.001):
                    self._inqueue._reader.recv_bytes()

    def died(self, process: Any) -> int | None:
        """Say which task the dead worker had; one that it has not reported is found later."""
        return self._journal.died(process.pid, in_order=process.exitcode == 0)


def _start(target: Callable[[], object], name: str) -> threading.Thread:
    thread = threading.Thread(target=target, name=name, daemon=True)
    harmless(thread)
    thread.start()
    return thread


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
        _loading.begin(self._report)
        # That a worker was killed at its queue the pool says by itself, if it has lost anything by that; and it kills them at its end.
        quiet = _native.take_over_quietly(True)
        try:
            message: tuple[tuple[int, bool], Any] | None = self._inqueue.get()
        except BaseException as error:
            if _loading.head is None:
                raise
            return _loading.head[0], NotRun(error)
        finally:
            _loading.report = None
            _native.take_over_quietly(quiet)
        if message is None:
            self._inqueue.put(None)
            return None
        (task, _), payload = message
        return task, payload

    def _report(self, task: int) -> None:
        self._outqueue.put((Head(TAKEN, False), (task, self.identity)))

    def publish(self, task: int, last: bool, payload: Any) -> None:
        """Send an outcome; if it cannot be pickled, raise that and send nothing."""
        quiet = _native.take_over_quietly(True)
        try:
            self._outqueue.put((Head(task, last), payload))
        finally:
            _native.take_over_quietly(quiet)

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
        forks = lineage.forks
        for index in range(first, len(items)):
            try:
                outcomes.append(function(*items[index]) if starred else function(items[index]))
            except BaseException as error:
                if failed is None or lineage.forks != forks:
                    raise
                outcomes.append(failed(error))
                break
            if lineage.forks != forks or monotonic() > until:
                break
        return outcomes

    @staticmethod
    def check(payload: Any) -> None:
        """Raise what publishing would raise."""
        ForkingPickler.dumps(payload)
