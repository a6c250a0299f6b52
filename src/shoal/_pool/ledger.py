"""Which task belongs to whom, and what becomes of it: a pure state machine, no processes, no threads, no clocks.

A *job* is one call (``apply``, ``map``, …) with outcomes numbered from 0. A *row* stands for one task or for a run of tasks with
consecutive numbers. A message ``(task, last, payload)`` is settled by the row of its task; ``last`` ends the task.

Settling may be interrupted at any bytecode, in two ways. By an exception (Ctrl-C, or a signal handler that raises): then the message in hand is settled again by whoever
settles next. By code that uses the pool itself (a signal handler, a finalizer), and settles *nested*: it settles the message in hand as well, since those that follow build on
it, and what was interrupted goes on afterwards. Neither does any harm: whatever a message changes is changed in one step, or so that changing it again is no change. (Signal handlers run
where functions are called, and where loops begin again; not between a comparison and the assignment that depends on it.) A message leaves ``inbox`` and becomes the one in hand in one step, too.

A task whose worker died is *lost*: its row turns it into the failure of the item that was being run, and what is left of a chunk goes to
``again``, to be sent as a new task. So does a chunk that cannot be pickled, or not be loaded, where each item has an outcome of its own (``imap``): it is *divided*, until
the item is found that is to blame; the others are not touched by it.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from shoal._pool.failures import FAILURES, Bounce, Failure, NotRun
from shoal._pool.functions import CALL, EACH

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shoal._pool.chunking import Chunks
    from shoal._pool.functions import Function

__all__ = ["FIRST_TASK", "LOST", "Batch", "Chunk", "Job", "Ledger", "Parcel", "Row"]

# The classes of payloads by which a transport reports that a worker died in a task; each has an attribute `pid`, and is a `Progress`.
LOST: set[Any] = set()

EMPTY = ("pop from an empty deque",)
FIRST_TASK = 1024  # smaller numbers are no tasks: by them workers speak of themselves

Message = tuple[int, bool, Any]


class Job(Protocol):
    """Who receives outcomes, by the number of the item."""

    open: set[int]  # its tasks that are on their way

    def one(self, index: int, payload: Any, /) -> None:
        """Take the outcome of one item: its value, or an object of a class in ``FAILURES``."""

    def many(self, start: int, payloads: Sequence[Any], /) -> None:
        """Take the outcomes of consecutive items."""

    def gap(self, start: int, count: int, failure: Any, /) -> None:
        """Take one failure that stands for several items."""

    def closed(self, task: int, /) -> None:
        """Learn that a task is over (`open` has lost it)."""


class Row(Protocol):
    """What the ledger knows of a task."""

    def settle(self, task: int, last: bool, payload: Any, /) -> Resend | None:
        """Take a message of this task; returns itself if the task must be sent again."""

    def lose(self, task: int, error: Callable[[str], BaseException], progress: Progress | None, /) -> Sequence[Resend]:
        """Learn that the worker died in this task; returns what of it must be sent again.

        Args:
            task: its number.
            error: makes the exception, given what was being run, in words.
            progress: how far it had got, as far as is known.
        """


class Progress(Protocol):
    """How far a dead worker had got with a chunk."""

    @property
    def begun(self) -> int:
        """How many items it had begun."""

    @property
    def first(self) -> int:
        """The number of the first one whose outcome follows."""

    @property
    def outcomes(self) -> Sequence[Any]:
        """Outcomes that it had not published, of consecutive items."""


class Resend(Row, Protocol):
    """A row that can be sent again under a new number."""

    job: Any
    task: int
    mode: int

    def message(self, *, embed: bool = True) -> tuple[Any, ...]:
        """Make the payload to be sent; a long function goes along if `embed`."""

    def fail(self, error: BaseException) -> None:
        """It cannot be sent: fail what has no outcome yet."""


class Batch:
    """Tasks with consecutive numbers, one item each, whose function goes with every task.

    Args:
        job: who receives the outcomes.
        shift: the number of a task minus the number of its item.
        name: of the function, for messages.
    """

    __slots__ = ("job", "name", "shift")

    def __init__(self, job: Job, shift: int, name: str) -> None:
        self.job = job
        self.shift = shift
        self.name = name

    def settle(self, task: int, last: bool, payload: Any) -> None:
        """Hand the outcome on."""
        job = self.job
        job.one(task - self.shift, payload)
        if last:
            job.open.discard(task)
            if not job.open:
                job.closed(task)

    def lose(self, task: int, error: Callable[[str], BaseException], _progress: Progress | None) -> Sequence[Resend]:
        """Fail the one item."""
        self.settle(task, True, Failure(error(f"{self.name} (item {task - self.shift})")))
        return ()


class Parcel:
    """One task with one item, whose function may have to be sent again.

    Args:
        job: who receives the outcome.
        task: its number.
        index: number of the item.
        mode: how the argument meets the function.
        function: the function.
        argument: what it is called with.
    """

    __slots__ = ("argument", "function", "index", "job", "mode", "task")

    def __init__(self, job: Job, task: int, index: int, mode: int, function: Function, argument: Any) -> None:
        self.job = job
        self.task = task
        self.index = index
        self.mode = mode
        self.function = function
        self.argument = argument

    def message(self, *, embed: bool = True) -> tuple[Any, ...]:
        """Make the payload."""
        function = self.function
        if function.data is None:
            return (self.mode + function.fresh, function.key, self.argument)
        return (self.mode + function.fresh, function.key, self.argument, 1, function.data if embed else None)

    def settle(self, task: int, last: bool, payload: Any) -> Parcel | None:
        """Hand the outcome on, or ask to be sent again."""
        if payload.__class__ is Bounce:
            return self
        self.job.one(self.index, payload)
        if last:
            self.job.open.discard(task)
            self.job.closed(task)
        return None

    def fail(self, error: BaseException) -> None:
        """It cannot be sent: fail the item."""
        self.settle(self.task, True, Failure(error))

    def lose(self, task: int, error: Callable[[str], BaseException], _progress: Progress | None) -> Sequence[Resend]:
        """Fail the one item."""
        what = f"{self.function.name} (item {self.index})" if self.mode != CALL else self.function.name
        self.settle(task, True, Failure(error(what)))
        return ()


class Chunk:
    """One task with several items. Its worker runs them in steps and reports after each: ``(offset, seconds, outcomes)``.

    Args:
        job: who receives the outcomes.
        task: its number.
        start: number of its first item.
        items: the items.
        mode: how each meets the function.
        function: the function.
        chunks: what learns how long items take.
    """

    __slots__ = ("apart", "chunks", "done", "function", "items", "job", "missing", "mode", "start", "task")

    def __init__(
        self, job: Job, task: int, start: int, items: Sequence[Any], mode: int, function: Function, chunks: Chunks
    ) -> None:
        self.job = job
        self.task = task
        self.start = start
        self.items = items
        self.mode = mode
        self.function = function
        self.chunks = chunks
        self.done = 0
        self.missing: Any = None  # why the outcomes from `done` up to the next report are not there
        self.apart = False  # its halves are to be sent, not it

    def message(self, *, embed: bool = True) -> tuple[Any, ...]:
        """Make the payload: the items that have no outcome yet."""
        function = self.function
        if self.done:
            self.items = self.items[self.done :]
            self.start += self.done
            self.done = 0
        head = (self.mode + function.fresh, function.key, self.items)
        return head if function.data is None else (*head, 1, function.data if embed else None)

    def settle(self, task: int, last: bool, payload: Any) -> Chunk | None:
        """Hand outcomes on; ask to be sent again if the worker had not got the function, or could not load an item."""
        kind = payload.__class__
        if kind is Bounce:
            return self
        if kind is NotRun and self.divisible:
            self.apart = True
            return self
        if kind in FAILURES:
            if (
                self.mode & EACH and kind is not Failure and not last
            ):  # these outcomes cannot be loaded; the chunk goes on
                self.missing = payload
            else:
                self._fill(len(self.items), payload)
        else:
            offset, seconds, outcomes = payload
            self._fill(offset, self.missing)
            self.job.many(self.start + offset, outcomes)
            self._advance(offset + len(outcomes))
            self.chunks.observe(len(outcomes), seconds)
        if last:
            self.job.open.discard(task)
            self.job.closed(task)
        return None

    @property
    def divisible(self) -> bool:
        """Whether its items have outcomes of their own, and it has several."""
        return bool(self.mode & EACH) and len(self.items) - self.done > 1

    def divide(self, reserve: Callable[[int], int]) -> Sequence[Chunk]:
        """Make two chunks of the items that have no outcome yet.

        Args:
            reserve: takes consecutive numbers for them; returns the first.
        """
        begin, end = self.done, len(self.items)
        half = (begin + end) // 2
        first = reserve(2)
        return [
            Chunk(self.job, task, self.start + a, self.items[a:b], self.mode, self.function, self.chunks)
            for task, a, b in ((first, begin, half), (first + 1, half, end))
        ]

    def fail(self, error: BaseException) -> None:
        """It cannot be sent: fail the items that have no outcome yet."""
        self.settle(self.task, True, Failure(error))

    def _fill(self, end: int, failure: Any) -> None:
        """Give the items from `done` up to `end` one failure."""
        if failure is None:
            return
        self.missing = None
        first = self.done
        if end > first:
            self.job.gap(self.start + first, end - first, failure)
            self._advance(end)

    def _advance(self, end: int) -> None:
        """Never back: what settled nested may have come further. A call, of ``max``, would let it in between the two halves."""
        if end > self.done:  # noqa: PLR1730
            self.done = end

    def lose(self, task: int, error: Callable[[str], BaseException], progress: Progress | None) -> Sequence[Resend]:
        """Take what outcomes there are, fail the item that was being run, and have what comes after it sent again.

        A worker that had not even begun may have died of the chunk itself, of an item that cannot be loaded. Then the halves are sent by themselves, until
        the item is found that kills whoever gets it.
        """
        count = len(self.items)
        if progress is None:  # nobody knows: all that is not reported may have been run, or may never be
            self._fail_lost(count, error)
        elif progress.begun:
            if self.missing is not None:
                self._fill(progress.first, self.missing)
            known = progress.first + len(progress.outcomes)
            if known > self.done >= progress.first:
                self.job.many(self.start + self.done, progress.outcomes[self.done - progress.first :])
                self.done = known
            self._fail_lost(min(progress.begun, count), error)
        elif count - self.done == 1:
            self._fail_lost(count, error)
        elif self.done == 0:
            self.apart = True
        if self.done < count:
            return (self,)
        self.job.open.discard(task)
        self.job.closed(task)
        return ()

    def _fail_lost(self, end: int, error: Callable[[str], BaseException]) -> None:
        """Fail what was lost, from `done` up to `end`."""
        first = self.start + self.done
        lost = end - self.done
        if lost <= 0:
            return
        what = f"item {first}" if lost == 1 else f"items {first} to {first + lost - 1}"
        failure = Failure(error(f"{self.function.name} ({what})"))
        for index in range(first, first + lost):
            self.job.one(index, failure)
        self.done = end


class Ledger:
    """All tasks that are on their way.

    Args:
        control: told of messages by which workers speak of themselves: their number, which is less than ``FIRST_TASK``, and the payload.
    """

    def __init__(self, control: Callable[[int, Any], None]) -> None:
        self.rows: dict[int, Row] = {}
        self.inbox: deque[Message] = deque()
        # What is being settled, or was when an exception came: by how deep it is nested.
        self.in_hand: dict[int, Message] = {}
        self.again: deque[Resend] = deque()
        self.lost: deque[tuple[int, Any]] = deque()  # tasks whose worker died, with the report of it
        self._control = control
        self._next = FIRST_TASK
        self.lock = threading.Lock()

    def reserve(self, count: int = 1) -> int:
        """Take consecutive numbers for tasks; returns the first."""
        with self.lock:
            first = self._next
            self._next = first + count
        return first

    def enter(self, first: int, count: int, row: Row, job: Job) -> None:
        """Note tasks before they are sent.

        Args:
            first: number of the first.
            count: how many there are.
            row: what stands for them.
            job: whose they are.
        """
        if count == 1:
            self.rows[first] = row
            job.open.add(first)
        else:
            tasks = range(first, first + count)
            self.rows.update(dict.fromkeys(tasks, row))
            job.open.update(tasks)

    def withdraw(self, first: int, count: int, job: Job) -> None:
        """Forget tasks that could not be sent."""
        for task in range(first, first + count):
            self.rows.pop(task, None)
            job.open.discard(task)

    def settle(self, *, nested: bool = False) -> None:
        """Settle all messages of the inbox.

        Args:
            nested: whether this thread may be in the middle of settling already.
        """
        in_hand = self.in_hand
        if in_hand:  # an exception came in between, or this is nested
            for message in list(in_hand.values()):
                self._settle(*message)
            if not nested:
                in_hand.clear()
        depth = len(in_hand)
        settle, messages = self._settle, iter(self.inbox.popleft, None)
        try:
            for in_hand[depth] in messages:  # taken and noted: no signal handler runs in between
                settle(*in_hand[depth])
        except IndexError as error:
            if error.args != EMPTY:
                raise
        in_hand.pop(depth, None)

    def _settle(self, task: int, last: bool, payload: Any) -> None:
        if payload.__class__ in LOST:
            self.lost.append((task, payload))  # its row stays: the exit code is wanted first
            return
        row = self.rows.get(task)
        if row is not None:
            resend = row.settle(task, last, payload)
            if resend is not None:
                self.again.append(resend)
            if last:
                self.rows.pop(task, None)
        elif task < FIRST_TASK:
            self._control(task, payload)

    def lose(self, task: int, error: Callable[[str], BaseException], progress: Progress | None) -> bool:
        """Settle a task whose worker died; the inbox must have been settled after that death.

        Args:
            task: what the worker had claimed.
            error: makes the exception, given what was being run, in words.
            progress: how far the worker had got, as far as is known.

        Returns:
            Whether the task was known and not finished.
        """
        row = self.rows.get(task)
        if row is None:
            return False
        self.again.extend(row.lose(task, error, progress))
        self.rows.pop(task, None)
        return True

    def send_apart(self, row: Resend) -> bool:
        """Have the halves of a chunk sent, which could not be sent itself, if each item has an outcome of its own; returns whether that is so."""
        if not (isinstance(row, Chunk) and row.divisible):
            return False
        row.apart = True
        self.rows.pop(row.task, None)  # it stays open: its job is not over
        self.again.append(row)
        return True

    def divide(self, row: Resend) -> bool:
        """List the halves of a chunk that is to be divided, in its place; returns whether it is one. It may be listed twice."""
        if not (isinstance(row, Chunk) and row.apart):
            return False
        job, task = row.job, row.task
        if task in job.open:
            parts = row.divide(self.reserve)
            job.open.update(part.task for part in parts)
            self.again.extend(parts)
            job.open.discard(task)
        return True

    def renew(self, row: Resend) -> int | None:
        """Give a row that must be sent again its new number and note it.

        Returns:
            The number, or None if it has been given already (the row was listed twice).
        """
        job, old = row.job, row.task
        if old not in job.open:
            return None
        task = self.reserve()
        row.task = task
        self.rows[task] = row
        job.open.add(task)
        job.open.discard(old)
        return task
