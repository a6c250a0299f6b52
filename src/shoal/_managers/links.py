"""The way from this process to one server: connections, and what this process refers to there.

Each thread has a connection of its own, so that a call which blocks keeps no other thread waiting. One more, the *keeper*, is this process's as a whole: references are given
back by it, and as long as it is there the server knows that this process is. References are counted here, and the server is told when an
object's first proxy comes and its last one goes.

A lost connection is a ``ManagerDied`` in the call that needed it. The next call connects anew. If it finds another server there, what has a name is referred to again, and
the rest is gone.

A forked child starts with nothing: the connections it has inherited are closed in it, and what its proxies refer to it refers to anew, with one request.
"""

from __future__ import annotations

import os
import secrets
import sys
import threading
import weakref
from collections import deque
from contextlib import suppress

from shoal import _runtime, _standard
from shoal._managers.sessions import Session, greet
from shoal._managers.transports import listener_client
from shoal._managers.words import (
    GOOD_BYE,
    KEEP,
    RETURN,
    RemoteError,
    convert_to_error,
    dispatch,
    in_the_standard_dialect,
)
from shoal.errors import ManagerDied

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Link", "key_for", "known_keys", "known_options", "link_to", "options_for"]

_util: Any = _standard.util
_process: Any = _standard.process


