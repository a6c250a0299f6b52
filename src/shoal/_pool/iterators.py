"""What ``imap`` and ``imap_unordered`` return.

It is apart from the job that the pool works on (``arrivals``), so that it can be seen when nobody has it any more: then the job goes on, as in the standard library, but its outcomes are dropped.
There is no ``__del__``, nor another finalizer: one in Python is where a Ctrl-C may come, and be lost.
"""

from __future__ import annotations

import weakref
from typing import Any

from shoal import _standard
from shoal._pool.arrivals import Arrivals, UnorderedArrivals

__all__ = ["IMapIterator", "IMapUnorderedIterator"]

TimeoutError = _standard.context.TimeoutError  # noqa: A001 - the standard library's name for it


class IMapIterator:
    """The iterator of ``imap``: outcomes in the order of the items.

    Args:
        pool: the pool.
    """

    _kind: type[Arrivals] = Arrivals

    def __init__(self, pool: Any) -> None:
        self._arrivals = self._kind(pool)
        self._arrivals.consumer = weakref.ref(self)
        # What the standard library's has, and patches of its pool use.
        self._job = self._arrivals._job
        self._set = self._arrivals._set
        self._set_length = self._arrivals._set_length

    def __iter__(self) -> IMapIterator:
        return self

    def next(self, timeout: float | None = None) -> Any:
        """Wait for the next outcome and return it.

        Args:
            timeout: seconds to wait at most.

        Raises:
            StopIteration: at the end.
            multiprocessing.TimeoutError: if it has not arrived in time.
            BaseException: what the call raised; the next one may be asked for all the same.
        """
        arrivals = self._arrivals
        source, items = arrivals._source, arrivals._items
        while True:
            try:
                # No signal handler runs, and no other thread, between the two lines: what is raised before has taken nothing.
                success, value = items[0]
                del items[0]
                break
            except IndexError:
                pass  # and no more: what is raised below, a Ctrl-C perhaps, has nothing to do with it
            if source is not None and source.starved:
                source.eaten()
            if arrivals._over and not items:
                arrivals.end()
                raise StopIteration
            if not arrivals._collector.wait(arrivals, timeout):
                raise TimeoutError
        if source is not None and source.starved:
            try:
                source.eaten()
            except BaseException:  # a signal handler's: nothing has been taken yet
                items.appendleft((success, value))
                raise
        if success:
            return value
        try:
            raise value
        finally:
            del value  # as in `ApplyResult.get`

    __next__ = next  # noqa: A003 - the method above, whose name the standard library chose


class IMapUnorderedIterator(IMapIterator):
    """The iterator of ``imap_unordered``: outcomes in the order of their arrival."""

    _kind = UnorderedArrivals
