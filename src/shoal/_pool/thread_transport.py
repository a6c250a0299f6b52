"""Carries the tasks of a ``ThreadPool``: everything stays an object of this process, nothing is pickled.

Tasks go through a ``queue.SimpleQueue``, outcomes through ``Outcomes``.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from contextlib import suppress
from itertools import count, starmap
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NoReturn

from shoal._pool import lineage
from shoal._pool.functions import Function
from shoal._pool.outcomes import Outcomes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["SharedFunctions", "ThreadEnd", "ThreadQueues", "ThreadWorkerEnd"]


class ThreadQueues:
    """What the application's end and the workers share."""

    __slots__ = ("outcomes", "tasks")

    def __init__(self) -> None:
        self.tasks: queue.SimpleQueue[tuple[int, Any] | None] = queue.SimpleQueue()
        self.outcomes = Outcomes()


class ThreadEnd:
    """The application's end.

    Args:
        queues: what it shares with the workers.
    """

    def __init__(self, queues: ThreadQueues) -> None:
        self._queues = queues
        self._put = queues.tasks.put
        self.collect = queues.outcomes.collect
        self.wake = queues.outcomes.wake

    def submit(self, task: int, payload: tuple[Any, ...]) -> None:
        """Queue a task."""
        self._put((task, payload))

    def submit_many(self, first_task: int, payloads: list[tuple[Any, ...]]) -> int:
        """Queue tasks with consecutive numbers."""
        deque(map(self._put, zip(count(first_task), payloads)), maxlen=0)
        return len(payloads)

    def catch_up(self) -> None:
        """Nothing to do: what has been published is there."""

    def close(self) -> None:
        """Let workers leave once the queue is empty: one end mark, which each of them hands on."""
        self._put(None)

    def shut_down(self) -> None:
        """Forget the tasks that nobody has claimed, and let workers leave after those that they run."""
        with suppress(queue.Empty):
            while True:
                self._queues.tasks.get_nowait()
        self._put(None)

    def died(self, _worker: Any) -> None:
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
        self._put = queues.outcomes.put

    def claim(self) -> tuple[int, Any] | None:
        """Wait for a task; None when there will be no more."""
        claimed = self._get()
        if claimed is None:
            self._queues.tasks.put(None)
        return claimed

    def publish(self, task: int, last: bool, payload: Any) -> None:
        """Hand an outcome over."""
        self._put((task, last, payload))

    def run(
        self,
        _task: int,
        function: Callable[..., Any],
        items: Sequence[Any],
        first: int,
        starred: bool,
        failed: Callable[[BaseException], Any] | None,
    ) -> list[Any]:
        """Run items of a chunk, all of them unless one raises: there is no worker that could be lost, so no need for signs of life."""
        outcomes: list[Any] = []
        lineage.under_way[self.identity] = rest = iter(items[first:] if first else items)
        forks = lineage.forks
        try:
            outcomes.extend(starmap(function, rest) if starred else map(function, rest))
        except BaseException as error:
            if failed is None or lineage.forks != forks:
                raise
            outcomes.append(failed(error))
            return outcomes
        finally:
            lineage.under_way.pop(self.identity, None)
        # Fewer: the function's own StopIteration, which `extend` takes for the end.
        if lineage.forks == forks and len(outcomes) < len(items) - first:
            if failed is None:
                raise StopIteration
            outcomes.append(failed(StopIteration()))
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
