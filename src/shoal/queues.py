"""Queues: ``Queue``, ``SimpleQueue`` and ``JoinableQueue``.

Relies on channels in shared memory (``shoal._native.Channel``): no feeder thread and no pipe. ``put`` pickles in the caller's thread, so what cannot be pickled
raises there, and what ``put`` has returned from is in the queue, whatever happens to the process afterwards: joining a process
never waits for its items to be read. Each item is delivered at most once; items of one producer arrive in order.

The names, signatures and exceptions are those of the standard library's module.
"""

from __future__ import annotations

import traceback
import types
from queue import Empty, Full
from typing import TYPE_CHECKING, Any

from shoal import _native, _queue_ends, _standard, reduction
from shoal._queue_by_pipe import QueueType

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Empty", "Full", "JoinableQueue", "Queue", "SimpleQueue"]


class _Queue(_native.Channel, metaclass=QueueType):
    """What the three have in common: how they travel, and their generic alias."""

    __class_getitem__: Any = classmethod(types.GenericAlias)
    _ends: _queue_ends.Ends | None = None

    def __getstate__(self) -> tuple[Any, ...]:
        # As in the standard library, what a subclass has added to the object stays behind, unless the subclass adds it to this.
        if self._bell < 0 or _standard.context.get_spawning_popen() is None:
            return super().__getstate__()
        return *super().__getstate__(), reduction.DupFd(self._bell)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        super().__setstate__(state[:1])
        self._ends = None
        self._set_bell(state[1].detach() if len(state) > 1 else -1)

    @property
    def _reader(self) -> _queue_ends.Reader:
        """Stands for the standard library's pipe end, which foreign code selects on."""
        return self._both_ends().reader

    @property
    def _writer(self) -> _queue_ends.Writer:
        return self._both_ends().writer

    def _both_ends(self) -> _queue_ends.Ends:
        if self._ends is None:
            self._ends = _queue_ends.Ends(self)
        return self._ends


class Queue(_Queue):
    """A queue for many producers and many consumers.

    Args:
        maxsize: how many items it holds before ``put`` waits; 0 or less: as many as fit into the arena.
        ctx: the context it was made by; kept for subclasses that expect the argument.
    """

    def __init__(self, maxsize: int = 0, *, ctx: Any = None) -> None:  # noqa: ARG002 - the standard signature
        super().__init__(maxsize)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        # A subclass that defines the standard library's hook for items that cannot be pickled (concurrent.futures, loky) expects the hook to get them, and
        # `put` to return: an exception there would end its manager thread.
        super().__init_subclass__(**kwargs)
        if "_on_queue_feeder_error" in cls.__dict__:
            cls.put = _reporting(cls.put)  # type: ignore[method-assign]

    @staticmethod
    def _on_queue_feeder_error(e: Exception, obj: object) -> None:  # noqa: ARG004 - the standard signature
        """The standard library's hook for subclasses, who may call this one: it prints the traceback. shoal itself raises from ``put``."""
        traceback.print_exception(e)

    def _terminate_broken(self) -> None:
        """What ``concurrent.futures`` calls when its workers have died: nothing is put or read any more."""
        self._reader.close()
        self.close()

    def join_thread(self) -> None:
        """Returns at once: there is no feeder thread, every item put is in the queue already.

        Raises:
            AssertionError: if the queue has not been closed.
        """
        if not self._closed:
            msg = f"Queue {self!r} not closed"
            raise AssertionError(msg)

    def cancel_join_thread(self) -> None:
        """Nothing to cancel: leaving a process never waits for its items to be read."""


def _reporting(put: Callable[..., None]) -> Callable[..., None]:
    def put_or_report(self: Queue, obj: object, block: bool = True, timeout: float | None = None) -> None:
        try:
            put(self, obj, block, timeout)
        except (Full, ValueError) as error:
            if isinstance(error, Full) or self._closed:
                raise
            _report(self, error, obj)
        except Exception as error:  # noqa: BLE001 - whatever pickling raises
            _report(self, error, obj)

    return put_or_report


def _report(queue: Queue, error: Exception, obj: object) -> None:
    """Call the hook; then take the traceback away, whose frames lead to those that called ``put``.

    An executor hands the error to a future that those frames refer to: as long as the garbage collector does not come, each would keep the other, the executor's
    thread and its queues. (In the standard library nobody has called: it is a thread that pickles.)
    """
    traceback = error.__traceback__
    cause = error.__context__
    while cause is not None:
        cause.__traceback__ = None
        cause = cause.__context__
    queue._on_queue_feeder_error(error, obj)
    last = error.__traceback__
    if last is traceback:
        error.__traceback__ = None
        return
    while last is not None and last.tb_next is not traceback:  # somebody has raised it meanwhile
        last = last.tb_next
    if last is not None:
        last.tb_next = None


class JoinableQueue(Queue):
    """A queue that counts: ``join`` waits until ``task_done`` has been called for each item.

    A consumer that is killed before it called ``task_done`` does not keep ``join`` waiting: what it had taken counts as dealt with.
    """

    def __init__(self, maxsize: int = 0, *, ctx: Any = None) -> None:  # noqa: ARG002 - the standard signature
        _native.Channel.__init__(self, maxsize, joinable=True)

    def task_done(self) -> None:
        """One item has been dealt with; may be called by another process than the one that took it, or before it is taken.

        Raises:
            ValueError: if called more often than there were items.
        """
        self._task_done()

    def join(self) -> None:
        """Waits until every item put has been dealt with."""
        self._join()


class SimpleQueue(_Queue):
    """``put``, ``get``, ``empty`` and ``close``, and nothing else. ``ctx`` is kept for compatibility."""

    def __init__(self, *, ctx: Any = None) -> None:  # noqa: ARG002 - the standard signature
        super().__init__()
        _queue_ends.hang_bell(self)

    def put(self, obj: object) -> None:  # type: ignore[override]
        """Puts an item; never waits."""
        self._check_open()
        super().put(obj)

    def get(self) -> Any:  # type: ignore[override]
        """Waits for an item and returns it."""
        self._check_open()
        return super().get()

    def empty(self) -> bool:
        """Whether there is no item now."""
        self._check_open()
        return super().empty()

    def close(self) -> None:
        """Give up both ends of the queue in this process."""
        super().close()
        ends = self._both_ends()
        ends.reader.close()
        ends.writer.close()

    def _check_open(self) -> None:
        if self._closed:  # what the standard library's raises, whose pipe is closed then
            msg = "handle is closed"
            raise OSError(msg)


def __getattr__(name: str) -> Any:
    """Find what else programs import from the standard module."""
    return getattr(_standard.queues, name)
