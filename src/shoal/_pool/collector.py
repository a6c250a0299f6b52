"""The collector: answers for what no thread waits for.

Its thread is started when first needed, sleeps when there is nothing, and leads (see ``leadership``) when there is work of that kind and
nobody else leads: at once if callbacks wait for it, else after a moment, for whoever submitted something often asks for it next, and
gets it faster without a hand-over. It alone runs callbacks, feeds the jobs that nobody else feeds, sends tasks again, and has the dead
buried: it is never interrupted by Ctrl-C.
"""

from __future__ import annotations

import sys
import threading
import traceback
import weakref
from collections import deque
from contextlib import suppress
from time import sleep
from typing import TYPE_CHECKING, Any

from shoal._pool.chunking import Window
from shoal._pool.leadership import FEW, LINGER_SECONDS, MANY, SLICE_SECONDS, Leadership
from shoal._pool.ledger import Ledger
from shoal._pool.submitting import Calls, submit_row
from shoal._pool.undertaker import Undertaker
from shoal._pool.worker import BROKEN, LEAVING, READY, STARTED
from shoal._runtime.threads import harmless
from shoal.errors import BrokenPoolError, MainGuardError, PoolTerminatedError

if TYPE_CHECKING:
    from shoal._pool.crew import Crew
    from shoal._pool.feeding import Source
    from shoal._pool.transport import ApplicationEnd

__all__ = ["Collector"]

GRACE_SECONDS = 0.005  # how long the collector thread leaves it to others to lead
PATIENCE_SECONDS = 0.02  # at most between two looks whether somebody leads


