"""What all connections have in common: the standard signatures, their checks, and what is raised when they fail.

A class that derives from `Messages` brings ``closed``, ``readable``, ``writable``, ``close`` and the three primitives that stand under TYPE_CHECKING below.
"""

from __future__ import annotations

from shoal import _standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Self

__all__ = ["BufferTooShort", "Messages"]

BufferTooShort = _standard.context.BufferTooShort


class Messages:
    """The methods of a connection that deal with bytes."""

    if TYPE_CHECKING:

        @property
        def closed(self) -> bool: ...
        @property
        def readable(self) -> bool: ...
        @property
        def writable(self) -> bool: ...
        def close(self) -> None: ...
        def _send_raw(self, view: Any) -> None: ...
        def _recv_raw(self, maxlength: int | None = None) -> Any:
            """Return the next message, bytes or a bytearray; None if it has more bytes than that, or than any message has."""

        def _poll(self, timeout: float | None) -> bool: ...
        def _stop_reading(self) -> None: ...

    def _check_closed(self) -> None:
        if self.closed:
            raise OSError("handle is closed")

    def _check_readable(self) -> None:
        self._check_closed()
        if not self.readable:
            raise OSError("connection is write-only")

    def _check_writable(self) -> None:
        self._check_closed()
        if not self.writable:
            raise OSError("connection is read-only")

    def send_bytes(self, buf: Any, offset: int = 0, size: int | None = None) -> None:
        """Send bytes-like data from ``offset``, ``size`` bytes or to the end."""
        self._check_writable()
        view = memoryview(buf)
        if view.itemsize > 1:
            view = view.cast("B")
        length = view.nbytes
        if offset < 0:
            raise ValueError("offset is negative")
        if length < offset:
            raise ValueError("buffer length < offset")
        if size is None:
            size = length - offset
        elif size < 0:
            raise ValueError("size is negative")
        elif offset + size > length:
            raise ValueError("buffer length < offset + size")
        self._send_raw(view[offset : offset + size])

    def recv_bytes(self, maxlength: int | None = None) -> bytes:
        """Return the next message's bytes.

        Raises:
            OSError: if they are more than ``maxlength``; the connection is then closed for reading, as its next message cannot be told.
            EOFError: if nothing is left and the other end has gone.
        """
        self._check_readable()
        if maxlength is not None and maxlength < 0:
            raise ValueError("negative maxlength")
        return bytes(self._next_message(maxlength))

    def recv_bytes_into(self, buf: Any, offset: int = 0) -> int:
        """Write the next message's bytes into a writable buffer from ``offset`` (bytes) on, and return how many they are.

        Raises:
            TypeError: if the buffer cannot be written to; the message can still be received.
            BufferTooShort: if they do not fit; ``args[0]`` is the message.
        """
        self._check_readable()
        with memoryview(buf) as view, view.cast("B") as target:
            if target.readonly:
                raise TypeError("a writable buffer is needed")
            if offset < 0:
                raise ValueError("negative offset")
            if offset > target.nbytes:
                raise ValueError("offset too large")
            data = self._next_message()
            if target.nbytes < offset + len(data):
                raise BufferTooShort(bytes(data))
            target[offset : offset + len(data)] = data
            return len(data)

    def _next_message(self, maxlength: int | None = None) -> Any:
        data = self._recv_raw(maxlength)
        return self._bad_message_length() if data is None else data

    def _bad_message_length(self) -> Any:
        if self.writable:
            self._stop_reading()
        else:
            self.close()
        raise OSError("bad message length")

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Tell whether a message (or the end of file) is there within ``timeout`` seconds; None waits for ever."""
        self._check_readable()
        return self._poll(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self.close()
