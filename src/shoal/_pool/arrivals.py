"""What arrives for ``imap`` and ``imap_unordered``: the ledger's side of them. Who takes it is in ``iterators``.

Outcomes may be settled twice, the second time in the middle of the first (see ``ledger``). So they are put into a *batch*, an iterator that can be read to its end once and counts them
as its last act; and a batch is emptied into what the consumer takes from in one C call.
"""

from __future__ import annotations

from collections import deque
from itertools import chain
from operator import add, setitem
from typing import TYPE_CHECKING, Any

from shoal._pool.failures import FAILURES
from shoal._pool.results import job_counter
from shoal._pool.waiting import Awaited

if TYPE_CHECKING:
    import weakref
    from collections.abc import Iterator, Sequence

    from shoal._pool.collector import Collector

__all__ = ["Arrivals", "UnorderedArrivals"]

REMEMBERED = 1 << 16  # batches of which an unordered one knows that it has had them; more than an inbox can repeat
EMPTIED: Any = iter(())


class Arrivals(Awaited):
    """Outcomes in the order of their items. Batches are kept until all before them are there.

    Args:
        pool: the pool, kept alive until the last outcome has arrived.

    Attributes:
        consumer: who takes outcomes; when it has gone, they are dropped as they arrive.
    """

    def __init__(self, pool: Any) -> None:
        super().__init__()
        self._pool = pool
        self._collector: Collector = pool._collector
        self._job = next(job_counter)
        self._cache: dict[int, Any] = pool._cache
        self._items: deque[tuple[bool, Any]] = deque()
        self._count = [0]  # see _index
        self._length: int | None = None  # known when the input has ended
        # Batches by their first item; of unordered ones those that were emptied, too.
        self._unsorted: dict[int, Iterator[tuple[bool, Any]]] = {}
        self._broken: BaseException | None = None
        self.consumer: weakref.ref[Any] | None = None
        self.open: set[int] = set()
        self._cache[self._job] = self

    @property
    def _index(self) -> int:  # items before it have been put into _items
        return self._count[0]

    @property
    def _taken(self) -> int:  # outcomes that the consumer has taken
        return self._count[0] - len(self._items)

    @property
    def _over(self) -> bool:
        return self._index == self._length or self._broken is not None

    @property
    def _done(self) -> bool:  # there is something to take
        return bool(self._items) or self._over

    def end(self) -> None:
        """All has been taken.

        Raises:
            BaseException: once, what ended it before its time.
        """
        self._pool = None
        if self._broken is not None:
            error, self._broken, self._length = self._broken, None, self._index
            try:
                raise error from error.__cause__
            finally:
                del error  # as in `ApplyResult.get`

    @property
    def forsaken(self) -> bool:
        """Whether nobody is going to take what arrives: there is no consumer any more."""
        return self.consumer is not None and self.consumer() is None

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
        unsorted, counted = self._unsorted, self._count
        if start >= counted[0]:
            unsorted.setdefault(start, self._batch(count, outcomes))
        while (batch := unsorted.get(index := counted[0])) is not None:
            self._items.extend(batch)
            unsorted.pop(index, None)
        self._have_arrived()

    def _batch(self, count: int, outcomes: Sequence[tuple[bool, Any]]) -> Iterator[tuple[bool, Any]]:
        """Make a batch: at its end ``_count[0] += count`` is done, in C.

        Reading it makes no object that the garbage collector knows: where one is made, it may run, and finalizers with it, and signal handlers in these.
        """
        counted = self._count
        note = map(setitem, (counted,), (0,), map(add, map(counted.__getitem__, (0,)), (count,)))
        return chain(iter(outcomes), filter(None, note))

    def _have_arrived(self) -> None:
        if self.forsaken:
            self._items = deque(maxlen=0)
        if self._bells:
            self._wake()
        if self._count[0] == self._length:
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
        self._source = None  # which refers to this
        if self._bells:
            self._wake()


class UnorderedArrivals(Arrivals):
    """Outcomes as they arrive."""

    def _arrived(self, start: int, count: int, outcomes: Sequence[tuple[bool, Any]]) -> None:
        batches = self._unsorted
        if len(batches) > REMEMBERED:
            batches.clear()
        self._items.extend(batches.setdefault(start, self._batch(count, outcomes)))
        batches[start] = EMPTIED
        self._have_arrived()
