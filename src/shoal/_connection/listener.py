"""``Listener``.

A listener authenticates many clients at once: whoever dawdles, says nothing, or talks nonsense, does not keep the others waiting. All of that happens inside
``accept``; there is no thread. Each call ends with one outcome: a connection that may be used, or what went wrong with one that may not.

Promises: nothing is unpickled before both sides have proved that they know the key (if there is one); a connection that is not admitted within 5 s is closed; at
most 64 are on their way at once, at a few kilobytes each.
"""

from __future__ import annotations

import os
import select
import threading
import time
import warnings
from collections import deque

from shoal import _standard
from shoal._connection import addresses, authentication
from shoal._connection.admission import PATIENCE, UNDISTURBED, Admission, Plain
from shoal._connection.sockets import INTERNET, SocketListener, check_key, check_tls
from shoal._connection.stream import Connection, poll_milliseconds
from shoal._runtime.threads import level_of_caller
from shoal.errors import UnencryptedListenerWarning

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from types import TracebackType
    from typing import Any, Self

    from shoal._connection.tls import TLS

__all__ = ["Listener"]

MOST_UNDER_WAY = 64  # connections that are being authenticated
EVICTABLE = 1.0  # seconds after which a connection makes room for a new one when there are too many


class Bell:
    """Wakes who is in `Listener.accept` when the listener is closed. Forked children ring their own: what they close is theirs alone."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._owner = os.getpid()

    def fileno(self) -> int:
        """Return the descriptor, readable once it has rung."""
        return self._fd

    def ring(self) -> None:
        """Wake whoever waits, now and later."""
        if self._owner == os.getpid():
            os.eventfd_write(self._fd, 1)

    def close(self) -> None:
        """Take it down."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    __del__ = close


