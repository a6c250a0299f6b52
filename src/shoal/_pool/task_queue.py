"""``pool._taskqueue``: the door by which programs hand tasks to the standard library's pool behind its back (the ``istarmap`` recipe)."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from shoal import _standard
from shoal._pool.failures import FAILURES
from shoal._pool.functions import CALL
from shoal._pool.ledger import Parcel
from shoal._pool.submitting import PAUSE_SECONDS, submit_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from shoal._pool.collector import Collector
    from shoal._pool.functions import Function

__all__ = ["TaskQueue"]


class TaskQueue:
    """``pool._taskqueue``: takes what programs put into that of the standard library, ``(tasks, set_length)``.

    Tasks are ``(job, index, function, args, kwds)``, made by ``Pool._guarded_task_generation``.
    """

    def __init__(self, collector: Collector, cache: dict[int, Any], name: Callable[[Any], Function]) -> None:
        self._collector = collector
        self._cache = cache
        self._name = name
        self._running = 0

    def put(self, item: tuple[Iterable[tuple[int, int, Any, tuple[Any, ...], dict[str, Any]]], Any]) -> None:
        """Start to feed these tasks, in a thread."""
        threading.Thread(target=self._feed, args=item, name="shoal-pool-feeder", daemon=True).start()
        self._running += 1

    def qsize(self) -> int:
        """How many jobs wait to be fed, wholly or in part."""
        collector = self._collector
        return self._running + len(collector.backlog) + len(collector.calls)

    def _feed(self, tasks: Iterable[Any], set_length: Callable[[int], None] | None) -> None:
        collector = self._collector
        index = -1
        try:
            for number, index, function, args, kwds in tasks:
                if collector.terminating:
                    return
                job = self._cache.get(number)
                if job is None:
                    continue
                collector.answer_for(job, eager=False)
                while collector.room() <= 0 and not collector.terminating:
                    room = threading.Event()
                    collector.waiting_feeders.append(room)
                    room.wait(PAUSE_SECONDS)
                try:
                    named = self._name(function)
                except Exception as error:  # noqa: BLE001 - it cannot be pickled: the outcome of that task
                    job._set(index, (False, error))
                    continue
                task = collector.ledger.reserve()
                row = Parcel(_Foreign(job), task, index, CALL, named, (args, kwds))
                collector.ledger.enter(task, 1, row, row.job)
                submit_row(collector, row, embed=True, raises=False)
            if set_length is not None:
                set_length(index + 1)
        finally:
            self._running -= 1
            _standard.util.debug("fed %d tasks", index + 1)


class _Foreign:
    """A job as ``TaskQueue`` sees it: outcomes go to its ``_set``."""

    def __init__(self, job: Any) -> None:
        self._job = job
        self.open = job.open

    def one(self, index: int, payload: Any) -> None:
        """Hand the outcome on."""
        failed = payload.__class__ in FAILURES
        self._job._set(index, (not failed, payload.exception if failed else payload))

    def many(self, start: int, payloads: Sequence[Any]) -> None:
        """Hand outcomes on, one by one."""
        for index, payload in enumerate(payloads, start):
            self.one(index, payload)

    def gap(self, start: int, _count: int, failure: Any) -> None:
        """Hand a failure on."""
        self.one(start, failure)

    def closed(self, task: int) -> None:
        """Learn that a task is over."""
        self._job.closed(task)
