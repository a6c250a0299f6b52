"""A pool as joblib's and PyTorch's are: a subclass that brings queues of its own."""

from __future__ import annotations

from typing import Any

from shoal.pool import Pool

__all__ = ["OwnQueues"]


class OwnQueues(Pool):
    """With simple queues, which pickle and load a message as a whole."""

    def _setup_queues(self) -> None:
        self._inqueue: Any = self._ctx.SimpleQueue()
        self._outqueue: Any = self._ctx.SimpleQueue()
        self._quick_put = self._inqueue._writer.send
        self._quick_get = self._outqueue._reader.recv
