"""How a process asks the fork server for a child.

All processes of a tree hold one end of a socket pair, the server holds the other: there is no address that somebody else could connect to. A request
is one message with the end of a second socket pair, made for this child alone:

    client -> server   (on the common socket)  LASTING or DEPENDENT [child's socket]
    client -> child    (on the child's socket) head; then descriptors, as many messages as they need
    server -> client   (on the child's socket) STARTED pid [pidfd], or THREADS n, or FAILED: it could not import what it had to, and ends
    server -> client   (on the child's socket) ENDED exit code

The child reads what is meant for it, so the server never waits for a client, nor a client for a child. All sockets keep messages apart (SOCK_SEQPACKET).

A client that dies hangs up; then the server tells those of its children that are to end with it to look for it.

The child keeps its end of its socket until it has claimed the slot. So a server that was killed between handing the request to a child and saying STARTED leaves
no doubt: when the client's end reports the end of file, either somebody has claimed the slot, and is the child, or nobody ever will.
"""

from __future__ import annotations

import array
import socket
import struct
from typing import NamedTuple

from shoal._runtime import STDERR, above_standard

__all__ = [
    "DEPENDENT",
    "ENDED",
    "FAILED",
    "LASTING",
    "QUIET",
    "STARTED",
    "THREADS",
    "TRACKER",
    "Head",
    "receive",
    "receive_head",
    "receive_last",
    "send",
    "send_head",
    "server_program",
    "socket_pair",
]

LASTING, DEPENDENT = b"?", b"!"  # requests: for a child that may outlive its client, and for one that is to end with it

STARTED, THREADS, ENDED, FAILED = 1, 2, 3, 4

TRACKER, QUIET = 1, 2

ANSWER = struct.Struct("=iq")  # kind, number
Socket = (
    socket.SocketType
)  # the interpreter's own class: what a child that has just been forked can do without is Python code
HEAD = struct.Struct("=QII")
BATCH = 250  # descriptors in one message; the kernel's limit is 253
LARGEST = HEAD.size + BATCH * 4  # bytes of a message


class Head(NamedTuple):
    """What a child is told first."""

    token: int  # of the slot reserved for it
    flags: int  # TRACKER: the standard library's resource tracker is among the descriptors; QUIET: the child blocks SIGINT, as the client does
    descriptors: list[
        int
    ]  # payload, arena, parent's sentinel, server, tracker if there is one, and what the pickled objects asked for
    numbers: list[int]  # the same, as the client calls them


def server_program(common_fd: int, plan_fd: int) -> str:
    """The line of Python that is a server, given its end of the common socket and the file that says what to import."""
    return f"from shoal._forkserver.server import main; main({common_fd}, {plan_fd})"


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected sockets that keep messages apart, with descriptors above the standard three."""
    first, second = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return _above_standard(first), _above_standard(second)


def _above_standard(sock: socket.socket) -> socket.socket:
    if sock.fileno() > STDERR:
        return sock
    return socket.socket(sock.family, sock.type, sock.proto, above_standard(sock.detach()))


def send(sock: Socket, data: bytes, descriptors: list[int]) -> None:
    """Send one message with descriptors."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    sock.sendmsg([data], rights, socket.MSG_NOSIGNAL)


def receive(sock: Socket) -> tuple[bytes, list[int]]:
    """Receive one message with descriptors, which are close-on-exec; an empty one means the other side is gone."""
    descriptors = array.array("i")
    space = socket.CMSG_SPACE(BATCH * descriptors.itemsize)
    data, ancillary, _, _ = sock.recvmsg(LARGEST, space, socket.MSG_CMSG_CLOEXEC)
    for level, kind, rights in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(rights[: len(rights) // descriptors.itemsize * descriptors.itemsize])
    return data, list(descriptors)


def receive_last(sock: Socket) -> tuple[bytes, list[int]]:
    """Receive one message, though the other side may have gone after it."""
    try:
        return receive(sock)
    except ConnectionResetError:
        # The other side is closed, and left something unread. The kernel says so first, once; what was sent before that comes after it.
        return receive(sock)


def send_head(sock: Socket, token: int, descriptors: list[int], flags: int) -> None:
    """Tell a child what it needs, however many descriptors that is."""
    for start in range(0, len(descriptors), BATCH):
        batch = descriptors[start : start + BATCH]
        send(sock, HEAD.pack(token, flags, len(descriptors)) + array.array("i", batch).tobytes(), batch)


def receive_head(sock: Socket) -> Head:
    """The child's counterpart of `send_head`.

    Raises:
        EOFError: if the client is gone.
        OSError: if descriptors were lost on the way.
    """
    descriptors: list[int] = []
    numbers = array.array("i")
    while True:
        data, batch = receive_last(sock)
        if not data:
            raise EOFError("the process that asked the fork server for this child is gone")
        token, flags, count = HEAD.unpack_from(data)
        descriptors += batch
        numbers.frombytes(data[HEAD.size :])
        if len(descriptors) < len(numbers):
            raise OSError(
                f"of {len(numbers)} descriptors {len(descriptors)} arrived: the limit on open files is too low"
            )
        if len(numbers) >= count:
            return Head(token, flags, descriptors, list(numbers))
