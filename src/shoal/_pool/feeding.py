"""Where the inputs of a job come from, and how they become tasks.

A :class:`Source` takes items from an iterator and submits them, as many as may be in flight. Who calls it depends on the input. The thread
that waits in ``map`` feeds its own job. What cannot block (a list, a tuple, a range, …) is fed by the collector thread. Any other
iterable of ``imap`` or ``map_async`` may wait for earlier results before it gives the next item, so it gets a thread of its own
(:class:`Feeder`); its items are submitted one by one, as they come.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from itertools import islice, repeat
from time import perf_counter
from typing import TYPE_CHECKING, Any

from shoal._pool.failures import Failure, is_outcome, name_culprit
from shoal._pool.functions import EACH, ITEMS, ONE, STAR, STARRED
from shoal._pool.ledger import Batch, Chunk, Parcel
from shoal._pool.submitting import PAUSE_SECONDS, submit_row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from shoal._pool.chunking import Chunks
    from shoal._pool.collector import Collector
    from shoal._pool.functions import Function

__all__ = ["BUILTIN_SEQUENCES", "Feeder", "Source", "feed_in_background"]

BUILTIN_SEQUENCES = (list, tuple, range, str, bytes)  # of these exactly: iterating runs nobody's code
PLAIN = frozenset({int, float, str, bytes, bool, type(None)})  # of these exactly: pickling cannot fail
AT_ONCE = 256  # tasks submitted by one native call
LONG_SECONDS = 0.02  # one round of feeding takes no longer, if it can be helped
DEAR_SECONDS = 0.0001  # submitting an item that takes longer is taken into account at once
BUFFER = 4096  # outcomes of an imap that nobody has taken, and items on their way, at most


class Source:
    """The inputs of one job.

    Args:
        collector: of the pool.
        job: the result or iterator.
        items: gives the items; an exact builtin sequence is cut into slices, anything else is iterated over.
        length: how many there will be; None if that is not known.
        function: what they are given to.
        starred: whether an item is a tuple of arguments.
        chunks: sizes of chunks; None for one task an item.
        buffersize: for ``imap``: items on their way and outcomes not yet taken, at most; None for no limit.
        stream: whether it is an ``imap``.
        leavable: whether ``join()``, or the end of the iterator, ends the input. Else that lifts the limit, and all of it is worked on.
    """

    def __init__(
        self,
        collector: Collector,
        job: Any,
        items: Iterable[Any],
        length: int | None,
        function: Function,
        *,
        starred: bool,
        chunks: Chunks | None,
        buffersize: int | None = None,
        stream: bool = False,
        leavable: bool = False,
    ) -> None:
        self._collector = collector
        self._job = job
        self._sequence: Any = items if type(items) in BUILTIN_SEQUENCES else None
        self._iterator: Iterator[Any] = iter(() if self._sequence is not None else items)
        self._length = length
        self._function = function
        self._chunks = chunks
        self._buffersize = buffersize
        self._stream = stream
        self._leavable = leavable
        self._mode = (
            (ITEMS + (STARRED if starred else 0) + (EACH if stream else 0)) if chunks else (STAR if starred else ONE)
        )
        self.position = 0  # items taken from the iterator
        self.exhausted = False
        self.driven = False  # fed by the thread that waits for the job
        self.starved = False  # waits for the consumer to take outcomes
        self._room_again: threading.Event | None = None

    @property
    def remaining(self) -> int:
        """Items not yet taken, as far as that is known."""
        return max(0, (self._length or self.position) - self.position) if not self.exhausted else 0

    def _allowance(self) -> int:
        """How many tasks may be submitted now."""
        collector = self._collector
        if collector.terminating or collector.broken is not None:
            return 0
        allowed = collector.room()
        in_flight = len(self._job.open)
        if self._chunks is not None:
            allowed = min(allowed, self._chunks.in_flight - in_flight)
        if self._buffersize is not None and self._is_bounded():
            each = 1 if self._chunks is None else self._chunks.next_size(1)
            left = self._buffersize - (self.position - self._job._taken)
            if left < each:
                self.starved = True  # first tell, then look: an outcome may be taken meanwhile, or the consumer go
                left = self._buffersize - (self.position - self._job._taken)
            self.starved = left < each and self._is_bounded()
            if self.starved and self._room_again is None:  # a thread looks by itself
                collector.starving.add(self)
            allowed = min(allowed, left // each)
        # A job with nothing on its way always gets something, or it would never be woken.
        return max(allowed, 0 if in_flight or self.starved else 1)

    def _is_bounded(self) -> bool:
        """Whether what has not been taken counts; an input whose consumer has gone is worked on without a limit, or ends."""
        return not (self.forsaken or self._collector.joining)

    @property
    def forsaken(self) -> bool:
        """Whether there is no consumer any more."""
        return self._stream and self._job.forsaken

    def hungry(self) -> bool:
        """Whether it is time to feed: not for a single task, if there are many on their way."""
        if self.exhausted:
            return False
        allowed = self._allowance()
        if allowed <= 0:
            return False
        wanted = min(self._collector.window.limit, 4 * AT_ONCE)
        return self._chunks is not None or not self._job.open or allowed * 4 >= wanted

    def eaten(self) -> None:
        """The consumer of a starved job took an outcome."""
        limit = self._buffersize
        # A large buffer is filled again when half of it is empty, a small one as soon as there is room.
        if limit is None or limit <= AT_ONCE or 2 * (self.position - self._job._taken) <= limit:
            self.starved = False
            if self._room_again is not None:
                self._room_again.set()
            else:
                self._collector.feed_later(self)

    def wait_for_room(self) -> None:
        """Sleep, in a feeding thread, until the consumer has taken outcomes or the table has room; a moment at most."""
        again = self._room_again = self._room_again or threading.Event()
        again.clear()
        self._collector.waiting_feeders.append(again)
        if self._allowance() <= 0 and not self._collector.terminating:
            again.wait(PAUSE_SECONDS)
        with suppress(ValueError):
            self._collector.waiting_feeders.remove(again)

    def abandon(self) -> None:
        """Feed no more, and forget what is on its way: whoever wanted the results has gone."""
        self.exhausted = True
        self._drop_input()
        for task in list(self._job.open):
            self._collector.ledger.rows.pop(task, None)

    def feed(self) -> None:
        """Submit as much as may be submitted; errors of items become their outcomes, for a driven job they are raised.

        Raises:
            Exception: of a driven job (``map``): what pickling, or the iterator, raised. It is over then. Of an ``imap`` that is being started: what has nothing to do
                with an item.
        """
        if self.exhausted or self._left():
            return
        try:
            allowed = self._allowance()
            if self._chunks is not None:
                self._feed_chunks(allowed)
            elif allowed:
                self._feed_items(min(allowed, AT_ONCE))
        except BaseException as error:
            self._end()
            if self.driven or not is_outcome(error) or self._is_being_started():
                raise
            self._job.fail(error)

    def _is_being_started(self) -> bool:
        """Whether this is the call of ``imap``: what a signal handler raises is that call's, and whoever makes it never has the iterator."""
        return self._stream and threading.current_thread() is threading.main_thread()

    def _left(self) -> bool:
        """Whether nobody is going to take what is still to come: then the input ends here."""
        if self._leavable and not self._is_bounded():
            self._end()
            return True
        return False

    def _end(self) -> None:
        self.exhausted = True
        self._drop_input()
        if self._stream:
            self._job._set_length(self.position)
        else:
            self._job.closed(0)

    def _drop_input(self) -> None:
        self._iterator = iter(())
        self._sequence = None if self._sequence is None else ()

    def _pull(self, count: int) -> Sequence[Any] | None:
        """Take items; None at the end, which is noted."""
        try:
            if self._sequence is not None:  # a slice costs little, one of a range nothing
                items: Sequence[Any] = self._sequence[self.position : self.position + count]
            else:
                items = tuple(islice(self._iterator, count))
        except BaseException as error:
            if not (isinstance(error, Exception) if self.driven else is_outcome(error)):
                raise
            self._input_failed(error)
            return None
        if not items:
            self._end()
            return None
        return items

    def _input_failed(self, error: BaseException) -> None:
        if self._stream:
            index = self.position
            self.position += 1
            self._end()
            self._job.one(index, Failure(error))
            self._collector.call_leader()
        else:
            self._job.spoil(error)
            self._end()

    def trickle(self) -> None:
        """Submit items one by one as they come, as many as may be submitted now."""
        if self._left():
            return
        allowed = self._allowance()
        if allowed <= 0:
            self.wait_for_room()
        elif self._chunks is not None:
            self._feed_chunks(1)
        elif self._function.data is not None:
            self._feed_items(1)
        else:
            self._trickle_items(min(allowed, AT_ONCE))

    def _trickle_items(self, count: int) -> None:
        collector, job, function = self._collector, self._job, self._function
        ledger, window, submit, iterator = collector.ledger, collector.window, collector.end.submit, self._iterator
        mode, key = self._mode + function.fresh, function.key
        first = ledger.reserve(count)  # numbers that are not used do no harm
        row = Batch(job, first - self.position, function.name)
        spent, sent = 0.0, 0
        for task in range(first, first + count):
            if collector.room() <= 0:
                break
            try:
                item = next(iterator)
            except StopIteration:
                self._end()
                break
            except BaseException as error:
                if not is_outcome(error):
                    raise
                self._input_failed(error)
                break
            if self.exhausted or collector.terminating:
                break
            self.position += 1
            ledger.enter(task, 1, row, job)
            self._entered_up_to(self.position)
            began = perf_counter()
            try:
                submit(task, (mode, key, item))
            except BaseException as error:
                if not is_outcome(error):
                    raise
                self._refused(task, row, error)
            seconds = perf_counter() - began
            spent += seconds
            sent += 1
            if seconds > DEAR_SECONDS:
                window.observe(1, seconds)
        window.observe(sent, spent)

    def _feed_items(self, count: int) -> None:
        items = self._pull(count)
        if items is None:
            return
        function = self._function
        start = self.position
        self.position += len(items)
        if function.data is not None:
            for offset, item in enumerate(items):
                self._submit_parcel(start + offset, item)
        elif len(items) > 1 and PLAIN.issuperset(map(type, items)):
            self._submit_plain(start, items)
        else:
            self._submit_each(start, items)

    def _submit_plain(self, start: int, items: Sequence[Any]) -> None:
        """Submit items whose pickling cannot fail: all in one native call."""
        collector, job, function = self._collector, self._job, self._function
        count = len(items)
        first = collector.ledger.reserve(count)
        collector.ledger.enter(first, count, Batch(job, first - start, function.name), job)
        self._entered_up_to(start + count)
        began = perf_counter()
        payloads = list(zip(repeat(self._mode + function.fresh), repeat(function.key), items))
        try:
            queued = collector.end.submit_many(first, payloads)
        except BaseException:
            collector.ledger.withdraw(first, count, job)
            raise
        collector.window.observe(queued, perf_counter() - began)
        if queued < count:
            self._submit_each(start + queued, items[queued:], instead_of=first + queued)

    def _entered_up_to(self, position: int) -> None:
        """Note the end of the input once the last item's task is in the ledger, and before it is sent.

        Outcomes are settled by another thread meanwhile. It takes a job whose input has ended and of which no task is open for finished.
        """
        if self._length is not None and position >= self._length and not self._stream:
            self.exhausted = True

    def _submit_each(self, start: int, items: Sequence[Any], instead_of: int = 0) -> None:
        collector, job, function = self._collector, self._job, self._function
        ledger = collector.ledger
        mode = self._mode + function.fresh
        key = function.key
        count = len(items)
        first = ledger.reserve(count)
        row = Batch(job, first - start, function.name)
        ledger.enter(first, count, row, job)
        self._entered_up_to(start + count)
        if instead_of:
            ledger.withdraw(instead_of, count, job)
        began = perf_counter()
        for task, item in enumerate(items, first):
            try:
                collector.end.submit(task, (mode, key, item))
            except BaseException as error:
                if self.driven:
                    name_culprit(error, mode)
                    ledger.withdraw(task, first + count - task, job)
                    raise
                if not is_outcome(error):
                    raise
                self._refused(task, row, error)
        collector.window.observe(count, perf_counter() - began)

    def _refused(self, task: int, row: Batch, error: BaseException) -> None:
        """An item cannot be pickled: that is its outcome."""
        name_culprit(error, self._mode)
        self._collector.ledger.withdraw(task, 1, self._job)
        self._job.one(task - row.shift, Failure(error))
        self._job.closed(task)
        self._collector.call_leader()

    def _submit_parcel(self, index: int, item: Any) -> None:
        collector, job = self._collector, self._job
        task = collector.ledger.reserve()
        row = Parcel(job, task, index, self._mode, self._function, item)
        collector.ledger.enter(task, 1, row, job)
        self._entered_up_to(index + 1)
        submit_row(collector, row, embed=index <= 2 * collector.crew.size, raises=self.driven)

    def _feed_chunks(self, allowed: int) -> None:
        collector, job, chunks = self._collector, self._job, self._chunks
        while chunks is not None and allowed > 0 and not self.exhausted:
            allowed -= 1
            items = self._pull(chunks.next_size(self.remaining if self._length is not None else 1 << 30))
            if items is None:
                return
            start = self.position
            self.position += len(items)
            task = collector.ledger.reserve()
            row = Chunk(job, task, start, items, self._mode, self._function, chunks)
            collector.ledger.enter(task, 1, row, job)
            self._entered_up_to(self.position)
            began = perf_counter()
            submit_row(collector, row, embed=start == 0 or self.position <= 2 * collector.crew.size, raises=self.driven)
            seconds = perf_counter() - began
            chunks.observe_transport(len(items), seconds)
            collector.window.observe(1, seconds)
            if allowed > 0 and collector.ledger.rows and seconds > LONG_SECONDS:
                return


class Feeder(threading.Thread):
    """A thread that pulls the inputs of one job from an iterator that may block.

    Args:
        source: the job's inputs.
        collector: of the pool.
    """

    def __init__(self, source: Source, collector: Collector) -> None:
        super().__init__(name="shoal-pool-feeder", daemon=True)
        self._source = source
        self._collector = collector

    def run(self) -> None:
        """Pull and submit, one by one, until the end of the input or of the pool."""
        source, collector = self._source, self._collector
        collector.feeders.add(self)
        try:
            while not (source.exhausted or collector.terminating or collector.broken is not None):
                source.trickle()
        finally:
            collector.feeders.discard(self)


def feed_in_background(collector: Collector, source: Source, *, may_block: bool) -> None:
    """Have a job fed that nobody waits for.

    Args:
        collector: of the pool.
        source: the job's inputs.
        may_block: whether taking an item may block, or run anybody's code.
    """
    if may_block:
        Feeder(source, collector).start()
        return
    source.feed()
    if not source.exhausted and not source.starved:
        collector.feed_later(source)
