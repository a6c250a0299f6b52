"""``Pipe``, ``Listener`` and ``Client`` between threads: queues instead of sockets.

An object arrives as itself, not as a copy. Closing an end does nothing: a thread shares its end with the thread that passed it, which often closes
"its copy" once the other one runs, as one does with processes.
"""

from __future__ import annotations

import queue
import threading
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Self

from shoal import _standard, connection

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable
    from types import TracebackType

__all__ = ["Client", "Listener", "Pipe", "wait"]

BufferTooShort = _standard.context.BufferTooShort

families = [None]


class _Closing:
    """Something that ``with`` closes."""

    def close(self) -> None:
        """Close it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self.close()


class _Stream(queue.Queue[Any]):
    """What goes one way; tells those who wait for it without taking anything."""

    def _init(self, maxsize: int) -> None:
        super()._init(maxsize)
        self.watching: list[threading.Event] = []

    def _put(self, item: Any) -> None:
        super()._put(item)
        for event in list(self.watching):
            event.set()


class Connection(_Closing):
    """One end of a pipe between threads.

    Args:
        _in: what it receives from.
        _out: what it sends to.
    """

    def __init__(self, _in: Any, _out: Any) -> None:
        self._in = _in
        self._out = _out
        self._watching: list[threading.Event] = _in.watching
        self.send = _out.put
        self.recv = _in.get

    def _ready(self) -> bool:
        return bool(self._in.qsize())

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Return whether something is there to be received within `timeout` seconds; None waits for as long as it takes."""
        return self._ready() or bool((timeout is None or timeout > 0) and wait([self], timeout))

    def send_bytes(self, buf: Any, offset: int = 0, size: int | None = None) -> None:
        """Send bytes-like data from `offset` on, `size` bytes or to the end.

        Whatever else `recv_bytes` has returned, an object that was sent, goes as it is: so an echo works, as in the standard library.

        Raises:
            ValueError: if there are not that many.
        """
        try:
            view = memoryview(buf)
        except TypeError:
            if offset or size is not None:
                raise
            self.send(buf)
            return
        with view, view.cast("B") as data:
            end = data.nbytes if size is None else offset + size
            if not 0 <= offset <= end <= data.nbytes:
                raise ValueError(f"bytes {offset} to {end} were asked for, of a buffer of {data.nbytes}")
            self.send(bytes(data[offset:end]))

    def recv_bytes(self, maxlength: int | None = None) -> Any:
        """Wait for the next message and return it.

        Raises:
            OSError: if it is longer than `maxlength` bytes. The message is lost.
        """
        if maxlength is not None and maxlength < 0:
            raise ValueError("negative maxlength")
        message = self.recv()
        if maxlength is not None and len(message) > maxlength:
            raise OSError(f"a message of {len(message)} bytes, where {maxlength} are allowed")
        return message

    def recv_bytes_into(self, buf: Any, offset: int = 0) -> int:
        """Wait for the next message, write it into a writable buffer from `offset` (bytes) on, and return how many bytes it has.

        Raises:
            BufferTooShort: if it does not fit; ``args[0]`` is the message.
        """
        with memoryview(buf) as view, view.cast("B") as target:
            if not 0 <= offset <= target.nbytes:
                raise ValueError(f"offset {offset} in a buffer of {target.nbytes} bytes")
            message = self.recv()
            if target.nbytes - offset < len(message):
                raise BufferTooShort(message)
            target[offset : offset + len(message)] = message
            return len(message)


def Pipe(duplex: bool = True) -> tuple[Connection, Connection]:  # noqa: ARG001, N802 - the standard signature
    """Return two connected ends; both send and receive, as in the standard library, whatever `duplex` says."""
    one, other = _Stream(), _Stream()
    return Connection(one, other), Connection(other, one)


_listening: dict[Hashable, queue.Queue[Any]] = {}


class Listener(_Closing):
    """Waits for clients in other threads.

    Args:
        address: by what clients find it, besides `address`: anything hashable.
        family: not used.
        backlog: how many clients may wait to be accepted.
        authkey: not used: threads of one process trust each other.
    """

    last_accepted = None

    def __init__(
        self,
        address: Any = None,
        family: Any = None,  # noqa: ARG002 - the standard signature
        backlog: int = 1,
        *,
        authkey: bytes | None = None,  # noqa: ARG002 - for programs that were written for processes
    ) -> None:
        self._backlog_queue: queue.Queue[Any] | None = queue.Queue(backlog)
        self._name = address
        if address is not None:
            _listening[address] = self._backlog_queue

    @property
    def address(self) -> Any:
        """What a client connects to."""
        return self._backlog_queue

    def accept(self) -> Connection:
        """Wait for a client; return the connection to it.

        Raises:
            OSError: if the listener is closed.
        """
        if self._backlog_queue is None:
            raise OSError("listener is closed")
        return Connection(*self._backlog_queue.get())

    def close(self) -> None:
        """Accept no more clients."""
        mine, self._backlog_queue = self._backlog_queue, None
        if mine is not None and _listening.get(self._name) is mine:
            del _listening[self._name]


def Client(address: Any, *, family: Any = None, authkey: bytes | None = None) -> Connection:  # noqa: ARG001, N802 - as above
    """Connect to a listener.

    Args:
        address: its ``address``, or what it was made with.
        family: not used.
        authkey: not used.

    Raises:
        ConnectionRefusedError: if nobody listens there.
    """
    backlog = address if isinstance(address, queue.Queue) else _listening.get(address)
    if backlog is None:
        raise ConnectionRefusedError(f"nobody listens at {address!r}")
    there, back = _Stream(), _Stream()
    backlog.put((there, back))
    return Connection(back, there)


def wait(object_list: Iterable[Any], timeout: float | None = None) -> list[Any]:
    """Wait until one of several things is ready.

    Args:
        object_list: connections, which are ready when something is there to be received, and processes (or their sentinels), which are when they
            have ended, of ``shoal.dummy``; or else what the function of this name in ``shoal.connection`` takes.
        timeout: seconds to wait at most.

    Returns:
        Those that are ready; none if that took too long.

    Raises:
        TypeError: if things of both kinds are given.
    """
    objects = list(object_list)
    ours = [thing for thing in objects if hasattr(thing, "_watching")]
    if not ours and objects:
        return list(connection.wait(objects, timeout))
    if len(ours) < len(objects):
        raise TypeError(
            "what threads share and what the system knows cannot be waited for together: wait in two threads"
        )
    deadline = None if timeout is None else monotonic() + timeout
    event = threading.Event()
    for thing in objects:
        thing._watching.append(event)
    try:
        while True:
            event.clear()
            ready = [thing for thing in objects if thing._ready()]
            if ready or not event.wait(None if deadline is None else max(0.0, deadline - monotonic())):
                return ready or [thing for thing in objects if thing._ready()]
    finally:
        for thing in objects:
            with suppress(ValueError):
                thing._watching.remove(event)
