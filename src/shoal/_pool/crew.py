"""The worker processes of a pool: starting, noticing that they are gone, ending them."""

from __future__ import annotations

import select
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shoal import _native, _standard
from shoal._runtime.threads import unannounced

if TYPE_CHECKING:
    from collections.abc import Callable

    from shoal.errors import MainGuardError

__all__ = ["Crew", "Member"]

TERMINATE_SECONDS = 1.0  # between SIGTERM and SIGKILL
GONE_SECONDS = 0.2  # between the moment at which a dying process gives up its locks and descriptors, and its end
KILL_SECONDS = 5.0  # how long to wait for the kernel to take a killed process away
STARTUP_SECONDS = 5.0  # a replacement made by fork that has not said a word by then is stuck (a lock held at the fork)
STRANGERS = 1024  # workers that are remembered for what they said, before they are known


class Member:
    """What the pool knows of one worker.

    Attributes:
        process: its ``Process``.
        ready: whether its initializer has returned.
        started: whether it has said anything.
        since: when it was started, in seconds of the monotonic clock.
        replacement: whether it was started later than with the pool.
        replaced: whether it was killed because a task had put another program in its place.
    """

    __slots__ = ("fileno", "process", "ready", "replaced", "replacement", "since", "started", "token")

    def __init__(self, process: Any, *, replacement: bool) -> None:
        self.process = process
        self.ready = False
        self.started = False
        self.replaced = False
        self.since = time.monotonic()
        self.replacement = replacement
        sentinel = getattr(process, "sentinel", None)
        self.fileno: int | None = sentinel if isinstance(sentinel, int) else None
        self.token: int = getattr(getattr(process, "_popen", None), "_token", 0)

    def is_abandoned(self) -> bool:
        """Whether another program is in its place (``os.exec…`` in a task), which a sentinel does not tell; or it is about to end."""
        return self.token != 0 and _native.slot_abandoned(self.token)


