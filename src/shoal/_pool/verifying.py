"""The end of a worker that loads every outcome which needs a pickle before it publishes it: ``Pool(verify_results=True)``.

An outcome that cannot be loaded is then its own item's failure, made here; one that kills whoever loads it kills the worker, not the application. So that no other
item pays for it, an outcome that needs a pickle is published before the next item begins; plain ones are noted by the core, as ever.

An outcome whose loading hands something over is published untried (`shoal._pickling.handing_over`).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from shoal import _native, reduction
from shoal._pickling import handing_over
from shoal._pool.failures import UnloadableError
from shoal._pool.functions import LearnedFunctions

if TYPE_CHECKING:
    import pickle
    from collections.abc import Callable, Sequence

__all__ = ["VerifyingEnd"]


class VerifyingEnd:
    """A worker's end of a native task table.

    Args:
        table: the table.
    """

    def __init__(self, table: Any) -> None:
        handing_over.watch()
        self.identity = os.getpid()
        self.claim = table.claim
        self.functions = LearnedFunctions
        self._table = table
        self._plain = False  # all outcomes of the report that is published next need no pickle, only their list does

    def run(
        self,
        task: int,
        function: Callable[..., Any],
        items: Sequence[Any],
        first: int,
        starred: bool,
        failed: Callable[[BaseException], Any] | None,
    ) -> list[Any]:
        """Run items of a chunk until it is time for a sign of life, or an outcome needs a pickle, which is the last one then."""
        outcomes: list[Any] = self._table.run(task, function, items, first, starred, failed, True)
        self._plain = _native.is_plain(outcomes[-1])
        return outcomes

    def publish(self, task: int, last: bool, payload: Any) -> None:
        """Send an outcome; if it cannot be pickled, or not be loaded, raise that and send nothing."""
        if self._plain:
            self._plain = False
            self._table.publish(task, last, payload)
        else:
            self._table.publish(task, last, payload, _dumps_tried)

    @staticmethod
    def check(payload: Any) -> None:
        """Raise what publishing would raise."""
        _native.references_begin()
        try:
            _dumps_tried(payload)
        finally:
            _native.references_end()


def _dumps_tried(obj: Any) -> tuple[bytes, Sequence[pickle.PickleBuffer]]:
    """Pickle an object, and load it if that hands nothing over.

    Raises:
        UnloadableError: with what loading it raised.
        Exception: whatever pickling raises.
    """
    data, buffers, hands_over = handing_over.dumps(obj)
    if not hands_over:
        try:
            # Copies, as in the application: whatever is done with them there must not be done to the outcome itself.
            reduction.loads(data, [bytearray(buffer.raw()) for buffer in buffers])
        except BaseException as reason:  # noqa: BLE001 - unpickling runs foreign code
            raise UnloadableError(reason) from None
    return data, buffers
