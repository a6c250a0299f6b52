"""A connection over a stream of bytes: a socket, a pipe, any descriptor. Its messages are framed as the standard library frames them.

Each message is its length, four bytes in network order, and its bytes. A length above 2 GiB - 1 is written as -1 and eight bytes more.

Nothing is read ahead, so a select on the descriptor tells the truth, and descriptors that follow a message (`reduction.send_handle`) are still there.
Memory for a message grows with the bytes that arrive: a length that lies costs nothing.

Promises: what was sent by one ``send`` is received by one ``recv``, on either library; the end of file between messages is ``EOFError``.
Whoever is interrupted in the middle of a message (Ctrl-C, a signal handler that raises) closes the connection by that.
"""

from __future__ import annotations

import os
import select
from abc import ABCMeta

from shoal import _standard, reduction
from shoal._connection.messages import Messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

__all__ = ["Connection", "frame", "rebuild_connection", "reduce_connection", "seconds_to_poll"]

SHORT = 0x7FFFFFFF  # bytes of a message up to which its length has four bytes
JOINED = 16 * 1024  # bytes up to which a message is copied behind its length, to be written at once
STEP = 256 * 1024  # bytes of memory that a message is given before any of it has arrived; doubled as they arrive
LONGEST_POLL = 1 << 30  # milliseconds that one poll() may be asked for


def frame(size: int) -> bytes:
    """Return what goes before a message of so many bytes."""
    if size <= SHORT:
        return size.to_bytes(4, "big")
    return b"\xff\xff\xff\xff" + size.to_bytes(8, "big")


def seconds_to_poll(timeout: float | None) -> float | None:
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
        return reduction.loads(self._recv_raw())

    def _send_raw(self, view: Any) -> None:
        size = len(view)
        if size <= JOINED:
            self._write([b"".join((frame(size), view))])
        else:
            try:
                self._write([frame(size), view])
            except BaseException as error:
                self._close_if_cut_short(error)
                raise

    def _recv_raw(self, maxlength: int | None = None) -> Any:
        size = int.from_bytes(self._read(4), "big", signed=True)
        if size == -1:
            size = int.from_bytes(self._read(8), "big")
        if size < 0:
            self._bad_message_length()
        if maxlength is not None and size > maxlength:
            return None
        try:
            return self._read(size)
        except BaseException as error:
            self._close_if_cut_short(error)
            raise

    def _close_if_cut_short(self, error: BaseException) -> None:
        """What is left of a message would be taken for the next one, or the other way round, after a signal handler that raised (or without memory)."""
        if not (isinstance(error, EOFError) or type(error) is OSError or getattr(error, "errno", None)):
            self.close()

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
        return bool(poller.poll(seconds_to_poll(timeout)))

    # --- the bytes; a connection over TLS has its own ---

    def _write(self, parts: Sequence[Any]) -> None:
        """Write all bytes of some buffers."""
        if len(parts) == 1:
            written = os.write(self._handle, parts[0])  # type: ignore[arg-type]  # open: it was looked at
            if written == len(parts[0]):
                return
        else:
            written = os.writev(self._handle, parts)  # type: ignore[arg-type]
        for part in parts:
            view = memoryview(part)
            while written < len(view):
                view = view[written:]
                written = os.write(self._handle, view)  # type: ignore[arg-type]
            written -= len(view)

    def _read(self, size: int) -> bytes | bytearray:
        """Read exactly so many bytes."""
        handle: int = self._handle  # type: ignore[assignment]
        if size <= STEP:
            chunk = os.read(handle, size)
            if len(chunk) == size:
                return chunk
            if not chunk:
                raise EOFError
            data = bytearray(chunk)
        else:
            data = bytearray()
        filled = len(data)
        while filled < size:
            if filled == len(data):
                data += bytes(min(size - filled, max(STEP, filled)))
            with memoryview(data) as view:
                count = os.readv(handle, [view[filled:]])
            if count == 0:
                if filled == 0:
                    raise EOFError
                raise OSError("got end of file during message")
            filled += count
        return data

    def __reduce__(self) -> tuple[Any, ...]:
        return reduce_connection(self)


def reduce_connection(conn: Any) -> tuple[Any, ...]:
    """Return what another process makes the connection of."""
    return rebuild_connection, (reduction.DupFd(conn.fileno()), conn.readable, conn.writable)


def rebuild_connection(df: Any, readable: bool, writable: bool) -> Connection:
    """Make a connection of a descriptor that has arrived (what `reduction.DupFd` returned)."""
    return Connection(df.detach(), readable, writable)


_theirs: Any = _standard.connection


def _reduce_standard_connection(conn: Any) -> tuple[Any, ...]:
    return _theirs.rebuild_connection, (reduction.DupFd(conn.fileno()), conn.readable, conn.writable)


reduction.register(Connection, reduce_connection)
reduction.replace_standard(_theirs.Connection, _theirs.reduce_connection, _reduce_standard_connection)