class Link:
    """This process's link to one server.

    Args:
        address: of the server.
        authkey: bytes that both sides know.
        serializer: ``"pickle"`` or ``"xmlrpclib"``.
        options: keyword arguments of `shoal.connection.Client`: ``tls``, ``allow_legacy``.

    Attributes:
        local: per thread: ``call``, which makes a call on the thread's connection, if it has one.
        held: by ident: how many proxies this process has, and how many references the server has counted for it.
    """

    def __init__(self, address: Any, authkey: bytes, serializer: str, options: dict[str, Any]) -> None:
        self.address = address
        self.authkey = authkey
        self.serializer = serializer
        self.options = options
        self.local = threading.local()
        self.held: dict[str, list[int]] = {}
        self._client = secrets.token_hex(8)
        self._keeper: Session | None = None
        self._instance: str | None = None  # which server was there last
        self._standard = False  # whether that is one of the standard library
        self._suspicious = False  # whether a connection was lost since the last one was made
        self._returns: deque[str] = deque()  # idents of proxies that have gone, not dealt with yet
        self._lock = threading.RLock()
        self._busy = 0  # how deep this lock's holder is in requests
        self._owner = os.getpid()
        self._will_say_good_bye = 0  # the process that will
        _util.register_after_fork(self, Link._refer_anew)

    # --- connections ---

    def dial(self, **options: Any) -> Any:
        """Connect, as anybody does; the connection is authenticated."""
        return listener_client[self.serializer][1](self.address, authkey=self.authkey, **self.options, **options)

    def connect(self) -> None:
        """See whether the server is there; raises what the attempt to connect raised."""
        with self._lock:
            if self._standard:
                self._ask_standard("dummy", (), {})
            elif not self._keeper_is_there():
                self._keeper = None
                session = getattr(self.local, "session", None)
                if session is not None:  # to the same server, which has gone
                    self.lost(session)
                    session.close()
                self._open_keeper()

    def open_thread(self) -> Any:
        """Connect the calling thread; return what makes its calls.

        Raises:
            ManagerDied: if the server is not there.
        """
        try:
            session = self._open()
            with self._lock:
                if self._keeper is None and not (self._busy or self._standard):
                    self._open_keeper()
        except (OSError, EOFError) as error:
            raise self.died(error) from error
        self.local.session = session
        self.local.call = session.call
        return session.call

    def _open(self) -> Any:
        name = _process.current_process().name
        if threading.current_thread() is not threading.main_thread():
            name += f"|{threading.current_thread().name}"
        connection = self.dial()
        try:
            if not self._standard:
                answer = greet(
                    connection, name, self._client, may_ring=self.serializer == "pickle" and not self.options
                )
                if answer is not None:
                    ring_or_socket, instance = answer
                    self._recognize(instance)
                    self._promise_good_bye()
                    return Session(ring_or_socket, self)
                self._meet_standard()
                connection.close()
                connection = self.dial()
            dispatch(connection, None, "accept_connection", (name,))
        except BaseException:
            connection.close()
            raise
        return Session(connection, self, standard=True)

    def _meet_standard(self) -> None:
        """The server is one of the standard library, which does not notice when this process ends: it is told then."""
        self._standard = True
        _util.Finalize(None, _give_all_back, args=(weakref.ref(self),), exitpriority=10)

    def _promise_good_bye(self) -> None:
        """See to it that the server learns when this process ends in order."""
        if self._will_say_good_bye != os.getpid():
            self._will_say_good_bye = os.getpid()
            _util.Finalize(self, _say_good_bye, args=(weakref.ref(self),), exitpriority=10)

    def say_good_bye(self) -> None:
        """What this process leaves locked is to stay so: it was not killed."""
        with suppress(Exception):  # the server may have gone
            session = self._keeper
            if session is not None and self._owner == os.getpid():
                session.tell(GOOD_BYE, ())

    # What it needs is bound here: at the end of the interpreter this module's names are gone before the last link is.
    def __del__(self, is_finalizing: Any = sys.is_finalizing) -> None:
        if not is_finalizing():
            self.say_good_bye()

    def _recognize(self, instance: str) -> None:
        """Notice that another server has taken the place of the one that was there, or that this one has lost sight of this process."""
        with self._lock:
            before, self._instance = self._instance, instance
            if before not in {None, instance} or (self._suspicious and not self._keeper_is_there()):
                self._keeper = None
                if self.held and not self._busy:
                    with suppress(OSError, EOFError):
                        self._open_keeper()
            self._suspicious = False

    def _keeper_is_there(self) -> bool:
        # It is not asked: a signal handler that raises in the middle of a call would end the connection by which the server knows that this process lives.
        return self._busy > 0 or (self._keeper is not None and not self._keeper.has_hung_up())

    def died(self, error: BaseException | None = None) -> ManagerDied:
        """Make the error for a connection that is lost, or cannot be had."""
        return ManagerDied(self.address, None if error is None else f"{type(error).__name__}: {error}".rstrip(": "))

    def lost(self, session: Any) -> None:
        """A connection has broken: the next call opens another."""
        if getattr(self.local, "session", None) is session:
            del self.local.session, self.local.call
        with self._lock:
            if self._keeper is session:
                self._keeper = None
            self._standard = False
            self._suspicious = True

    # --- requests to the server itself ---

    def ask(self, function: str, args: tuple[Any, ...] = (), kwds: dict[str, Any] | None = None) -> Any:
        """Have the server do something; return what it answers.

        Raises:
            ManagerDied: if it is not there.
            RemoteError: if what it did raised.
        """
        try:
            with self._lock:
                if not self._standard and self._keeper is None:
                    self._open_keeper()
            if self._standard:
                return self._ask_standard(function, args, kwds or {})
        except (ConnectionError, EOFError, FileNotFoundError) as error:
            raise error if isinstance(error, ManagerDied) else self.died(error) from error
        # On the thread's own connection: what is asked for may take its time, and is not to keep other threads waiting.
        call = getattr(self.local, "call", None) or self.open_thread()
        kind, result = call(None, function, args, kwds)
        if kind == RETURN:
            return result
        raise convert_to_error(kind, result)

    def ask_in_turn(self, function: str) -> Any:
        """As `ask`, after everything that was given back before."""
        self._settle()
        with self._lock:
            if self._keeper is None:
                return self.ask(function)
            self._busy += 1
            try:
                kind, result = self._keeper.call(None, function, (), None)
            finally:
                self._busy -= 1
        self._settle()
        if kind == RETURN:
            return result
        raise convert_to_error(kind, result)

    def _ask_standard(self, function: str, args: tuple[Any, ...], kwds: dict[str, Any]) -> Any:
        connection = self.dial()
        try:
            with in_the_standard_dialect():
                return dispatch(connection, None, function, args, kwds)
        finally:
            connection.close()

    def _open_keeper(self) -> None:
        self._busy += 1
        try:
            session = self._open()
            if session.standard:
                session.close()
                return
            try:
                session.tell(KEEP, ())
                if self.held:
                    _, found = session.call(None, "hold", (list(self.held),), None)
                    for ident, counts in self.held.items():
                        counts[1] = int(ident in found)
            except BaseException:
                session.close()
                raise
            self._keeper = session
        finally:
            self._busy -= 1

    # --- references ---

    def refer(self, ident: str) -> None:
        """This process has one more proxy of an object.

        Raises:
            RemoteError: if the object is not there.
        """
        with self._lock:
            counts = self.held.get(ident)
            if counts is not None:
                counts[0] += 1
                return
        self.ask("incref", (ident,))
        self.granted(ident)

    def granted(self, ident: str) -> None:
        """The server has counted a reference for this process: what it made, or returned a proxy of."""
        with self._lock:
            counts = self.held.setdefault(ident, [0, 0])
            counts[0] += 1
            counts[1] += 1

    def release(self, ident: str) -> None:
        """A proxy has gone. Never waits: it may be the garbage collector that calls, anywhere."""
        self._returns.append(ident)
        self._settle()

    ungrant = release  # the proxy of what was granted has counted itself

    def _settle(self) -> None:
        while self._returns and self._lock.acquire(blocking=False):
            try:
                if self._busy:  # this very thread is in the middle of a request, and settles afterwards
                    return
                self._busy += 1
                try:
                    self._give_back(self._returns.popleft())
                except IndexError:
                    return
                finally:
                    self._busy -= 1
            finally:
                self._lock.release()

    def _give_back(self, ident: str) -> None:
        counts = self.held.get(ident)
        if counts is None:
            return
        counts[0] -= 1
        if counts[0] > 0:
            return
        del self.held[ident]
        # A server that has gone has let go of everything.
        with suppress(Exception):
            if self._keeper is not None:
                self._keeper.tell("give_back", (ident, counts[1]))
            elif self._standard:
                for _ in range(counts[1]):
                    self._ask_standard("decref", (ident,), {})

    # --- forks ---

    def _leave_to_the_parent(self) -> None:
        """In a forked child, before anything else."""
        self._lock = threading.RLock()
        self._busy = 0
        self._client = secrets.token_hex(8)
        for session in (self._keeper, getattr(self.local, "session", None)):
            if session is not None:
                session.close()
        self._keeper = None
        self.local.__dict__.clear()
        self._owner = os.getpid()

    def _refer_anew(self) -> None:
        """In a child process: say what it refers to, while its parent still does."""
        # A child that was not forked may have unpickled proxies by now. What was to be done at its end has been forgotten since.
        if self._keeper is not None:
            self._will_say_good_bye = 0
            self._promise_good_bye()
        if not self.held:
            return
        try:
            with self._lock:
                if self._standard:
                    self._meet_standard()  # what its parent has said for the end holds for the parent
                    for ident, counts in self.held.items():
                        self._ask_standard("incref", (ident,), {})
                        counts[1] = 1
                elif self._keeper is None:
                    self._open_keeper()
        except (OSError, EOFError, RemoteError) as error:  # the server may have gone
            _util.info("incref failed: %s", error)

    def close(self) -> None:
        """The server has been shut down: hang up, on all that this thread and the keeper use."""
        with self._lock:
            for session in (self._keeper, getattr(self.local, "session", None)):
                if session is not None:
                    session.close()
            self._keeper = None
            self.local.__dict__.clear()
            self.held.clear()
        known_keys.pop(self.address, None)
        known_options.pop(self.address, None)


