"""What ``imap`` and ``imap_unordered`` return. Settling an outcome twice does no harm (see ``ledger``)."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from shoal import _standard
from shoal._pool.failures import FAILURES
from shoal._pool.results import job_counter
from shoal._pool.waiting import Awaited

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shoal._pool.collector import Collector

__all__ = ["IMapIterator", "IMapUnorderedIterator"]

TimeoutError = _standard.context.TimeoutError  # noqa: A001 - the standard library's name for it

REMEMBERED = (
    1 << 16
)  # outcomes of which an unordered iterator knows that it has had them; more than an inbox can repeat


class IMapIterator(Awaited):
    """The iterator of ``imap``. Outcomes are kept by segments of items until all before them are there.

    Args:
        pool: the pool, kept alive until the last outcome has arrived.
    """

    def __init__(self, pool: Any) -> None:
        super().__init__()
        self._pool = pool
        self._collector: Collector = pool._collector
        self._job = next(job_counter)
        self._cache: dict[int, Any] = pool._cache
        self._items: deque[tuple[bool, Any]] = deque()
        self._index = 0  # items before it have been put into _items
        self._length: int | None = None  # known when the input has ended
        self._unsorted: dict[int, tuple[int, Sequence[tuple[bool, Any]]]] = {}
        self._taken = 0  # outcomes that the consumer has taken
        self._broken: BaseException | None = None
        self.open: set[int] = set()
        self._cache[self._job] = self

    def __iter__(self) -> IMapIterator:
        return self

    @property
    def _over(self) -> bool:
        return self._index == self._length or self._broken is not None

    @property
    def _done(self) -> bool:  # there is something to take
        return bool(self._items) or self._over

    def next(self, timeout: float | None = None) -> Any:
        """Wait for the next outcome and return it.

        Args:
            timeout: seconds to wait at most.

        Raises:
            StopIteration: at the end.
            multiprocessing.TimeoutError: if it has not arrived in time.
            BaseException: what the call raised; the next one may be asked for all the same.
        """
        source = self._source
        while True:
            with suppress(IndexError):  # what is raised below, a Ctrl-C perhaps, has nothing to do with it
                success, value = self._items.popleft()
                break
            if source is not None and source.starved:
                source.eaten()
            if self._over and not self._items:
                self._pool = None
                if self._broken is not None:
                    error, self._broken, self._length = self._broken, None, self._index
                    raise error from error.__cause__
                raise StopIteration
            if not self._collector.wait(self, timeout):
                raise TimeoutError
        self._taken += 1
        if source is not None and source.starved:
            source.eaten()
        if success:
            return value
        raise value

    __next__ = next  # noqa: A003 - the method above, whose name the standard library chose

    # --- the ledger's side ---

    def one(self, index: int, payload: Any) -> None:
        """Take the outcome of one item."""
        failed = payload.__class__ in FAILURES
        self._arrived(index, 1, ((not failed, payload.exception if failed else payload),))

    def many(self, start: int, payloads: Sequence[Any]) -> None:
        """Take outcomes of consecutive items, failures among them."""
        self._arrived(
            start,
            len(payloads),
            [(False, p.exception) if p.__class__ in FAILURES else (True, p) for p in payloads],
        )

    def gap(self, start: int, count: int, failure: Any) -> None:
        """Take one failure that is that of several items. Each has it for its outcome: whoever counts items along with outcomes is not misled."""
        self._arrived(start, count, ((False, failure.exception),) * count)

    def _arrived(self, start: int, count: int, outcomes: Sequence[tuple[bool, Any]]) -> None:
        if start < self._index:
            return  # settled before
        unsorted = self._unsorted
        if start != self._index:
            unsorted[start] = (count, outcomes)
            return
        self._items.extend(outcomes)
        self._index += count
        while unsorted and self._index in unsorted:
            count, outcomes = unsorted.pop(self._index)
            self._items.extend(outcomes)
            self._index += count
        if self._bells:
            self._wake()
        if self._index == self._length:
            self._complete()

    def closed(self, _task: int) -> None:
        """Learn that a task is over."""

    def fail(self, error: BaseException) -> None:
        """End the iteration with an exception, after what has arrived."""
        if not self._over:
            self._broken = error
            self._complete()

    drop = fail

    def _set(self, i: int, obj: tuple[bool, Any]) -> None:
        """Take an outcome as the standard library's pool hands it over: ``(success, value)``."""
        self._arrived(i, 1, (obj,))

    def _set_length(self, length: int) -> None:
        """Learn how many outcomes there will be."""
        self._length = length
        if self._index == length:
            self._complete()

    def _complete(self) -> None:
        self._cache.pop(self._job, None)
        self._collector.finished(self)
        self._pool = None
        if self._bells:
            self._wake()


class IMapUnorderedIterator(IMapIterator):
    """The iterator of ``imap_unordered``: outcomes in the order of their arrival."""

    def __init__(self, pool: Any) -> None:
        super().__init__(pool)
        self._seen: set[int] = set()

    def _arrived(self, start: int, count: int, outcomes: Sequence[tuple[bool, Any]]) -> None:
        if start in self._seen:
            return  # settled before
        if len(self._seen) > REMEMBERED:
            self._seen.clear()
        self._items.extend(outcomes)
        self._seen.add(start)
        self._index += count
        if self._bells:
            self._wake()
        if self._index == self._length:
            self._complete()