class Listener:
    """Waits for clients at an address.

    Args:
        address: ``(host, port)``, or a path; None: a free one, which `address` then tells.
        family: ``AF_INET`` or ``AF_UNIX``; None: what the address looks like, AF_UNIX if there is none.
        backlog: how many connections the kernel keeps for later calls of `accept`.
        authkey: bytes that both sides must know; None lets everybody in, and pickles of everybody run code here.
        tls: encrypt, and demand certificates of both sides (`shoal.TLS`); for ``(host, port)`` only.
        allow_legacy: let clients in that speak HMAC-MD5 only: CPython 3.11 and older.

    Warns:
        UnencryptedListenerWarning: if the address can be reached over a network and there is no ``tls``.

    Raises:
        OSError: if the address is in use, or cannot be bound to.
        ValueError, TypeError: if an argument makes no sense.
    """

    def __init__(
        self,
        address: Any = None,
        family: str | None = None,
        backlog: int = 1,
        authkey: bytes | None = None,
        *,
        tls: TLS | None = None,
        allow_legacy: bool = False,
    ) -> None:
        check_key(authkey)
        family = family or (addresses.address_type(address) if address else addresses.default_family)
        address = address or addresses.arbitrary_address(family)
        kind = addresses.socket_family(address, family)
        check_tls(tls, kind)
        self._authkey = authkey
        self._allow_legacy = authentication.legacy_allowed(allow_legacy)
        self._tls = None if tls is None else tls._context(server=True)
        self._listener: SocketListener | None = SocketListener(address, kind.name, backlog)
        self._reached_at = self._listener._address
        self._accepted_from: Any = None
        self._turn = threading.RLock()  # who is in `accept`; a signal handler may close the listener there
        self._left_at = time.monotonic()  # when the last of them left
        self._under_way: dict[int, tuple[Admission, Any]] = {}  # descriptor: connection, peer
        self._failed: deque[BaseException] = deque()
        self._bell = Bell()
        self._idle: select.poll | None = None  # has bell and socket
        _standard.util.register_after_fork(self, Listener._leave_to_the_parent)
        if kind in INTERNET and tls is None:
            self._warn_if_open()

    def accept(self) -> Connection:
        """Wait for a client and return the connection, authenticated if there is a key.

        Raises:
            AuthenticationError: if a client did not prove that it knows the key (within 5 s); the listener goes on, call again.
            OSError: if a client's connection broke, or the listener is closed.
        """
        self._open_listener()
        with self._turn:
            self._count_only_time_in_accept()
            try:
                connection, self._accepted_from = self._next()
            finally:
                self._left_at = time.monotonic()
        return connection

    def close(self) -> None:
        """Stop listening, and hang up on clients that are not admitted yet; a thread that is in `accept` leaves it with OSError."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        self._bell.ring()
        with self._turn:
            self._drop_all()
            self._bell.close()
            listener.close()

    @property
    def address(self) -> Any:
        """Where clients find it."""
        return self._reached_at

    @property
    def last_accepted(self) -> Any:
        """The address of the client whose connection `accept` returned last; None if there was none."""
        return self._accepted_from

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self.close()

    # --- inside accept ---

    def _count_only_time_in_accept(self) -> None:
        """A client whose word nobody was there to hear has not been slow."""
        absence = time.monotonic() - self._left_at
        for admission, _ in self._under_way.values():
            admission.started += absence
            admission.deadline += absence

    def _next(self) -> tuple[Connection, Any]:
        listener = self._open_listener()
        patience = (
            listener._socket.gettimeout()
        )  # programs set it to have `accept` return; the standard library heeds it, too
        give_up = float("inf") if patience is None else time.monotonic() + patience
        while True:
            if self._under_way or self._failed:
                self._expire(time.monotonic())
                if self._failed:
                    raise self._failed.popleft()
            ready = self._wait(listener, give_up)
            self._open_listener()
            for fd in [fd for fd in self._under_way if fd in ready]:
                admitted = self._step(fd)
                if admitted is not None:
                    return admitted
            if listener._socket.fileno() in ready:
                admitted = self._take(listener)
                if admitted is not None:
                    return admitted
            elif not ready and time.monotonic() >= give_up:
                raise TimeoutError("timed out")

    def _open_listener(self) -> SocketListener:
        if self._listener is None:
            raise OSError("listener is closed")
        return self._listener

    def _wait(self, listener: SocketListener, give_up: float) -> set[int]:
        """Sleep till something is to be done; return the descriptors that have something."""
        if not self._under_way and give_up == float("inf"):
            return self._wait_for_anybody(listener)
        now = time.monotonic()
        wake, open_to_new = self._plan(now)
        poller = select.poll()
        poller.register(self._bell, select.POLLIN)
        if open_to_new:
            poller.register(listener._socket, select.POLLIN)
        for admission, _ in self._under_way.values():
            poller.register(admission, admission.events)
        until = min(wake, give_up)
        return {fd for fd, _ in poller.poll(None if until == float("inf") else poll_milliseconds(until - now))}

    def _wait_for_anybody(self, listener: SocketListener) -> set[int]:
        """The same where nobody is on his way and there is no hurry, as it is most of the time."""
        poller, self._idle = self._idle, None  # a signal handler may come in between
        if poller is None:
            poller = select.poll()
            poller.register(self._bell, select.POLLIN)
            poller.register(listener._socket, select.POLLIN)
        ready = {fd for fd, _ in poller.poll()}
        self._idle = poller
        return ready

    def _plan(self, now: float) -> tuple[float, bool]:
        """When to look again though nothing happens, and whether new connections are taken till then.

        A new conversation has the listener for itself for a moment, divided by how many are under way. So clients that answer at once, as nearly all do, are
        admitted one after the other, and none is left in the middle of its conversation when `accept` returns.
        """
        if not self._under_way:
            return float("inf"), True
        under_way = [admission for admission, _ in self._under_way.values()]
        wake = min(admission.deadline for admission in under_way)
        alone_until = max(admission.started for admission in under_way) + UNDISTURBED / len(under_way)
        if len(under_way) >= MOST_UNDER_WAY:
            alone_until = max(alone_until, min(admission.started for admission in under_way) + EVICTABLE)
        if alone_until <= now:
            return wake, True
        return min(wake, alone_until), False

    def _take(self, listener: SocketListener) -> tuple[Connection, Any] | None:
        """Take one new connection from the kernel."""
        try:
            sock, peer = listener.take()
        except (BlockingIOError, ConnectionAbortedError):  # another process has taken it, or it is gone again
            return None
        if self._authkey is None and self._tls is None:
            return Connection(sock.detach()), peer
        if len(self._under_way) >= MOST_UNDER_WAY:
            self._evict()
        admission = self._admission(sock)
        fd = admission.fileno()
        self._under_way[fd] = (admission, peer)
        # The only one is waited for: what would happen anyway, with less around it.
        return self._step(fd, UNDISTURBED if len(self._under_way) == 1 else 0.0)

    def _admission(self, sock: socket.SocketType) -> Admission:
        if self._tls is None:
            channel: Any = Plain(sock)
        else:
            from shoal._connection.tls import Encrypted  # noqa: PLC0415 - ssl takes long to import

            channel = Encrypted(sock, self._tls)
        return Admission(channel, authentication.accept_conversation(self._authkey, allow_legacy=self._allow_legacy))

    def _step(self, fd: int, waiting: float = 0.0) -> tuple[Connection, Any] | None:
        admission, peer = self._under_way[fd]
        try:
            connection = admission.step(waiting=waiting)
        except BaseException as error:
            self._open_listener()  # a signal handler may have closed it, and hung up
            del self._under_way[fd]
            if peer:
                error.add_note(f"connection from {peer!r}")
            raise
        if connection is None:
            return None
        self._under_way.pop(fd, None)
        return connection, peer

    def _expire(self, now: float) -> None:
        for fd, (admission, _) in list(self._under_way.items()):
            if (
                admission.admitted
            ):  # and `accept` was left, by a signal handler that raised, before it could return the connection
                self._under_way.pop(fd, None)
            elif now >= admission.deadline:
                self._give_up(fd, f"a client did not authenticate itself within {PATIENCE:g} s")

    def _evict(self) -> None:
        fd = min(self._under_way, key=lambda fd: self._under_way[fd][0].started)
        self._give_up(fd, f"a client did not authenticate itself while {MOST_UNDER_WAY} others wait")

    def _give_up(self, fd: int, why: str) -> None:
        admission, peer = self._under_way.pop(fd)
        error = admission.expire(why)
        if peer:
            error.add_note(f"connection from {peer!r}")
        self._failed.append(error)

    def _drop_all(self) -> None:
        for admission, _ in self._under_way.values():
            admission.close()
        self._under_way.clear()
        self._failed.clear()

    def _leave_to_the_parent(self) -> None:
        """In a forked child: conversations belong to the parent."""
        self._turn = threading.RLock()
        self._bell = Bell()
        self._idle = None
        self._drop_all()

    def _warn_if_open(self) -> None:
        host = self._reached_at[0]
        if addresses.is_loopback(host):
            return
        what = "reads and can change" if self._authkey is not None else "can send anything to it, reads and can change"
        warnings.warn(
            f"listening on {host}:{self._reached_at[1]} without TLS: whoever is on the network {what} what goes over it, and a pickle from there runs "
            "code here. Give tls=shoal.TLS(cert, key, ca) (`shoal certs DIR` makes the files), or listen on 127.0.0.1 behind a tunnel.",
            UnencryptedListenerWarning,
            stacklevel=level_of_caller(),
        )