class Collector(Leadership):
    """Receives outcomes and looks after the workers of one pool. Knows nothing of the ``Pool`` object, which may go away.

    Its parts refer to it weakly: what a pool holds (descriptors of processes, queues) goes with the pool, not when the garbage collector comes.

    Args:
        end: the application's end of the transport.
        crew: the workers.
        cache: the pool's outstanding jobs by number (``pool._cache``).
        initializer_timeout: seconds that an initializer may take; None for ever.
        forked: whether workers are forks of this process.
    """

    def __init__(
        self, end: ApplicationEnd, crew: Crew, cache: dict[int, Any], initializer_timeout: float | None, *, forked: bool
    ) -> None:
        me: Collector = weakref.proxy(self)
        # Not the method itself, which would refer to this strongly.
        super().__init__(end, Ledger(lambda what, payload: me._worker_spoke(what, payload)))  # noqa: PLW0108
        self.crew = crew
        self.cache = cache
        self.window = Window(crew.size)
        self.broken: BaseException | None = None  # why there can be no workers
        self.closing = False
        self.joining = False  # somebody waits for the end: inputs are read to their end, taken or not
        self._serving = threading.Event()
        self.background: set[Any] = set()  # jobs that the collector thread answers for
        self.eager: set[Any] = set()  # those of them that have callbacks
        self.backlog: deque[Source | Calls] = deque()  # what is fed by the collector thread
        self.calls = Calls(weakref.ref(self))
        self.starving: set[Source] = set()  # what waits for its consumer to take outcomes
        self.waiting_feeders: deque[threading.Event] = deque()
        self.feeders: set[threading.Thread] = set()
        self.leavers: deque[int] = deque()  # pids of workers that have said they leave
        self.attention = False  # look at the workers
        self.undertaker = Undertaker(me, initializer_timeout, forked=forked)
        self._callbacks: deque[Any] = deque()
        self._bell = threading.Lock()
        self._bell.acquire()
        self._parked = False

    # --- what threads that wait leave to the collector ---

    def has_news(self) -> bool:
        """Whether settling has left something to tell."""
        return bool(
            self.followers
            or self._callbacks
            or self.backlog
            or self.waiting_feeders
            or self.leavers
            or self.attention
            or self.ledger.again
            or self.ledger.lost
        )

    def tell(self) -> None:
        """After settling: have the collector thread do its part, and have others feed their jobs."""
        if threading.current_thread() is not self.thread and self._urgent():
            self.poke(urgent=True)
        if self.waiting_feeders and self.room() * 4 >= self.window.limit:
            with suppress(IndexError):
                while True:
                    self.waiting_feeders.popleft().set()
        for bell in list(self.followers):
            if bell.source is not None and bell.source.hungry():
                bell.ring()

    def look(self) -> None:
        """Nothing came: has somebody died, or got stuck?"""
        self.attention = self.attention or self.undertaker.is_needed()
        if self._urgent() and threading.current_thread() is not self.thread:
            self.poke(urgent=True)

    def pass_to_thread(self) -> None:
        """Nobody waits: have the thread lead if there is work of its own."""
        if self.eager or self._callbacks or self.closing:
            self.poke(urgent=True)
        elif self.background:
            self.poke()

    # --- what others tell ---

    def room(self) -> int:
        """How many tasks may be put into the table now."""
        return self.window.limit - len(self.ledger.rows)

    def check(self) -> None:
        """Refuse new work if there can be no workers.

        Raises:
            BrokenPoolError: with the cause.
        """
        if self.broken is not None:
            raise BrokenPoolError(*self.broken.args) from self.broken.__cause__

    def answer_for(self, job: Any, *, eager: bool) -> None:
        """Take a job over: nobody may ever ask for it.

        Args:
            job: the job.
            eager: whether it has callbacks.
        """
        self.background.add(job)
        if eager:
            self.eager.add(job)
        if eager or self._parked or self.thread is None:
            self.poke(urgent=eager)

    def finished(self, job: Any) -> None:
        """Learn that a job is done."""
        self.background.discard(job)
        self.eager.discard(job)
        self.call_leader()
        if self.closing and not self.cache:
            self.poke(urgent=True)

    def call_back(self, job: Any) -> None:
        """Have the thread run the callback of a job."""
        if job not in self._callbacks:
            self._callbacks.append(job)
            if threading.current_thread() is not self.thread:
                self.poke(urgent=True)

    def feed_later(self, source: Source | Calls) -> None:
        """Have the thread feed a job."""
        self.backlog.append(source)
        self.poke(urgent=True)

    def poke(self, *, urgent: bool = False) -> None:
        """See to it that the thread looks.

        Args:
            urgent: even if it is about to look by itself in a few milliseconds.
        """
        if self.thread is None:
            if self.terminating:
                return
            self._start_thread()
        if urgent or self._parked:
            with suppress(RuntimeError):
                self._bell.release()
            if self.collecting and threading.current_thread() is not self.thread:
                self.end.wake()

    def repopulate(self, size: int) -> None:
        """Have dead workers replaced now, and new ones started; waits until that is done, some seconds at most.

        Args:
            size: how many workers there are to be from now on; those beyond it stay, until they end.
        """
        self.crew.size = size
        round_ = self.undertaker.begun + 1  # one that is under way may have looked already
        self.attention = True
        for _ in range(500):
            if self.undertaker.done >= round_ or self.terminating or threading.current_thread() is self.thread:
                break
            self.poke(urgent=True)
            threading.Event().wait(0.01)

    def pause(self, seconds: float) -> None:
        """Sleep, in the thread, unless poked."""
        self._bell.acquire(timeout=seconds)

    def _start_thread(self) -> None:
        # Ctrl-C may come at any moment of this; then somebody else begins again. Which thread serves is settled by the threads themselves.
        thread = threading.Thread(target=self._run, name="shoal-pool-collector", daemon=True)
        harmless(thread)
        thread.start()
        self._serving.wait()

    def _worker_spoke(self, what: int, payload: Any) -> None:
        """Take a message by which a worker speaks of itself."""
        pid = payload[0]
        if what in (STARTED, READY):
            self.undertaker.heard_of(pid, ready=what == READY)
        elif what == BROKEN:
            self.undertaker.failed_initializer = payload[1].exception
            self.attention = True
        elif what == LEAVING and pid not in self.leavers:
            self.leavers.append(pid)

    # --- the thread ---

    def _run(self) -> None:
        """Serve, if no other thread does."""
        with self.ledger.lock:
            if self.thread is not None:
                return
            self.thread = threading.current_thread()
        self._serving.set()
        self._serve_until_the_end()

    def _serve_until_the_end(self) -> None:
        """Serve until the pool is closed and everything is done, or it is terminated."""
        patience = GRACE_SECONDS
        prompt = False  # it led last, and nobody wanted to lead in its place
        while not self.terminating:
            if self._urgent():
                self._serve()
                continue
            if self.closing and not self.cache:
                self._wind_up()
                return
            if not (self.background or self.closing):
                prompt = False
                self._park()
                continue
            if not (prompt or self.eager or self.closing) and self._bell.acquire(timeout=patience):
                continue
            self.stand_aside = False
            if not self.followers and self.lead.acquire(False):
                patience = GRACE_SECONDS
                try:
                    self.collecting = True
                    self._lead_on()
                finally:
                    self.collecting = False
                    self.lead.release()
                prompt = not self.stand_aside
            else:
                prompt = False
                if self.eager or self.closing:
                    self._bell.acquire(timeout=patience)
                patience = min(2 * patience, PATIENCE_SECONDS)
            self.wake_follower()

    def _park(self) -> None:
        """Sleep until there is something to do."""
        self._parked = True
        if not (self.background or self.closing or self.terminating or self._urgent()):  # first say so, then look again
            self._bell.acquire()
        self._parked = False

    def _urgent(self) -> bool:
        ledger = self.ledger
        return bool(
            self._callbacks
            or ledger.again
            or ledger.lost
            or self.leavers
            or self.attention
            or (self.backlog and any(source.hungry() for source in list(self.backlog)))
            or (self.starving and any(source.forsaken for source in list(self.starving)))
        )

    def _lead_on(self) -> None:
        """Lead while there is work that nobody waits for."""
        ledger = self.ledger
        inbox = ledger.inbox
        if inbox or ledger.in_hand:
            ledger.settle()
        while (self.background or self.cache) and not (self.stand_aside or self.terminating or self._urgent()):
            inbox.extend(self.end.collect(SLICE_SECONDS))
            if inbox:
                few = len(inbox) < FEW
                ledger.settle()
                if self.has_news():
                    self.tell()
                if few and len(ledger.rows) > MANY:
                    sleep(LINGER_SECONDS)
            else:
                self.look()

    def _serve(self) -> None:
        """Do what only this thread does."""
        while self._callbacks:
            self._call_one_back()
        self.do_chores()

    def do_chores(self) -> None:
        """Do what only this thread does, but for callbacks: one of them may be waiting."""
        if self.leavers or self.attention or self.ledger.lost:
            self.undertaker.attend()
        while self.ledger.again and not self.terminating:
            self._send_again()
        self._feed_forsaken()
        for _ in range(len(self.backlog)):
            if self.terminating:
                break
            source = self.backlog.popleft()
            if source.hungry():
                source.feed()
            if not source.exhausted and not source.starved:
                self.backlog.append(source)

    def _feed_forsaken(self) -> None:
        """Go on with inputs whose consumer has gone: nobody else will say that there is room for them."""
        for source in list(self.starving):
            if source.forsaken or not source.starved:
                self.starving.discard(source)
            if source.forsaken:
                source.starved = False
                if source not in self.backlog:
                    self.backlog.append(source)

    def _call_one_back(self) -> None:
        job = self._callbacks[0]
        try:
            if not job._done:  # it was listed again after an interruption
                job._call_back()
        except BaseException:  # noqa: BLE001 - a callback's fault must not cost anybody else's results
            _tell_of(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))
        finally:
            self._callbacks.popleft()
            if not job._done:
                job._complete()
            if self.followers or not self.collecting:
                self.end.wake()  # its waiter may be leading

    def _send_again(self) -> None:
        row = self.ledger.again[0]
        if not self.ledger.divide(row):
            task = self.ledger.renew(row)
            if task is not None:
                submit_row(self, row, embed=True, raises=False)
        self.ledger.again.popleft()

    def break_up(self, reason: str, cause: BaseException) -> None:
        """Give the pool up: every outstanding job fails with the cause, new ones are refused.

        Args:
            reason: in words.
            cause: what happened.
        """
        if self.broken is not None:
            return
        error = BrokenPoolError(reason if isinstance(cause, MainGuardError) else f"{reason}: {cause!r}")
        error.__cause__ = cause
        self.broken = error
        self.backlog.clear()
        self.starving.clear()
        self.ledger.lost.clear()
        self.ledger.again.clear()
        self.ledger.rows.clear()
        for job in list(self.cache.values()):
            job.fail(error)
        self.crew.terminate()

    # --- the end ---

    def close(self) -> None:
        """Let workers leave when everything is done."""
        self.closing = True
        self.poke(urgent=True)

    def _wind_up(self) -> None:
        """Everything is done: let the workers go."""
        self.end.close()
        for process in list(self.crew.processes):
            while process.exitcode is None and not self.terminating:
                process.join(SLICE_SECONDS)
                if process.exitcode is None:  # what tells them may have gone with one that was killed
                    self.end.close()
        self.end.shut_down()
        if not self.terminating:  # else workers may be left for that
            self.crew.forget()

    def join(self) -> None:
        """Wait for the thread, which ends when everything is done."""
        self.joining = True
        if self.thread is None and self.closing:  # a Ctrl-C kept it from being started
            self.poke(urgent=True)
        for job in list(self.cache.values()):
            source = job._source  # which goes with the last outcome
            if source is not None and source.starved:
                source.eaten()
        thread = self.thread
        if thread is not None and not (self.terminating and thread is threading.current_thread()):
            thread.join()
        for feeder in self.feeders - {threading.current_thread()}:
            feeder.join(SLICE_SECONDS)  # unless its input blocks it is as good as gone

    def abandon(self) -> None:
        """In a forked child: nothing that is outstanding will ever arrive."""
        self.terminating = True
        self.backlog.clear()
        self.starving.clear()
        self.thread = None
        self._serving = threading.Event()
        if not self.lead._is_owned():
            self.lead = threading.RLock()  # whoever has the other one is not here
        error = PoolTerminatedError("the pool belongs to the parent of this process, which was forked from it")
        with self.lead:  # so nobody is woken: that would be somebody in the parent
            for job in list(self.cache.values()):
                job.drop(error)

    def terminate(self) -> None:
        """End workers and fail what is outstanding, at once and within seconds."""
        self.terminating = True
        self.backlog.clear()
        self.starving.clear()
        with suppress(RuntimeError):
            self._bell.release()
        with suppress(Exception):
            self.end.wake()
        thread = self.thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(2 * SLICE_SECONDS)
        self.crew.terminate()
        self.crew.forget()
        with suppress(Exception):
            self.end.shut_down()
        error = PoolTerminatedError("the pool was terminated before the task was finished")
        for job in list(self.cache.values()):
            job.drop(error)
        self.ledger.rows.clear()
        while self.waiting_feeders:
            self.waiting_feeders.popleft().set()
        for bell in list(self.followers):
            bell.ring()


def _tell_of(failed: threading.ExceptHookArgs) -> None:
    try:
        threading.excepthook(failed)
    except BaseException:  # noqa: BLE001 - the program's own hook; nor must it end the thread
        with suppress(Exception):
            traceback.print_exc()
