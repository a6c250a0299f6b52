"""Which client holds which lock, so that what a killed client held goes to the next.

As between processes of one tree (`shoal.synchronize`): a lock is given back, and so is a semaphore that was entered by ``with``; whoever has it next is told
(`ABANDONED`). A semaphore that was acquired otherwise may stand for something that others count. A client that ends in order says so, and what it leaves
locked stays so: a process may acquire a lock for another one to release. A barrier that a client was killed at breaks, as between processes of one tree.

A recursive lock belongs to the server's thread that serves a client's thread. When that thread has hung up nobody else can ever release it, so it is given
back in any case.

Relies on acquiring and releasing being asked for here: what the server's own program does with a lock that it serves is not seen.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import OrderedDict
from contextlib import suppress

from shoal._managers.locks import is_recursive
from shoal._managers.words import ABANDONED, ENTER, EXIT, RETURN
from shoal.errors import AbandonedLockError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from shoal._managers.objects import Holder

__all__ = ["Held", "concerns", "is_lock"]

ACQUIRING = frozenset({"acquire", ENTER})
METHODS = ACQUIRING | {"release", EXIT}
LOCK = type(threading.Lock())
REMEMBERED = 1000  # clients that were taken for dead
PATIENCE_SECONDS = 1.0  # until all connections of a killed process have broken
PAUSE_SECONDS = 0.01  # between two looks at them


def is_lock(obj: Any) -> bool:
    """Whether it is kept account of who holds this."""
    return isinstance(obj, (LOCK, threading.Semaphore)) or is_recursive(obj)


def concerns(methodname: str, obj: Any) -> bool:
    """Whether a call is one for `Held.answer`."""
    return (methodname in METHODS and is_lock(obj)) or (methodname == "wait" and isinstance(obj, threading.Barrier))


class Held:
    """The account of one server. All methods may be called from any thread."""

    def __init__(self) -> None:
        # By the id of a lock that is held: the lock, its ident, and how often each client has acquired it.
        self._holders: dict[int, tuple[Any, str, dict[Holder, int]]] = {}
        self._waiting: dict[Holder, list[threading.Barrier]] = {}  # at which barriers each client's threads wait
        self._mutex = threading.Lock()
        self._own = threading.local()  # `locks`: by id, the recursive locks that this thread holds, and how often
        self._abandoned: weakref.WeakSet[Any] = weakref.WeakSet()
        # By client: idents of what it held when it was lost sight of.
        self._taken_from: OrderedDict[str, set[str]] = OrderedDict()

    def answer(
        self, holder: Holder | None, ident: str, obj: Any, methodname: str, args: Any, kwds: Any
    ) -> tuple[str, Any]:
        """Acquire or release a lock for a client, or wait at a barrier.

        Args:
            holder: the client; None: one of which it is not known when it dies.
            ident: of the lock.
            obj: the lock.
            methodname: one of `METHODS`; of a barrier, ``"wait"``.
            args: of the call.
            kwds: of the call.

        Returns:
            The answer.

        Raises:
            AbandonedLockError: if the client releases what was given to the next one when it had been lost sight of.
            Exception: whatever the lock raises.
        """
        if methodname == "wait":
            return RETURN, self._wait(holder, obj, args, kwds)
        if methodname not in ACQUIRING:
            return RETURN, self._release(holder, ident, obj, methodname)
        result = obj.acquire(*args, **kwds)
        if not result:
            return RETURN, result
        if is_recursive(obj):
            self._count_own(obj, 1)
        elif holder is not None and (methodname == ENTER or isinstance(obj, LOCK)):
            with self._mutex:
                if isinstance(obj, LOCK):
                    self._holders[id(obj)] = (obj, ident, {holder: 1})
                else:
                    counts = self._holders.setdefault(id(obj), (obj, ident, {}))[2]
                    counts[holder] = counts.get(holder, 0) + 1
        if obj in self._abandoned:
            self._abandoned.discard(obj)
            return ABANDONED, result
        return RETURN, result

    def undo(self, holder: Holder | None, ident: str, obj: Any, methodname: str, answer: tuple[str, Any]) -> None:
        """Nobody is there to learn that a call has returned: give back what it acquired. In the thread that called.

        Args:
            holder: the client.
            ident: of the lock.
            obj: the lock.
            methodname: that was called.
            answer: what it returned.
        """
        kind, result = answer
        if methodname == "wait":  # it holds the condition again; one who waited has left nothing half changed
            if result:  # it was notified: the next one is, in its place
                with suppress(RuntimeError):
                    obj.notify()
            self._release_own(*self._own_locks().pop(id(obj), (obj, 1)))
        elif methodname in ACQUIRING and result:
            if kind == ABANDONED:
                self._abandoned.add(obj)
            with suppress(RuntimeError, ValueError):  # released meanwhile, by another
                self._release(holder, ident, obj, EXIT if methodname == ENTER else methodname)

    def _wait(self, holder: Holder | None, barrier: threading.Barrier, args: Any, kwds: Any) -> int:
        if holder is None:
            return barrier.wait(*args, **kwds)
        with self._mutex:
            self._waiting.setdefault(holder, []).append(barrier)
        try:
            return barrier.wait(*args, **kwds)
        finally:
            with self._mutex:
                self._waiting[holder].remove(barrier)
                if not self._waiting[holder]:
                    del self._waiting[holder]

    def _release(self, holder: Holder | None, ident: str, obj: Any, methodname: str) -> Any:
        if is_recursive(obj):
            result = obj.release()
            self._count_own(obj, -1)
            return result
        with self._mutex:
            if not self._uncount(obj, holder, methodname) and holder is not None:
                self._refuse_if_taken(holder, ident)
            if isinstance(obj, LOCK):
                self._holders.pop(id(obj), None)  # whoever had it
        return obj.release()

    def _refuse_if_taken(self, holder: Holder, ident: str) -> None:
        taken = self._taken_from.get(holder.client, set())
        if ident in taken:
            taken.discard(ident)
            raise AbandonedLockError(
                "all connections to this process had broken while it held the lock, so the process was taken for dead, and the lock given to the next: what "
                "the lock protects may have been used by two at once"
            )

    def _uncount(self, obj: Any, holder: Holder | None, methodname: str) -> bool:
        """Count one holding of this client less; whether there was one."""
        known = self._holders.get(id(obj))
        if known is None or holder not in known[2] or not (methodname == EXIT or isinstance(obj, LOCK)):
            return False
        known[2][holder] -= 1
        if not known[2][holder]:
            del known[2][holder]
            if not known[2]:
                del self._holders[id(obj)]
        return True

    def _own_locks(self) -> dict[int, tuple[Any, int]]:
        return self._own.__dict__.setdefault("locks", {})  # type: ignore[no-any-return]

    def _count_own(self, obj: Any, change: int) -> None:
        locks = self._own_locks()
        count = locks.get(id(obj), (obj, 0))[1] + change
        if count > 0:
            locks[id(obj)] = (obj, count)
        else:
            locks.pop(id(obj), None)

    @staticmethod
    def _release_own(obj: Any, count: int) -> None:
        with suppress(RuntimeError):
            for _ in range(count):
                obj.release()

    # --- ends ---

    def thread_ends(self) -> None:
        """The client of the calling thread has hung up: give back the recursive locks that are this thread's."""
        locks = self._own_locks()
        while locks:
            obj, count = locks.popitem()[1]
            self._abandoned.add(obj)
            self._release_own(obj, count)

    def client_ends(self, holder: Holder) -> None:
        """A connection of a client has broken, and it has no keeper any more: if it did not say good-bye, give back what it held, and break the barriers that it waits at.

        What it had to say has been heard, but another of its threads may be in a call. So for as long as a connection may take to break, the others are looked at: one
        that does not means that the client lives, and will have another keeper.
        """
        until = time.monotonic() + PATIENCE_SECONDS
        while not holder.left_well and self._holds(holder):
            others = list(holder.connected)
            if len(others) == holder.sessions and all(session.has_hung_up() for session in others):
                self._give_back(holder)
                return
            if time.monotonic() > until:
                return
            time.sleep(PAUSE_SECONDS)

    def _holds(self, holder: Holder) -> bool:
        with self._mutex:
            return holder in self._waiting or any(holder in counts for _, _, counts in self._holders.values())

    def _give_back(self, holder: Holder) -> None:
        with self._mutex:
            barriers = list(self._waiting.get(holder, ()))
        for barrier in barriers:
            if barrier.n_waiting:  # 0: all have come, and it is one of those who are about to go on
                barrier.abort()
        with self._mutex:
            mine = [
                (obj, ident, counts.pop(holder)) for obj, ident, counts in self._holders.values() if holder in counts
            ]
            for obj, ident, count in mine:
                if not self._holders[id(obj)][2]:
                    del self._holders[id(obj)]
                self._taken_from.setdefault(holder.client, set()).add(ident)
                self._abandoned.add(obj)
                with suppress(RuntimeError, ValueError):  # the server's own program has released it
                    for _ in range(count):
                        obj.release()
            while len(self._taken_from) > REMEMBERED:
                self._taken_from.popitem(last=False)
