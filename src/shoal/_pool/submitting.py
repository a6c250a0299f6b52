"""How a call, or a task that may have to be sent again, gets into the table."""

from __future__ import annotations

from collections import deque
from time import perf_counter
from typing import TYPE_CHECKING, Any

from shoal._pool.failures import is_outcome, name_culprit
from shoal._pool.ledger import Parcel

if TYPE_CHECKING:
    from collections.abc import Callable

    from shoal._pool.collector import Collector
    from shoal._pool.functions import Function
    from shoal._pool.ledger import Resend

__all__ = ["PAUSE_SECONDS", "Calls", "submit_call", "submit_or_keep", "submit_row"]

PAUSE_SECONDS = 0.5  # a thread that found no room for tasks looks again that soon, should nobody have woken it


def submit_row(collector: Collector, row: Resend, *, embed: bool, raises: bool) -> None:
    """Submit a task that may have to be sent again.

    Args:
        collector: of the pool.
        row: its row, which the ledger has.
        embed: whether a long function goes along.
        raises: whether what pickling raises is raised, or becomes the outcome.
    """
    job, task = row.job, row.task
    try:
        collector.end.submit(task, row.message(embed=embed))
    except BaseException as error:
        name_culprit(error, row.mode)
        if not raises and is_outcome(error) and collector.ledger.send_apart(row):
            collector.poke(urgent=True)
            return
        collector.ledger.withdraw(task, 1, job)
        if raises or not is_outcome(error):
            raise
        row.fail(error)
        collector.call_leader()


def submit_or_keep(collector: Collector, job: Any, function: Function, mode: int, argument: Any) -> None:
    """Submit a call, or keep it until there is room; it fails with what pickling it raises."""
    calls = collector.calls
    if not calls.exhausted or collector.room() <= 0:
        calls.add(job, function, mode, argument)
        if calls not in collector.backlog:
            collector.feed_later(calls)
        return
    began = perf_counter()
    submit_call(collector, job, function, mode, argument, raises=False)
    collector.window.observe(1, perf_counter() - began)


class Calls:
    """Calls of ``apply_async`` that found no room in the table.

    Args:
        collector: gives that of the pool, or None when it is gone.
    """

    starved = False

    def __init__(self, collector: Callable[[], Collector | None]) -> None:
        self._collector = collector
        self._waiting: deque[tuple[Any, Function, int, Any]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def exhausted(self) -> bool:
        """Whether none waits."""
        return not self._waiting

    def add(self, job: Any, function: Function, mode: int, argument: Any) -> None:
        """Keep a call until there is room."""
        self._waiting.append((job, function, mode, argument))

    def hungry(self) -> bool:
        """Whether something can be submitted."""
        collector = self._collector()
        return bool(self._waiting) and collector is not None and collector.room() > 0

    def feed(self) -> None:
        """Submit what there is room for."""
        collector = self._collector()
        while self._waiting and collector is not None and collector.room() > 0:
            job, function, mode, argument = self._waiting.popleft()
            submit_call(collector, job, function, mode, argument, raises=False)


def submit_call(collector: Collector, job: Any, function: Function, mode: int, argument: Any, *, raises: bool) -> None:
    """Submit one call.

    Args:
        collector: of the pool.
        job: an ``ApplyResult``, which is its own row.
        function: the function.
        mode: how the argument meets the function.
        argument: the argument.
        raises: whether an error in pickling is raised, or becomes the result.
    """
    ledger = collector.ledger
    task = ledger.reserve()
    if function.data is not None:
        row = Parcel(job, task, 0, mode, function, argument)
        ledger.enter(task, 1, row, job)
        submit_row(collector, row, embed=True, raises=raises)
        return
    ledger.rows[task] = job
    job._function = function
    try:
        collector.end.submit(task, (mode + function.fresh, function.key, argument))
    except BaseException as error:
        name_culprit(error, mode)
        ledger.rows.pop(task, None)
        if raises or not is_outcome(error):
            raise
        job.fail(error)