def _say_good_bye(reference: weakref.ref[Link]) -> None:
    """At the end of a process."""
    link = reference()
    if link is not None:
        link.say_good_bye()


def _give_all_back(reference: weakref.ref[Link]) -> None:
    """At the end of a process: what it refers to in a standard server."""
    link = reference()
    if link is not None and link._standard:
        for ident in list(link.held):
            link.held[ident][0] = 1
            link._give_back(ident)


# --- which links there are ----------------------------------------------------------------------------------------------

known_keys: dict[Any, bytes] = {}  # of servers that this process, or the one it was forked from, has to do with
known_options: dict[Any, dict[str, Any]] = {}
_links: weakref.WeakValueDictionary[tuple[Any, ...], Link] = weakref.WeakValueDictionary()
_mutex = threading.Lock()


def link_to(address: Any, authkey: bytes, serializer: str, options: dict[str, Any] | None = None) -> Link:
    """Return this process's link to a server; it is kept as long as somebody uses it."""
    address = tuple(address) if isinstance(address, list) else address
    key = (address, bytes(authkey), serializer)
    with _mutex:
        link = _links.get(key)
        if link is None:
            if options:
                known_options[address] = options
            link = _links[key] = Link(address, authkey, serializer, options or options_for(address))
            known_keys[address] = authkey
        return link


def key_for(address: Any) -> bytes:
    """The authentication key of a server: what was used for it before, or else this process's own."""
    return known_keys.get(address) or bytes(_process.current_process().authkey)


def options_for(address: Any) -> dict[str, Any]:
    """The connection options that go with an address."""
    return known_options.get(address, {})


def _leave_links_to_the_parent() -> None:
    global _mutex
    _mutex = threading.Lock()
    for link in list(_links.values()):
        link._leave_to_the_parent()


_runtime.in_forked_child(_leave_links_to_the_parent)
