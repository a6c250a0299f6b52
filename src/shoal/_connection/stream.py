"""A connection over a stream of bytes: a socket, a pipe, any descriptor. Its messages are framed as the standard library frames them.

Each message is its length, four bytes in network order, and its bytes. A length above 2 GiB - 1 is written as -1 and eight bytes more. `_native.MessageStream` reads
and writes them.

Nothing is read ahead, so a select on the descriptor tells the truth, and descriptors that follow a message (`reduction.send_handle`) are still there.
Memory for a message grows with the bytes that arrive: a length that lies costs nothing.

Promises: what was sent by one ``send`` is received by one ``recv``, on either library; the end of file between messages is ``EOFError``.
Whoever is interrupted (Ctrl-C, a signal handler that raises) while a message is received gets the whole of it by the next ``recv``; in the middle of sending one, closes the
connection by that, for what came next would be taken for its rest.
"""

from __future__ import annotations

import os
import select
from abc import ABCMeta

from shoal import _native, _standard, reduction
from shoal._connection.messages import Messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Connection", "frame", "poll_milliseconds", "rebuild_connection", "reduce_connection"]

SHORT = 0x7FFFFFFF  # bytes of a message up to which its length has four bytes
LONGEST_POLL = 1 << 30  # milliseconds that one poll() may be asked for


def frame(size: int) -> bytes:
    """Return what goes before a message of so many bytes."""
    if size <= SHORT:
        return size.to_bytes(4, "big")
    return b"\xff\xff\xff\xff" + size.to_bytes(8, "big")


def poll_milliseconds(timeout: float | None) -> float | None:
    """Return milliseconds for ``select.poll``, given seconds; None waits for ever."""
    return None if timeout is None else min(max(timeout, 0.0) * 1000, LONGEST_POLL)


class Connection(Messages, _standard.connection.Connection, metaclass=ABCMeta):
    """A connection over a descriptor, which it takes over and closes.

    The ends of a pipe (`Pipe`) count as its instances, though their messages go through shared memory.

    Args:
        handle: the descriptor.
        readable: whether it may receive.
        writable: whether it may send.
    """

    _handle: int | None
    _readable: bool
    _writable: bool

    def __init__(self, handle: int, readable: bool = True, writable: bool = True) -> None:
        super().__init__(handle, readable, writable)
        self._stream = _native.MessageStream()

    def close(self) -> None:
        """Close it; the other end is told, unless another process holds this one, too.

        A signal handler that raises in this call leaves it closed, or as it was.
        """
        if self._handle is not None:
            try:
                os.close(self._handle)
            finally:
                self._handle = None

    def send(self, obj: Any) -> None:
        """Send an object: pickled, buffers included.

        Raises:
            OSError: if the connection is closed, cannot send, or is broken.
        """
        self._check_writable()
        data, buffers = reduction.dumps(obj)
        self._send_raw(reduction.ForkingPickler.dumps(obj) if buffers else data)

    def recv(self) -> Any:
        """Receive an object. Whoever can send can run code here: see SECURITY.md.

        Raises:
            EOFError: if nothing is left and the other end has gone.
            OSError: if the connection is closed, cannot receive, or is broken.
        """
        self._check_readable()
        return reduction.loads(self._next_message())

    def _send_raw(self, view: Any) -> None:
        try:
            self._stream.send(self._handle, view)  # type: ignore[arg-type]  # open: it was looked at
        except BaseException:
            if self._stream.cut:
                self.close()
            raise

    def _recv_raw(self, maxlength: int | None = None) -> Any:
        return self._stream.receive(self._handle, maxlength)  # type: ignore[arg-type]

    # What the standard class calls these; subclasses of it rely on them.
    def _send_bytes(self, buf: Any) -> None:
        self._send_raw(buf)

    def _recv_bytes(self, maxsize: int | None = None) -> Any:
        import io  # noqa: PLC0415 - for foreign subclasses only

        data = self._recv_raw(maxsize)
        if data is None:
            return None
        buffer = io.BytesIO()
        buffer.write(data)
        return buffer

    def _stop_reading(self) -> None:
        self._readable = False

    def _poll(self, timeout: float | None) -> bool:
        poller = select.poll()
        poller.register(self.fileno(), select.POLLIN)
        return bool(poller.poll(poll_milliseconds(timeout)))

    def __reduce__(self) -> tuple[Any, ...]:
        return reduce_connection(self)


def reduce_connection(conn: Any) -> tuple[Any, ...]:
    """Return what another process makes the connection of.

    Raises:
        OSError: if a part of a message has been received: the other process would take the rest for messages.
    """
    if conn._stream.begun:
        raise OSError(
            "the receiving of a message was interrupted in the middle: receive the rest before the connection is sent"
        )
    return rebuild_connection, (reduction.DupFd(conn.fileno()), conn.readable, conn.writable)


def rebuild_connection(df: Any, readable: bool, writable: bool) -> Connection:
    """Make a connection of a descriptor that has arrived (what `reduction.DupFd` returned)."""
    return Connection(df.detach(), readable, writable)


_theirs: Any = _standard.connection


def _reduce_standard_connection(conn: Any) -> tuple[Any, ...]:
    return _theirs.rebuild_connection, (reduction.DupFd(conn.fileno()), conn.readable, conn.writable)


reduction.register(Connection, reduce_connection)
reduction.replace_standard(_theirs.Connection, _theirs.reduce_connection, _reduce_standard_connection)
