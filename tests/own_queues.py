"""A pool as joblib's and PyTorch's are: a subclass that brings queues of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shoal.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["OwnQueues", "with_tasks_by"]


class OwnQueues(Pool):
    """With simple queues, which pickle and load a message as a whole."""

    def _setup_queues(self) -> None:
        self._inqueue: Any = self._ctx.SimpleQueue()
        self._outqueue: Any = self._ctx.SimpleQueue()
        self._quick_put = self._inqueue._writer.send
        self._quick_get = self._outqueue._reader.recv


def with_tasks_by(queue: Callable[[Any], Any]) -> type[OwnQueues]:
    """Make such a pool whose tasks go through another kind of queue, made of a context."""

    class Special(OwnQueues):
        def _setup_queues(self) -> None:
            super()._setup_queues()
            self._inqueue = queue(self._ctx)
            self._quick_put = self._inqueue.put

    return Special
