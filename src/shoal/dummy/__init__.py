"""The interface of the package over threads instead of processes: the standard library's ``multiprocessing.dummy``.

``import shoal.dummy as mp`` instead of ``import shoal as mp``, and a program that waits rather than computes runs in one process. The pool is the pool
of processes, with threads for workers (`shoal.pool.ThreadPool`). Beyond what the standard module has, there is what programs written for processes
ask for: `SimpleQueue`, ``Queue.close``, ``Value.get_lock``, ``connection.wait``, ``with Manager()``, ….

Locks, semaphores, conditions, events and barriers are those of ``threading``.
"""

from __future__ import annotations

import builtins
import queue
import sys
import threading
from types import ModuleType
from typing import TYPE_CHECKING, Any

from shoal import _standard
from shoal._runtime.cpus import usable_cpus
from shoal.dummy import connection
from shoal.dummy.connection import Pipe
from shoal.dummy.locks import BoundedSemaphore, RLock, Semaphore
from shoal.dummy.process import DummyProcess, active_children, current_process
from shoal.dummy.sharedctypes import Array, RawArray, RawValue, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from shoal.pool import ThreadPool

__all__ = [
    "Array",
    "Barrier",
    "BoundedSemaphore",
    "BufferTooShort",
    "Condition",
    "Event",
    "JoinableQueue",
    "Lock",
    "Manager",
    "Pipe",
    "Pool",
    "Process",
    "ProcessError",
    "Queue",
    "RLock",
    "RawArray",
    "RawValue",
    "Semaphore",
    "SimpleQueue",
    "TimeoutError",
    "Value",
    "active_children",
    "allow_connection_pickling",
    "connection",
    "cpu_count",
    "current_process",
    "freeze_support",
    "get_context",
    "get_logger",
    "log_to_stderr",
    "parent_process",
]

Lock = threading.Lock
Condition = threading.Condition
Event = threading.Event
Barrier = threading.Barrier

Process = DummyProcess

ProcessError = _standard.context.ProcessError
BufferTooShort = _standard.context.BufferTooShort
TimeoutError = _standard.context.TimeoutError  # noqa: A001 - the standard name
AuthenticationError = _standard.context.AuthenticationError

get_logger = _standard.util.get_logger
log_to_stderr = _standard.util.log_to_stderr


class Queue(queue.Queue[Any]):
    """A ``queue.Queue`` that can be closed as one between processes, which does nothing: the threads share it.

    Args:
        maxsize: how many items it holds before ``put`` waits; 0 or less: no limit.
    """

    def close(self) -> None:
        """Do nothing."""

    def join_thread(self) -> None:
        """Do nothing: there is no feeder thread."""

    def cancel_join_thread(self) -> None:
        """Do nothing: there is no feeder thread."""


JoinableQueue = Queue


class SimpleQueue:
    """``put``, ``get``, ``empty`` and ``close``, and nothing else."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def put(self, obj: Any) -> None:
        """Put an item; never waits."""
        self._queue.put(obj)

    def get(self) -> Any:
        """Wait for an item and return it."""
        return self._queue.get()

    def empty(self) -> bool:
        """Return whether there is no item now."""
        return self._queue.empty()

    def close(self) -> None:
        """Do nothing: the threads share it."""


class Namespace:
    """Something to set attributes on.

    Args:
        kwds: the first ones.
    """

    def __init__(self, /, **kwds: Any) -> None:
        self.__dict__.update(kwds)

    def __repr__(self) -> str:
        shown = (f"{name}={value!r}" for name, value in self.__dict__.items() if not name.startswith("_"))
        return f"{type(self).__name__}({', '.join(sorted(shown))})"


dict = builtins.dict  # noqa: A001 - what a manager makes, by the names of its methods
list = builtins.list  # noqa: A001
set = builtins.set  # noqa: A001


def Manager() -> Any:  # noqa: N802 - the standard name
    """Return what makes the objects that threads share: this module."""
    return sys.modules[__name__]


def shutdown() -> None:
    """Do nothing: as a manager, this module has no server."""


class _Module(ModuleType):
    """This module's own class, so that ``with Manager() as manager`` works."""

    def __enter__(self) -> ModuleType:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        shutdown()


sys.modules[__name__].__class__ = _Module


def Pool(  # noqa: N802 - the standard name
    processes: int | None = None, initializer: Callable[..., object] | None = None, initargs: Iterable[Any] = ()
) -> ThreadPool:
    """Return a pool of worker threads."""
    from shoal.pool import ThreadPool as kind  # noqa: PLC0415, N813 - which imports this package

    return kind(processes, initializer, initargs)


def parent_process() -> threading.Thread | None:
    """Return the thread that made the process that calls; None in a thread of another kind."""
    parent: threading.Thread | None = getattr(current_process(), "_parent", None)
    return parent


def cpu_count() -> int:
    """Return the number of processors this process may use: by affinity and cgroup quota, not what the machine has."""
    return usable_cpus()


def get_context(method: str | None = None) -> Any:  # noqa: ARG001 - the signature of the package's function
    """Return this module: threads are started in one way only."""
    return sys.modules[__name__]


def freeze_support() -> None:
    """Do nothing: a thread needs no executable."""


def allow_connection_pickling() -> None:
    """Do nothing: nothing is pickled."""
