"""TLS for connections over a network: `TLS` says with which certificates, `Encrypted` makes the connection, `EncryptedConnection` is it.

Both sides show a certificate and demand one that the same authority has signed; a client also demands that the certificate is for the host that it called.
TLS 1.2 at least.

OpenSSL works in memory (`shoal._connection.tls_engine`).
One record is taken from the kernel at a time, and the listener's side sends no session tickets; so, as every message begins a record, a select on
``fileno()`` misses no message, save one that ``poll`` or ``wait`` has told of already.
"""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from shoal._connection.admission import TLS_ALERT, Plain
from shoal._connection.stream import Connection, frame
from shoal._connection.tls_engine import PIECE, Engine
from shoal.errors import NotSupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["TLS", "Encrypted", "EncryptedConnection"]

FATAL_HANDSHAKE_FAILURE = bytes(
    [3, 0, 2, 2, 40]
)  # after the beginning of an alert: version, length, level, description
JOINED = 16 * 1024  # bytes up to which a message shares a record with its length


@dataclass(frozen=True)
class TLS:
    """With which certificates a `Listener` or a `Client` encrypts: ``Listener(address, tls=shoal.TLS(cert, key, ca))``.

    ``shoal certs DIR`` makes the files for a team's machines.

    Args:
        cert: file with this side's certificate (PEM), and those between it and the authority's if there are any.
        key: file with the private key that belongs to it (PEM, without a password).
        ca: file with the authority's certificate (PEM): whom the other side's certificate must be signed by.
        check_hostname: whether a client demands that the listener's certificate is for the host it connects to (a name or an IP address).

    Raises:
        OSError: when it is used, if a file is missing, or is not what it should be (``ssl.SSLError``).
    """

    cert: str | os.PathLike[str]
    key: str | os.PathLike[str]
    ca: str | os.PathLike[str]
    _: KW_ONLY
    check_hostname: bool = True

    def _context(self, *, server: bool) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = self.check_hostname and not server
        context.verify_mode = ssl.CERT_REQUIRED
        if server:
            context.num_tickets = 0
        for path in (self.cert, self.key, self.ca):
            if not Path(path).is_file():
                raise FileNotFoundError(2, "TLS needs this file (`shoal certs DIR` makes such files)", os.fspath(path))
        try:
            # A key with a password would make OpenSSL ask for it on the terminal.
            context.load_cert_chain(self.cert, self.key, password=_no_password)
        except ssl.SSLError as error:
            error.add_note(f"TLS(cert={str(self.cert)!r}, key={str(self.key)!r}): are these a certificate and its key?")
            raise
        try:
            context.load_verify_locations(self.ca)
        except ssl.SSLError as error:
            error.add_note(f"TLS(ca={str(self.ca)!r}): is this a certificate?")
            raise
        return context


TLS.__module__ = "shoal"


def _no_password() -> str:
    raise ValueError(
        "the TLS key has a password: shoal cannot ask for it; give a file with the key alone, readable by you alone"
    )


class Encrypted(Plain):
    """A socket with TLS on it, during admission.

    Args:
        sock: the socket.
        context: with the certificates.
        host: whom the client has called; None on the listener's side.
    """

    silent = False  # a record may hold more than one message

    def __init__(self, sock: socket.SocketType, context: ssl.SSLContext, host: str | None = None) -> None:
        super().__init__(sock)
        self._engine = Engine(context, host)

    def begin(self) -> bool:
        """Go on with the handshake."""
        try:
            while not self._engine.handshake():
                if not self.flush() or not self._feed():
                    return False
        except OSError:
            self.flush()  # the alert that tells the other side what is wrong
            raise
        return self.flush()

    def read(self, size: int) -> bytes | None:
        """Return what is there, up to ``size`` bytes; None: nothing yet."""
        while not self._engine.plain:
            if self._engine.decrypt():
                break
            if not self._feed():
                return None
        return bytes(self._engine.take(size))

    def wait(self, seconds: float) -> bool:  # noqa: ARG002 - that of a plain socket
        """It cannot: what is read is more, or less, than what is sent."""
        return False

    def write(self, data: bytes) -> None:
        """Say what is to be sent."""
        self._engine.encrypt(data)

    def flush(self) -> bool:
        """Send; true when nothing is left."""
        super().write(self._engine.outgoing())
        return super().flush()

    def tell_the_silent(self) -> str:
        """Send the alert of a failed handshake: a client of shoal's without TLS knows it."""
        with suppress(OSError):
            self._socket.send(TLS_ALERT + FATAL_HANDSHAKE_FAILURE, socket.MSG_DONTWAIT)
        return ", and said nothing, as one does that knows nothing of TLS: both sides need tls=shoal.TLS(…)"

    def connection(self) -> Connection:
        """Return the connection that takes the socket over."""
        return EncryptedConnection(self._socket, self._engine)

    def _feed(self) -> bool:
        try:
            self._engine.feed(self._socket)
        except BlockingIOError:
            return False
        self.heard = True
        return True


