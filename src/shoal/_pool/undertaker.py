"""Sees to workers that have died, or are stuck: what they ran fails, others are started. Runs in the collector thread."""

from __future__ import annotations

from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from shoal._pool.restarts import RestartLimit
from shoal.errors import MainGuardError, WorkerLostError

if TYPE_CHECKING:
    from shoal._pool.collector import Collector
    from shoal._pool.crew import Member

__all__ = ["Undertaker"]

LEAVING_SECONDS = 0.5  # how long to wait for workers to end that have said they leave
RETRY_SECONDS = 0.5  # between two attempts to start a process when no worker is left
START_RETRIES = 10  # how many such attempts
GRAVES = 1024  # exit codes that are remembered


class Undertaker:
    """The part of a pool's collector that deals with dead workers.

    Args:
        collector: of the pool; a weak proxy of it.
        initializer_timeout: seconds that an initializer may take; None for ever.
        forked: whether workers are forks of this process.

    Attributes:
        begun: how often it has begun to look at the workers.
        done: how often it has also replaced them.
    """

    def __init__(self, collector: Collector, initializer_timeout: float | None, *, forked: bool) -> None:
        self._collector = collector
        self._initializer_timeout = initializer_timeout
        self._forked = forked
        self._limit = RestartLimit()
        self._start_failures = 0
        # Of the dead, by pid: the exit code, and whether another program had taken its place.
        self._graves: dict[int, tuple[int | None, bool]] = {}
        self.failed_initializer: BaseException | None = None
        self.begun = 0
        self.done = 0

    def is_needed(self) -> bool:
        """Whether a worker has died or is stuck. Takes nobody's exit status."""
        crew = self._collector.crew
        return crew.any_gone() or bool(crew.stuck(self._initializer_timeout, forked=self._forked))

    def heard_of(self, pid: int, *, ready: bool) -> None:
        """Learn that a worker runs, or is ready."""
        self._collector.crew.hear(pid, ready=ready)
        if ready:
            self._limit.ready()

    def attend(self) -> None:
        """See who has died; fail what they ran; start others."""
        collector = self._collector
        self.begun += 1
        self._wait_for_leavers()
        collector.wants_lead = True
        collector.end.wake()
        collector.lead.acquire()
        try:
            collector.attention = False
            self._bury_the_dead()
        finally:
            collector.wants_lead = False
            collector.lead.release()
            collector.wake_follower()
        self._replace()
        self.done = self.begun

    def _wait_for_leavers(self) -> None:
        collector = self._collector
        until = monotonic() + LEAVING_SECONDS
        while collector.leavers:
            member = collector.crew.by_pid(collector.leavers[0])
            if member is not None:
                member.process.join(max(0.0, until - monotonic()))
            collector.leavers.popleft()

    def _bury_the_dead(self) -> None:
        collector = self._collector
        crew, ledger = collector.crew, collector.ledger
        crew.adopt(replacements=True)
        for member, where in crew.stuck(self._initializer_timeout, forked=self._forked):
            member.process.kill()
            if where == "initializer" and self.failed_initializer is None:
                self.failed_initializer = TimeoutError(f"it did not return within {self._initializer_timeout} s")
        gone = crew.gone()
        # What they published before they died comes first.
        collector.end.catch_up()
        while True:
            collector.receive(0.0)
            if not ledger.inbox:
                break
            ledger.settle()
        for member in gone:
            self._bury(member)
        self._settle_losses()
        if self.failed_initializer is not None:
            collector.break_up("the initializer of the pool's workers failed", self.failed_initializer)

    def _bury(self, member: Member) -> None:
        collector = self._collector
        process: Any = member.process
        task = collector.end.died(process)
        exitcode = process.exitcode
        collector.crew.bury(member)
        self._graves[process.ident] = grave = (exitcode, member.replaced)
        if len(self._graves) > GRAVES:
            del self._graves[next(iter(self._graves))]
        if task is not None:
            collector.ledger.lose(task, partial(_lost, process.ident, *grave), None)
        if not member.started and exitcode == MainGuardError.EXITCODE and collector.crew.unguarded is not None:
            collector.break_up("the pool's workers cannot start", collector.crew.unguarded)
        elif not member.ready and self._limit.died_unready(exitcode):
            cause = WorkerLostError("its initializer, or its start", process.ident, exitcode)
            collector.break_up("workers die before they are ready", cause)

    def _settle_losses(self) -> None:
        """Fail what the transport has reported as lost, with the exit code of its worker."""
        collector = self._collector
        lost = collector.ledger.lost
        while lost:
            task, report = lost[0]
            pid = report.pid
            member = collector.crew.by_pid(pid)
            if member is not None:  # dead, or it would not have been reported
                collector.crew.see_off([member])
                self._bury(member)
            collector.ledger.lose(task, partial(_lost, pid, *self._graves.get(pid, (None, False))), report)
            if lost:
                lost.popleft()

    def _replace(self) -> None:
        """Start workers in place of those that are gone."""
        collector = self._collector
        crew = collector.crew
        while not (
            collector.terminating or collector.broken is not None or (collector.closing and not collector.cache)
        ):
            try:
                crew.fill()
            except Exception as error:  # noqa: BLE001 - whatever starting a process may raise
                if crew.processes:  # the others go on
                    break
                self._start_failures += 1
                if self._start_failures >= START_RETRIES:
                    collector.break_up("no worker can be started", error)
                    break
                collector.pause(RETRY_SECONDS)
            else:
                self._start_failures = 0
                break
        crew.adopt(replacements=True)


def _lost(pid: int, exitcode: int | None, replaced: bool, what: str) -> WorkerLostError:
    if replaced:
        what += ", and put another program in its place, which the pool has killed,"
    return WorkerLostError(what, pid, exitcode)
