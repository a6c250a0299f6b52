"""``Pipe``: two ends whose messages go through shared memory.

A pipe between processes of a tree is two channels in shared memory for the messages, and a socket pair for what the kernel is good at: end of file and hang-up
when the last holder of an end has gone.

Relies on ``shoal._native.Wire``. Promises: messages that were sent before the other end went are received before ``EOFError``; a select on ``fileno()`` is
readable when a message or the end of file is there.
"""

from __future__ import annotations

import os
import socket

from shoal import _native, reduction
from shoal._connection.messages import Messages
from shoal._connection.stream import Connection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Pipe", "PipeEnd"]

# How many bytes may be under way in one direction before `send` waits for the reader, as it does on a kernel pipe.
UNDER_WAY = 1 << 20


class PipeEnd(Messages, _native.Wire):
    """One end of a pipe, its messages in shared memory; made by `Pipe`."""

    def _recv_raw(self, maxlength: int | None = None) -> Any:
        data = super()._recv_raw()
        return None if maxlength is not None and len(data) > maxlength else data

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Tell whether a message (or the end of file) is there within ``timeout`` seconds; None waits for ever."""
        return self._poll(timeout)

    def __reduce__(self) -> tuple[Any, ...]:
        sock, bell_in, bell_out, incoming, outgoing = self._parts()
        descriptors = [None if fd < 0 else reduction.DupFd(fd) for fd in (sock, bell_in, bell_out)]
        return _rebuild, (*descriptors, incoming, outgoing)


Connection.register(PipeEnd)


def _rebuild(sock: Any, bell_in: Any, bell_out: Any, incoming: Any, outgoing: Any) -> PipeEnd:
    sock, bell_in, bell_out = (-1 if fd is None else fd.detach() for fd in (sock, bell_in, bell_out))
    return PipeEnd(sock, bell_in, bell_out, incoming, outgoing)


def Pipe(duplex: bool = True) -> tuple[Any, Any]:  # noqa: N802 - the standard name
    """Return two connected ends. ``duplex``: both send and receive; otherwise the first only receives and the second only sends."""
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
    a = PipeEnd(first.detach(), bell_there, bell_back, there, back)
    b = PipeEnd(second.detach(), os.dup(bell_back) if duplex else -1, os.dup(bell_there), back, there)
    return a, b
