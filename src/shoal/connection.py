"""Connections: ``Pipe``, ``Connection`` and ``wait``.

A pipe between processes of a tree is two channels in shared memory for the messages, and a socket pair for what the kernel is good at: end of file and hang-up
when the last holder of an end has gone. `Connection` on a plain descriptor works as in the standard library, and so do `Listener` and `Client`,
which are the standard ones.

Relies on ``shoal._native.Wire``. Promises: messages that were sent before the other end went are received before ``EOFError``; a select on ``fileno()`` is
readable when a message or the end of file is there.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any, Self

from shoal import _native, _standard, reduction

if TYPE_CHECKING:
    from types import TracebackType

_connection: Any = _standard.connection
BufferTooShort = _connection.BufferTooShort
AuthenticationError = _connection.AuthenticationError
Listener = _connection.Listener
Client = _connection.Client
wait = _connection.wait
deliver_challenge = _connection.deliver_challenge
answer_challenge = _connection.answer_challenge

__all__ = ["Client", "Listener", "Pipe", "wait"]

# How many bytes may be under way in one direction before `send` waits for the reader, as it does on a kernel pipe.
UNDER_WAY = 1 << 20


class Connection(_native.Wire):
    """One end of a pipe, its messages in shared memory; made by `Pipe`.

    ``Connection(handle, readable=True, writable=True)`` on a descriptor gives the standard library's connection over that descriptor.
    """

    def __new__(cls, handle: int, readable: Any = True, writable: Any = True, *parts: Any) -> Any:
        if not parts:
            return _connection.Connection(handle, readable=readable, writable=writable)
        return super().__new__(cls)

    def _check_closed(self) -> None:
        if self.closed:
            msg = "handle is closed"
            raise OSError(msg)

    def send_bytes(self, buf: Any, offset: int = 0, size: int | None = None) -> None:
        """Sends bytes-like data from ``offset``, ``size`` bytes or to the end."""
        self._check_closed()
        if not self.writable:
            msg = "connection is read-only"
            raise OSError(msg)
        view = memoryview(buf)
        if view.itemsize > 1:
            view = view.cast("B")
        length = view.nbytes
        if offset < 0:
            msg = "offset is negative"
            raise ValueError(msg)
        if length < offset:
            msg = "buffer length < offset"
            raise ValueError(msg)
        if size is None:
            size = length - offset
        elif size < 0:
            msg = "size is negative"
            raise ValueError(msg)
        elif offset + size > length:
            msg = "buffer length < offset + size"
            raise ValueError(msg)
        self._send_raw(view[offset : offset + size])

    def recv_bytes(self, maxlength: int | None = None) -> bytes:
        """The next message's bytes.

        Raises:
            OSError: if they are more than ``maxlength``; the connection is then closed for reading, as its next message cannot be told.
            EOFError: if nothing is left and the other end has gone.
        """
        self._check_readable()
        if maxlength is not None and maxlength < 0:
            msg = "negative maxlength"
            raise ValueError(msg)
        data: bytes = self._recv_raw()
        if maxlength is not None and len(data) > maxlength:
            if self.writable:
                self._stop_reading()
            else:
                self.close()
            msg = "bad message length"
            raise OSError(msg)
        return data

    def recv_bytes_into(self, buf: Any, offset: int = 0) -> int:
        """Writes the next message's bytes into a writable buffer from ``offset`` (bytes) on, and returns how many they are.

        Raises:
            BufferTooShort: if they do not fit; ``args[0]`` is the message.
        """
        self._check_readable()
        with memoryview(buf) as view, view.cast("B") as target:
            if offset < 0:
                msg = "negative offset"
                raise ValueError(msg)
            if offset > target.nbytes:
                msg = "offset too large"
                raise ValueError(msg)
            data = self._recv_raw()
            if target.nbytes < offset + len(data):
                raise BufferTooShort(data)
            target[offset : offset + len(data)] = data
            return len(data)

    def _check_readable(self) -> None:
        self._check_closed()
        if not self.readable:
            msg = "connection is write-only"
            raise OSError(msg)

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Whether a message (or the end of file) is there within ``timeout`` seconds; None waits for ever."""
        return self._poll(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        sock, bell_in, bell_out, incoming, outgoing = self._parts()
        descriptors = [None if fd < 0 else reduction.DupFd(fd) for fd in (sock, bell_in, bell_out)]
        return _rebuild, (*descriptors, incoming, outgoing)


def _rebuild(sock: Any, bell_in: Any, bell_out: Any, incoming: Any, outgoing: Any) -> Any:
    descriptors = [-1 if fd is None else fd.detach() for fd in (sock, bell_in, bell_out)]
    return Connection(*descriptors, incoming, outgoing)


def Pipe(duplex: bool = True) -> tuple[Any, Any]:  # noqa: N802 - the standard name
    """Two connected ends. ``duplex``: both send and receive; otherwise the first only receives and the second only sends."""
    first, second = socket.socketpair()
    try:
        there = _native.pipe_channel(UNDER_WAY)
        back = _native.pipe_channel(UNDER_WAY) if duplex else None
        bells = [os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)]
        if duplex:
            bells.append(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
    except BaseException:
        first.close()
        second.close()
        raise
    bell_there = bells[0]
    bell_back = bells[1] if duplex else -1
    a = Connection(first.detach(), bell_there, bell_back, there, back)
    b = Connection(second.detach(), os.dup(bell_back) if duplex else -1, os.dup(bell_there), back, there)
    return a, b