class EncryptedConnection(Connection):
    """A connection over TLS. It belongs to the process that made it: it cannot be sent to another, nor used in a forked child."""

    def __init__(self, sock: socket.SocketType, engine: Engine) -> None:
        super().__init__(sock.fileno())
        self._socket = sock
        self._engine = engine
        self._sending = threading.RLock()
        self._cut = False  # a message was sent in part
        self._owner = os.getpid()

    def _send_raw(self, view: Any) -> None:
        self._check_owner()
        view = memoryview(view).cast("B")  # of more dimensions its length is that of the first
        size = len(view)
        parts = [b"".join((frame(size), view))] if size <= JOINED else [frame(size), view]
        with self._sending:
            if self._cut or self._engine.interrupted():
                raise OSError(
                    "no message can follow one that is in the middle: that of the call which this signal handler has interrupted, or one that was ended by an "
                    "exception; let handlers set a flag instead"
                )
            self._cut = True
            try:
                for part in parts:
                    whole = memoryview(part)
                    for start in range(0, len(whole), PIECE):
                        self._engine.encrypt(whole[start : start + PIECE])
                        self._socket.sendall(self._engine.outgoing())
            except ConnectionError:  # what the other side said before it went can still be received
                self._cut = False
                raise
            except BaseException:
                self.close()
                raise
            self._cut = False

    def _recv_raw(self, maxlength: int | None = None) -> Any:
        with self._untorn():
            engine = self._engine
            engine.decrypt()
            # Nothing is on its way while it waits: so whoever interrupts that loses nothing. A signal handler may receive a message meanwhile.
            while True:
                with engine.lock:
                    plain = engine.plain
                    head = 12 if plain.startswith(b"\xff\xff\xff\xff") else 4
                    if len(plain) >= head:
                        size = int.from_bytes(plain[4:head] or plain[:head], "big", signed=head == 4)  # noqa: PLR2004
                        if size < 0 or (maxlength is not None and size > maxlength):
                            return None
                        if len(plain) >= head + size:
                            return engine.take(size, after=head)
                    if engine.ended:
                        if plain:
                            raise OSError("got end of file during message")
                        raise EOFError
                super()._poll(None)
                with suppress(BlockingIOError):  # a part of a record
                    engine.feed(self._socket)
                engine.decrypt()

    @contextmanager
    def _untorn(self) -> Iterator[None]:
        """Go on only as long as no byte is lost; the connection is closed otherwise."""
        self._check_owner()
        if self._close_if_torn():
            raise OSError("the receiving of a message was interrupted in the middle: what follows cannot be told")
        try:
            yield
        except BaseException:
            self._close_if_torn()
            raise

    def _close_if_torn(self) -> bool:
        with self._engine.lock:  # another thread's bytes have arrived, wherever they were on their way to
            torn = self._engine.torn
        if torn:
            self.close()
        return torn

    def _poll(self, timeout: float | None) -> bool:
        until = None if timeout is None else time.monotonic() + timeout
        remaining = timeout
        while not self._has_something():
            if not super()._poll(remaining) and remaining is not None and remaining <= 0:
                return False
            if until is not None:
                remaining = until - time.monotonic()
        return True

    def _has_something(self) -> bool:
        """Whether there is a plain byte, or the end of file."""
        with self._untorn():
            while not self._engine.decrypt():
                try:
                    self._engine.feed(self._socket)
                except BlockingIOError:
                    return False
                except ConnectionResetError:
                    return True  # whoever reads is told
            return True

    def close(self) -> None:
        """Say farewell, unless a message is being sent, and close it."""
        if self._handle is not None:
            try:
                self._say_farewell()
            finally:
                self._handle = None
                # Of the base class: nothing of Python's runs in it that a signal handler could keep from its end.
                socket.SocketType.close(self._socket)

    _close = close  # what the standard class calls when it is collected

    def _say_farewell(self) -> None:
        with suppress(OSError):
            if os.getpid() == self._owner and self._sending.acquire(blocking=False):
                try:
                    if not self._cut:
                        self._engine.farewell()
                        self._socket.send(self._engine.outgoing(), socket.MSG_DONTWAIT)
                finally:
                    self._sending.release()

    def _check_owner(self) -> None:
        if os.getpid() != self._owner:
            raise NotSupportedError(
                "a connection over TLS cannot be used in a forked child",
                "its keys would be used twice",
                "connect in the child",
            )

    def __reduce__(self) -> tuple[Any, ...]:
        raise NotSupportedError(
            "a connection over TLS cannot be sent to another process", "its keys are in this one", "connect there"
        )
