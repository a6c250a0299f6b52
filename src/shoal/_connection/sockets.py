"""Sockets as connections want them: options, checks of arguments, and the standard library's plain listener and client, which know nothing of authentication."""

from __future__ import annotations

import os
import select
import socket
from contextlib import suppress

from shoal import _standard
from shoal._connection import addresses
from shoal._connection.stream import Connection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["INTERNET", "SocketClient", "SocketListener", "check_key", "check_tls", "connected", "prepare"]

# A machine on the network that vanishes without a word is noticed after about two minutes of silence. (This machine does not.)
KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 6),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 120_000),  # ms: the same for what was sent and is not acknowledged
)
INTERNET = {socket.AF_INET, socket.AF_INET6}


def prepare(sock: socket.SocketType, host: str) -> None:
    """Set what every connection over a network wants. What a listening socket has, the kernel gives to those that it accepts.

    Args:
        sock: the socket.
        host: at either end of it, in digits.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not host.startswith("127.") and host != "::1":
        for option in KEEPALIVE:
            sock.setsockopt(*option)


def check_key(authkey: Any) -> None:
    """Raise TypeError unless it is a key or None."""
    if authkey is not None and not isinstance(authkey, bytes):
        raise TypeError("authkey should be a byte string")


def check_tls(tls: Any, kind: socket.AddressFamily) -> None:
    """Raise unless TLS is wanted where there is TLS."""
    if tls is None:
        return
    if not hasattr(tls, "_context"):
        raise TypeError(f"tls should be a shoal.TLS(cert, key, ca), not {tls!r}")
    if kind not in INTERNET:
        raise ValueError(f"TLS is for addresses (host, port), not for {kind.name}: what is on this machine needs none")


class SocketListener:
    """A socket that is bound to an address and listens. It knows nothing of authentication.

    Args:
        address: where to listen.
        family: ``AF_INET``, ``AF_INET6`` or ``AF_UNIX``.
        backlog: how many connections may wait to be accepted.
    """

    def __init__(self, address: Any, family: str, backlog: int = 1) -> None:
        self._socket_family = addresses.socket_family(address, family)
        self._socket = socket.socket(self._socket_family)
        self._socket.settimeout(None)  # whatever socket.setdefaulttimeout says
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                self._socket.bind(address)
            except OSError as error:
                error.add_note(f"listening on {address!r} ({family})")
                raise
            self._unlink = self._unlink_at_the_end(address)
            self._address = self._socket.getsockname()
            if self._socket_family in INTERNET:
                prepare(self._socket, self._address[0])
            self._socket.listen(backlog)
        except BaseException:
            self._socket.close()
            raise
        # Another process that holds this socket, too, may take a connection between our seeing and our accepting it.
        os.set_blocking(self._socket.fileno(), False)
        self._family = family
        self._last_accepted: Any = None

    def _unlink_at_the_end(self, address: Any) -> Any:
        if self._socket.family != socket.AF_UNIX or not addresses.is_path(address):
            return None
        return _standard.util.Finalize(self, _unlink, args=(address,), exitpriority=0)

    def accept(self) -> Connection:
        """Return the next connection, as it is."""
        while True:
            try:
                sock, self._last_accepted = self.take()
            except BlockingIOError:
                _wait_readable(self._socket)
                continue
            return Connection(sock.detach())

    def take(self) -> tuple[socket.SocketType, Any]:
        """Return a new connection's socket, which waits in its calls, and the address of the other side.

        Raises:
            BlockingIOError: if there is none.
        """
        fd, peer = self._socket._accept()  # type: ignore[attr-defined]
        sock = socket.SocketType(self._socket_family, socket.SOCK_STREAM, 0, fd)
        if sock.gettimeout() is not None:
            sock.setblocking(True)  # whatever socket.setdefaulttimeout says
        return sock, peer

    def close(self) -> None:
        """Stop listening; the path of an AF_UNIX address is removed."""
        try:
            self._socket.close()
        finally:
            unlink, self._unlink = self._unlink, None
            if unlink is not None:
                unlink()


def _unlink(path: Any) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108 - pathlib cannot have bytes


def _wait_readable(sock: socket.socket) -> None:
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    poller.poll()


def SocketClient(address: Any) -> Connection:  # noqa: N802 - the standard name
    """Connect to a `SocketListener`, without authentication."""
    return Connection(connected(address, addresses.socket_family(address), None).detach())


def connected(address: Any, kind: socket.AddressFamily, timeout: float | None) -> socket.SocketType:
    """Return a socket that is connected to an address within ``timeout`` seconds, and waits from then on."""
    sock = socket.SocketType(kind, socket.SOCK_STREAM)
    try:
        if sock.gettimeout() != timeout:
            sock.settimeout(timeout)
        sock.connect(address)
        if timeout is not None:
            sock.settimeout(None)
        if kind in INTERNET:
            prepare(sock, sock.getpeername()[0])
    except BaseException:
        sock.close()
        raise
    return sock
