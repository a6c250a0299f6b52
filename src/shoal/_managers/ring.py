"""The short way between a client and a server of one tree of processes: two channels in shared memory, beside the socket by which they met.

The client makes the channels and names them in its greeting. A server whose arena is the same takes them over; after its answer the client sends the two
bells, and from then on the socket only says when one of them has gone. A server in another arena, or on another machine, cannot take them, and the messages
go over the socket.
"""

from __future__ import annotations

import os
import socket

from shoal import _native
from shoal.errors import StaleReferenceError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Offer", "Ring", "accept", "descriptor_of_socket", "suits", "take_over"]

UNDER_WAY = 0  # no bound: a client waits for each answer, and what it tells without waiting is small
WORDS = 4  # a reference is so many numbers


class Ring(_native.Wire):
    """A connection through shared memory, with what a manager needs of one."""


class Offer:
    """Two channels that a client offers.

    Attributes:
        references: what the server is told.
    """

    def __init__(self) -> None:
        self._to_server = _native.pipe_channel(UNDER_WAY)
        self._to_client = _native.pipe_channel(UNDER_WAY)
        self.references = (self._to_server._reference(), self._to_client._reference())

    def complete(self, connection: Any) -> Ring:
        """After the server has agreed: send it the bells, and return what is spoken over from now on. Takes the connection over."""
        bells = [os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) for _ in range(2)]
        try:
            sock = _socket_of(connection)
            socket.send_fds(sock, [b"!"], bells)
        except BaseException:
            for bell in bells:
                os.close(bell)
            raise
        return Ring(sock.detach(), bells[1], bells[0], self._to_client, self._to_server, True)


def suits(connection: Any) -> bool:
    """Whether a ring may be had: descriptors can be passed by AF_UNIX sockets only."""
    with _socket_of(connection, detach=False) as sock:
        return sock.family == socket.AF_UNIX


def accept(references: Any, connection: Any) -> tuple[Any, Any] | None:
    """Adopt what a client offers.

    Args:
        references: of its two channels, as in `Offer.references`.
        connection: by which it came; must be an AF_UNIX socket, for the bells.

    Returns:
        The channels, or None if they are not to be had here.
    """
    try:
        if not suits(connection):
            return None
        to_server, to_client = (tuple(int(word) for word in reference) for reference in references)
        if len(to_server) != WORDS or len(to_client) != WORDS:
            return None
        return _native.Channel._adopt(to_server), _native.Channel._adopt(to_client)  # type: ignore[arg-type]
    except (StaleReferenceError, OSError, TypeError, ValueError, OverflowError):
        return None


def take_over(channels: tuple[Any, Any], connection: Any, multiplexer: Any) -> Ring:
    """After the client has been told: receive the bells, and return what is spoken over from now on. Takes the connection over.

    Args:
        channels: as adopted.
        connection: by which the bells come.
        multiplexer: serves the client while it is lively.

    Raises:
        EOFError: if the client has gone.
        OSError: if it sends something else.
    """
    to_server, to_client = channels
    sock = _socket_of(connection, detach=False)
    try:
        bells = _receive_bells(sock)
    except BaseException:
        sock.close()
        raise
    connection.close()
    return Ring(sock.detach(), bells[0], bells[1], to_server, to_client, True, multiplexer)


def _receive_bells(sock: socket.socket) -> list[int]:
    data, bells, _, _ = socket.recv_fds(sock, 1, 2, socket.MSG_CMSG_CLOEXEC)
    if len(bells) == 2:  # noqa: PLR2004 - one for each direction
        return bells
    for bell in bells:
        os.close(bell)
    if not data:
        raise EOFError
    raise OSError("a client that offered a ring did not send its bells")


def descriptor_of_socket(connection: Any) -> int:
    """Return the descriptor of the socket by which it shows that the other side has gone: of a ring, the one beside it.

    Raises:
        OSError: if the connection is closed.
    """
    descriptor: int = connection._parts()[0] if isinstance(connection, Ring) else connection.fileno()
    return descriptor


def _socket_of(connection: Any, *, detach: bool = True) -> socket.socket:
    """Return the socket behind a connection; the connection itself is closed if it is to be left."""
    sock = socket.socket(fileno=os.dup(connection.fileno()))
    if detach:
        connection.close()
    return sock