class Crew:
    """The workers of one pool.

    Args:
        processes: the pool's own list of processes (``pool._pool``), which programs look at and subclasses fill.
        size: how many there are to be.
        start: makes and starts one process.
        unguarded: the error if it turns out that they are started by the import of a main module without a guard.
    """

    def __init__(
        self, processes: list[Any], size: int, start: Callable[[], Any], unguarded: MainGuardError | None = None
    ) -> None:
        self.processes = processes
        self.size = size
        self.unguarded = unguarded
        self._start = start
        self._members: dict[int, Member] = {}  # by id() of the process
        self._heard: dict[
            int, bool
        ] = {}  # pids of workers that have spoken and are not among the members, and whether they are ready
        self._poll = select.poll()
        self._watched: set[int] = set()

    def fill(self) -> None:
        """Start workers in place of those that are gone, in the collector thread.

        Where workers are forks that is a fork beside other threads, of which shoal warns. Here the warning would reach nobody who could do anything about it;
        and where warnings are errors the pool would be left without workers.

        Raises:
            OSError: if a process cannot be started; those that were, stay.
        """
        processes = self.processes  # the pool's, should it end meanwhile
        if len(processes) >= self.size:
            return
        with unannounced():
            while len(processes) < self.size:
                processes.append(self._start())

    def adopt(self, *, replacements: bool) -> None:
        """Take note of processes in the list that are new there."""
        for process in list(self.processes):
            if id(process) not in self._members:
                member = Member(process, replacement=replacements)
                self._members[id(process)] = member
                if member.fileno is not None:
                    self._poll.register(member.fileno, select.POLLIN)
                    self._watched.add(member.fileno)
                self._tell(getattr(process, "ident", 0))

    def hear(self, pid: int, *, ready: bool) -> None:
        """Learn that a worker runs, or is ready. It may be quicker with its word than its parent is with taking note of it.

        Called by whoever leads, while `adopt` is the collector thread's: each first writes and then looks, so one of the two sees the other.
        """
        self._heard[pid] = ready or self._heard.get(pid, False)
        if len(self._heard) > STRANGERS:
            self._heard.pop(next(iter(self._heard)), None)
        self._tell(pid)

    def _tell(self, pid: int) -> None:
        """Write what was heard of a worker where it belongs, if it is known by now."""
        member = self.by_pid(pid)
        ready = self._heard.pop(pid, None) if member is not None else None
        if member is not None and ready is not None:
            member.started = True
            member.ready = member.ready or ready

    def members(self) -> list[Member]:
        """All workers known."""
        return list(self._members.values())

    def by_pid(self, pid: int) -> Member | None:
        """Find a worker by its process id, or its thread's identifier."""
        for member in self.members():
            if getattr(member.process, "ident", None) == pid:
                return member
        return None

    def any_gone(self, timeout: float = 0.0) -> bool:
        """Whether a worker has ended, or has been replaced by another program. Nobody's exit status is taken.

        Args:
            timeout: seconds to wait for it.
        """
        if self._watched and self._poll.poll(timeout * 1000):
            return True
        return any(member.is_abandoned() for member in self.members())

    def gone(self) -> list[Member]:
        """The workers that have ended; their exit codes are known then."""
        ready = {descriptor for descriptor, _ in self._poll.poll(0)} if self._watched else set()
        found = [
            member
            for member in self.members()
            if member.fileno in ready
            or (member.fileno is None and member.process.exitcode is not None)
            or member.is_abandoned()
        ]
        self.see_off(found)
        return found

    @staticmethod
    def see_off(members: list[Member]) -> None:
        """Wait for the end of workers that have given up what ties them to the pool.

        One that lives on is another program by now, which its task has put in its place: it is killed.
        """
        _join([member.process for member in members], GONE_SECONDS)
        left = [member for member in members if member.process.exitcode is None]
        for member in left:
            # Else its end takes long, for it has much memory to give back.
            member.replaced = _runs_a_program(member.process.pid)
            member.process.kill()
        _join([member.process for member in left], KILL_SECONDS)

    def bury(self, member: Member) -> None:
        """Forget a worker that has ended."""
        self._members.pop(id(member.process), None)
        if member.fileno is not None and member.fileno in self._watched:
            self._watched.discard(member.fileno)
            with suppress(KeyError, OSError):
                self._poll.unregister(member.fileno)
        with suppress(ValueError):
            self.processes.remove(member.process)

    def stuck(self, initializer_seconds: float | None, *, forked: bool) -> list[tuple[Member, str]]:
        """The workers that take too long to become ready, each with what it is stuck in: ``"start"`` or ``"initializer"``.

        Args:
            initializer_seconds: how long an initializer may take; None for ever.
            forked: whether the workers are forks of this process.
        """
        now = time.monotonic()
        found = []
        for member in self.members():
            if member.ready or member.fileno is None:  # a thread: nobody could end it
                continue
            if not member.started and member.replacement and forked and now - member.since > STARTUP_SECONDS:
                found.append((member, "start"))
            elif initializer_seconds is not None and now - member.since > initializer_seconds:
                found.append((member, "initializer"))
        return found

    def terminate(self) -> None:
        """End all workers: SIGTERM, and SIGKILL for those that do not heed it. Returns within seconds."""
        if not self.processes or not hasattr(self.processes[0], "terminate"):
            return
        processes = list(self.processes)
        for process in processes:
            if process.exitcode is None:
                _standard.util.debug("terminating worker %s", process.pid)
                process.terminate()
        _join(processes, TERMINATE_SECONDS)
        for process in processes:
            if process.exitcode is None:
                _standard.util.debug("killing worker %s", process.pid)
                process.kill()
        _join(processes, KILL_SECONDS)

    def forget(self) -> None:
        """The pool has ended: start no more, and let go of the processes, whose descriptors go with them. The pool's own list stays as it is.

        Jobs, which hold the collector, may outlive the pool by far.
        """
        self.size = 0
        self.processes = []
        for descriptor in list(self._watched):
            with suppress(KeyError, OSError):
                self._poll.unregister(descriptor)
        self._watched.clear()
        self._members.clear()


def _join(processes: list[Any], seconds: float) -> None:
    """Wait for the end of processes, all together so long at most. Those that are known to have ended, too: until they are joined they count as children."""
    until = time.monotonic() + seconds
    for process in processes:
        process.join(max(0.0, until - time.monotonic()))


def _runs_a_program(pid: int) -> bool:
    """Whether a process has not begun to end, by which it loses its program first."""
    try:
        Path(f"/proc/{pid}/exe").readlink()
    except OSError:
        return False
    return True
