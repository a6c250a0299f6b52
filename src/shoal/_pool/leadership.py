"""Who receives the outcomes: one thread at a time, the *leader*.

A thread that waits for a result leads if nobody else does: it waits for messages itself, settles all of them, its own and those of others,
and passes the leadership on when it has what it wants. So a synchronous call needs no hand-over between threads. A thread that finds a
leader becomes a *follower*: it sleeps until its own result is there, or until it is to lead.

The main thread may be interrupted by Ctrl-C at any bytecode. Hence: messages come out of the table and into the inbox in one C call; one that
was being settled is settled again (see ``ledger``); the lock knows its owner. What could not bear an
interruption (callbacks, deaths, sending again) is left to the collector thread.

While tasks are outstanding a leader looks at the workers' sentinels twice a second, should nothing have woken it. An idle pool has no timer.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from itertools import chain
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from shoal._pool.waiting import Bell

if TYPE_CHECKING:
    from shoal._pool.ledger import Ledger
    from shoal._pool.transport import ApplicationEnd

__all__ = ["SLICE_SECONDS", "Leadership"]

SLICE_SECONDS = 0.5  # at most between two looks at the sentinels
# With so many tasks on their way, a leader that gets so few messages at a time sleeps a moment before it looks again. Else, on few cores, each
# message wakes it, it takes the worker's core, and both change places for every single task: ten times slower than in batches.
MANY = 64
FEW = 4
LINGER_SECONDS = 0.0001
PAUSE_BETWEEN_CHORES = 0.005


class Leadership:
    """The base of the collector: waiting, leading, following.

    Args:
        end: the application's end of the transport.
        ledger: settles messages.
    """

    def __init__(self, end: ApplicationEnd, ledger: Ledger) -> None:
        self.end = end
        self.ledger = ledger
        self.terminating = False
        self.collecting = False  # the collector thread leads
        self.stand_aside = False  # a waiting thread wants to lead in its place
        self.wants_lead = False  # the collector thread must lead, whoever waits
        self.thread: threading.Thread | None = None  # the collector's
        self.lead: Any = threading.RLock()
        self.followers: deque[Bell] = deque()

    # --- what the collector adds ---

    def has_news(self) -> bool:
        """Whether settling has left something to tell (see :meth:`tell`)."""
        raise NotImplementedError

    def tell(self) -> None:
        """After settling: have others do their part."""
        raise NotImplementedError

    def look(self) -> None:
        """Nothing came in a slice: see whether somebody died."""
        raise NotImplementedError

    def pass_to_thread(self) -> None:
        """Nobody waits any more: have the collector thread lead if there is work of its own."""
        raise NotImplementedError

    def do_chores(self) -> None:
        """Do what else only the collector thread does, and is it that calls."""
        raise NotImplementedError

    # --- waiting ---

    def wait(self, job: Any, timeout: float | None = None) -> bool:
        """Wait until a job is done, leading if nobody else does.

        Args:
            job: an ``Awaited``; if it has a driven source, this thread feeds it.
            timeout: seconds to wait at most.

        Returns:
            Whether it is done.

        Raises:
            Exception: what a driven source raises: inputs that cannot be pickled.
        """
        deadline = None if timeout is None else monotonic() + timeout
        lead = self.lead
        nested = lead._is_owned()  # called from a finalizer, while this thread settles messages
        try:
            while not job._done:
                if nested or (not (self.wants_lead or self.terminating) and lead.acquire(False)):
                    if self._drive(job, deadline, nested=nested):
                        break
                    if not nested:
                        lead.release()
                else:
                    self._follow(job, deadline)
                if deadline is not None and monotonic() >= deadline:
                    break
        finally:
            try:
                if not nested and lead._is_owned():
                    lead.release()
            finally:  # a second Ctrl-C may have come right there
                if not nested and lead._is_owned():
                    lead.release()
                self.pass_on()
        return bool(job._done)

    def receive(self, seconds: float) -> None:
        """Wait for messages and put them into the inbox."""
        self.ledger.inbox.extend(chain.from_iterable(map(self.end.collect, (seconds,))))

    def _drive(self, job: Any, deadline: float | None, *, nested: bool) -> bool:  # noqa: C901 - the hot loop, in one piece
        """Lead until the job is done (True), or the deadline, or the collector must lead (False)."""
        ledger = self.ledger
        inbox = ledger.inbox
        collect = self.end.collect
        if inbox or ledger.in_hand:
            ledger.settle(nested=nested)
        source = job._source
        if source is not None and not source.driven:
            source = None
        # A callback waits: what is left to the collector's thread nobody else does.
        alone = self.thread is threading.current_thread() and not nested
        pause = SLICE_SECONDS
        while not job._done:
            if alone:
                self.do_chores()
            if source is not None and source.hungry():
                source.feed()
                if job._done:
                    return True
            if deadline is not None:
                pause = min(SLICE_SECONDS, max(0.0, deadline - monotonic()))
            inbox.extend(chain.from_iterable(map(collect, (pause,))))
            if inbox:
                few = len(inbox) < FEW
                ledger.settle(nested=nested)
                if self.has_news():
                    self.tell()
                if few and len(ledger.rows) > MANY and not job._done:
                    sleep(LINGER_SECONDS)
            elif not job._done and not self.terminating:
                self.look()
            if self.wants_lead or self.terminating or (deadline is not None and monotonic() >= deadline):
                return bool(job._done)
        return True

    def _follow(self, job: Any, deadline: float | None) -> None:
        """Sleep until the job is done, or this thread may lead; a slice at most."""
        source = job._source
        bell = Bell(source if source is not None and source.driven else None)
        job._bells.append(bell)
        self.followers.append(bell)
        try:
            if job._done:
                return
            if not (self.wants_lead or self.terminating):
                if self.lead.acquire(False):
                    self.lead.release()
                    return
                self.stand_aside = True
                if self.collecting:
                    self.end.wake()
            pause = SLICE_SECONDS if deadline is None else min(SLICE_SECONDS, deadline - monotonic())
            if self.thread is threading.current_thread():  # a callback waits, and somebody else leads
                self.do_chores()
                pause = min(pause, PAUSE_BETWEEN_CHORES)
            if pause > 0 and not job._done:
                bell.wait(pause)
            if bell.source is not None and bell.source.hungry():
                bell.source.feed()
        finally:
            with suppress(ValueError):
                self.followers.remove(bell)
            with suppress(ValueError):
                job._bells.remove(bell)

    def call_leader(self) -> None:
        """Have whoever leads look up from waiting for messages: an outcome came about without one, in this thread."""
        if not self.lead._is_owned():
            self.end.wake()

    def pass_on(self) -> None:
        """Nobody leads now, perhaps: wake one who may."""
        if self.wants_lead:
            return
        if self.followers:
            self.wake_follower()
        else:
            self.pass_to_thread()

    def wake_follower(self) -> None:
        """Wake the follower that has waited longest."""
        with suppress(IndexError):
            self.followers[0].ring()

    def glance(self) -> None:
        """Settle what has arrived, without waiting, if nobody leads."""
        lead = self.lead
        if self.wants_lead or self.terminating or lead._is_owned():
            return
        try:
            if lead.acquire(False):
                self.receive(0.0)
                if self.ledger.inbox:
                    self.ledger.settle()
                    if self.has_news():
                        self.tell()
        finally:
            if lead._is_owned():
                lead.release()
            self.pass_on()
