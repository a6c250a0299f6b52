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

# A machine on the network that vanishes without a word is noticed after about two minutes of silence.
KEEPALIVE = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 6),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 120_000),  # ms: the same for what was sent and is not acknowledged
)
INTERNET = {socket.AF_INET, socket.AF_INET6}


def prepare(sock: socket.socket) -> None:
    """Set what every connection over a network wants."""
    if sock.family in INTERNET:
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
        self._socket = socket.socket(addresses.socket_family(address, family))
        self._socket.settimeout(None)  # whatever socket.setdefaulttimeout says
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                self._socket.bind(address)
            except OSError as error:
                error.add_note(f"listening on {address!r} ({family})")
                raise
            self._unlink = self._unlink_at_the_end(address)
            self._socket.listen(backlog)
            self._address = self._socket.getsockname()
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
                sock, self._last_accepted = self._socket.accept()
            except BlockingIOError:
                _wait_readable(self._socket)
                continue
            prepare(sock)
            sock.setblocking(True)
            return Connection(sock.detach())

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


def connected(address: Any, kind: socket.AddressFamily, timeout: float | None) -> socket.socket:
    """Return a socket that is connected to an address within ``timeout`` seconds, and waits from then on."""
    sock = socket.socket(kind)
    try:
        sock.settimeout(timeout)
        sock.connect(address)
        sock.settimeout(None)
        prepare(sock)
    except BaseException:
        sock.close()
        raise
    return sock
