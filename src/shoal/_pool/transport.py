"""The seam between a pool and what carries its tasks.

Two ends: :class:`ApplicationEnd` in the application, :class:`WorkerEnd` in a worker. Processes use the native task table. A subclass of
``Pool`` that brings queues of its own (an overridden ``_setup_queues``: PyTorch, joblib) gets them carried by ``queue_transport``; threads have
``thread_transport``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol

from shoal import _native
from shoal._pool.failures import FAILURES
from shoal._pool.functions import LearnedFunctions
from shoal._pool.ledger import LOST
from shoal.reduction import ForkingPickler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["ApplicationEnd", "TableEnd", "TableWorkerEnd", "WorkerEnd"]

FAILURES.add(_native.LoadFailure)
LOST.add(_native.WorkerLost)


class ApplicationEnd(Protocol):
    """What the collector and the sources need."""

    def submit(self, task: int, payload: tuple[Any, ...], /) -> None:
        """Queue a task; if its payload cannot be pickled, raise that and queue nothing."""

    def submit_many(self, first_task: int, payloads: list[tuple[Any, ...]], /) -> int:
        """Queue tasks with consecutive numbers, whose payloads are known to be picklable; returns how many were queued."""

    def collect(self, timeout: float | None, /) -> Iterable[tuple[int, bool, Any]]:
        """Wait for messages; none after `timeout` seconds, or when woken. They are taken in C: no signal comes between two of them."""

    def wake(self) -> None:
        """Make ``collect`` return, the present one or else the next."""

    def close(self) -> None:
        """Let workers leave once the queue is empty."""

    def shut_down(self) -> None:
        """Let workers leave, whatever is queued; those that can be ended are being ended."""

    def catch_up(self) -> None:
        """See to it that what dead workers have published can be collected."""

    def died(self, process: Any, /) -> int | None:
        """Learn that a worker has died; say which task it had claimed and not finished, if this transport does not report that by itself."""


class WorkerEnd(Protocol):
    """What the loop in a worker needs."""

    @property
    def identity(self) -> int:
        """By what the pool knows the worker: a process id, or a thread's identifier."""

    def functions(self) -> KnownFunctions:
        """Make what finds the functions of this worker's tasks."""

    def claim(self) -> tuple[int, Any] | None:
        """Wait for a task; None when there will be no more."""

    def run(
        self,
        task: int,
        function: Callable[..., Any],
        items: Sequence[Any],
        first: int,
        starred: bool,
        failed: Callable[[BaseException], Any] | None,
        /,
    ) -> list[Any]:
        """Run items of a chunk, from number `first` on, until it is time for a sign of life.

        Args:
            task: the chunk.
            function: what is called with each item.
            items: all items of the chunk.
            first: the number of the first to be run.
            starred: whether an item is a tuple of arguments.
            failed: makes the outcome of an item that raised; None: the exception is raised.

        Returns:
            The outcomes. Should the worker die before they are published, as many of them as possible are reported with its loss.
            In a child that an item has forked, which runs no others: anything.

        Raises:
            BaseException: what an item has raised, if `failed` is None, or in such a child.
        """

    def publish(self, task: int, last: bool, payload: Any, /) -> None:
        """Send an outcome; `last` ends the task. If it cannot be pickled (or not be loaded, where that is tried), raise that and send nothing."""

    def check(self, payload: Any, /) -> None:
        """Raise what publishing would raise."""


class KnownFunctions(Protocol):
    """Finds the function of a task."""

    @property
    def known(self) -> Callable[[Any], Callable[..., Any] | None]:
        """Finds a function by its key; None if it has to be resolved."""

    def resolve(self, payload: tuple[Any, ...], /) -> Any:
        """Load the function of a task; ``NOT_HERE`` if it must be sent again, with the function."""


class TableEnd:
    """The application's end of a native task table."""

    def __init__(self, table: Any) -> None:
        self.table = table
        self.submit = table.submit
        self.submit_many = table.submit_many
        self.collect = table.collect
        self.wake = table.wake
        self.close = self.shut_down = table.close

    def catch_up(self) -> None:
        """Nothing to do: what has been published is in the table."""

    def died(self, _process: Any) -> None:
        """Nothing to add: recovery reports lost tasks by itself, with a ``WorkerLost`` in the place of the outcome."""


class TableWorkerEnd:
    """A worker's end of a native task table."""

    def __init__(self, table: Any) -> None:
        self.identity = os.getpid()
        self.claim = table.claim
        self.publish = table.publish
        self.run = table.run
        self.functions = LearnedFunctions

    @staticmethod
    def check(payload: Any) -> None:
        """Raise what publishing would raise."""
        ForkingPickler.dumps(payload)
