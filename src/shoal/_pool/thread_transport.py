"""Carries the tasks of a ``ThreadPool``: everything stays an object of this process, nothing is pickled.

Tasks go through a ``queue.SimpleQueue``. Outcomes are collected by one thread at a time, which may be interrupted by Ctrl-C between any two
bytecodes; so they leave their queue in one C call, as they do from the native table.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from contextlib import suppress
from itertools import count, repeat, starmap
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NoReturn

from shoal._pool.functions import Function

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["SharedFunctions", "ThreadEnd", "ThreadQueues", "ThreadWorkerEnd"]


class ThreadQueues:
    """What the application's end and the workers share."""

    __slots__ = ("_bell", "asleep", "numbers", "outcomes", "tasks")

    def __init__(self) -> None:
        self.tasks: queue.SimpleQueue[tuple[int, Any] | None] = queue.SimpleQueue()
        self.outcomes: dict[int, tuple[int, bool, Any]] = {}  # in the order of their arrival
        self.numbers = count()
        self.asleep = False  # somebody waits for outcomes, or is about to
        self._bell = threading.Lock()
        self._bell.acquire()

    def ring(self) -> None:
        """Wake whoever waits for outcomes. May be called again and again; who is woken in vain looks and goes on."""
        self.asleep = False
        with suppress(RuntimeError):  # it rings already
            self._bell.release()

    def sleep(self, seconds: float) -> None:
        """Sleep until the bell rings; -1 seconds: for as long as that takes."""
        self._bell.acquire(timeout=seconds)


class ThreadEnd:
    """The application's end.

    Args:
        queues: what it shares with the workers.
    """

    def __init__(self, queues: ThreadQueues) -> None:
        self._queues = queues
        self._put = queues.tasks.put
        self._woken = False

    def submit(self, task: int, payload: tuple[Any, ...]) -> None:
        """Queue a task."""
        self._put((task, payload))

    def submit_many(self, first_task: int, payloads: list[tuple[Any, ...]]) -> int:
        """Queue tasks with consecutive numbers."""
        deque(map(self._put, zip(count(first_task), payloads)), maxlen=0)
        return len(payloads)

    def collect(self, timeout: float | None) -> Iterable[tuple[int, bool, Any]]:
        """Wait for messages; none after `timeout` seconds, or when woken."""
        queues = self._queues
        outcomes = queues.outcomes
        if not outcomes and not self._woken and timeout != 0.0:
            queues.asleep = True
            if not outcomes and not self._woken:  # first say so, then look again
                queues.sleep(-1.0 if timeout is None else min(max(timeout, 0.0), threading.TIMEOUT_MAX))
            queues.asleep = False
        self._woken = False
        # Only the one who collects takes away; but a signal handler may collect, too, before this is read.
        return filter(None, map(outcomes.pop, list(outcomes), repeat(None)))

    def wake(self) -> None:
        """Make ``collect`` return, the present one or else the next."""
        self._woken = True
        self._queues.ring()

    def close(self) -> None:
        """Let workers leave once the queue is empty: one end mark, which each of them hands on."""
        self._put(None)

    def drop(self) -> None:
        """Forget the tasks that nobody has claimed, and let workers leave after those that they run."""
        with suppress(queue.Empty):
            while True:
                self._queues.tasks.get_nowait()
        self._put(None)

    def running(self, _worker: Any) -> None:
        """Nothing: a thread does not end in a task."""


class ThreadWorkerEnd:
    """A worker's end.

    Args:
        queues: what it shares with the application.
    """

    def __init__(self, queues: ThreadQueues) -> None:
        self.identity = threading.get_ident()
        self._queues = queues
        self._get = queues.tasks.get
        self._outcomes = queues.outcomes

    def claim(self) -> tuple[int, Any] | None:
        """Wait for a task; None when there will be no more."""
        claimed = self._get()
        if claimed is None:
            self._queues.tasks.put(None)
        return claimed

    def publish(self, task: int, last: bool, payload: Any) -> None:
        """Hand an outcome over."""
        self._outcomes[next(self._queues.numbers)] = (task, last, payload)
        if self._queues.asleep:
            self._queues.ring()

    @staticmethod
    def run(
        _task: int,
        function: Callable[..., Any],
        items: Sequence[Any],
        first: int,
        starred: bool,
        failed: Callable[[BaseException], Any] | None,
    ) -> list[Any]:
        """Run items of a chunk, all of them unless one raises: there is no worker that could be lost, so no need for signs of life."""
        outcomes: list[Any] = []
        rest = items[first:] if first else items
        try:
            outcomes.extend(starmap(function, rest) if starred else map(function, rest))
        except BaseException as error:
            if failed is None:
                raise
            outcomes.append(failed(error))
        return outcomes

    @staticmethod
    def check(payload: Any) -> None:
        """Nothing can go wrong: nothing is pickled."""

    @staticmethod
    def functions() -> _Known:
        """How a worker finds the function of a task."""
        return _KNOWN


class SharedFunction(Function):
    """A callable that workers are given as it is."""

    __slots__ = ()

    def __init__(self, original: Callable[..., Any]) -> None:
        self.original = original
        self.fresh = 0
        self.key = (original,)
        self.data = None


class SharedFunctions:
    """What stands for ``Functions`` where nothing is pickled."""

    get = SharedFunction


class _Known:
    """What stands for ``LearnedFunctions``: the key of a shared function holds it."""

    known = staticmethod(itemgetter(0))

    @staticmethod
    def resolve(payload: tuple[Any, ...]) -> NoReturn:
        """Not needed but for None, which cannot be called.

        Raises:
            TypeError: always.
        """
        raise TypeError(f"{type(payload[1][0]).__name__!r} object is not callable")


_KNOWN = _Known()
