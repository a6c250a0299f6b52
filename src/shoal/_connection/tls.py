"""TLS for connections over a network: `TLS` says with which certificates, `Encrypted` makes the connection, `EncryptedConnection` is it.

Both sides show a certificate and demand one that the same authority has signed; a client also demands that the certificate is for the host that it called.
TLS 1.2 at least.

OpenSSL works on memory here and never on the socket, under a lock that is not held while anything waits: one thread may send while another receives.
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
from shoal.errors import NotSupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["TLS", "Encrypted", "EncryptedConnection"]

HEADER = 5  # bytes: kind, version, length
LONGEST_RECORD = (1 << 14) + 2048  # bytes after the header
FATAL_HANDSHAKE_FAILURE = bytes(
    [3, 0, 2, 2, 40]
)  # after the beginning of an alert: version, length, level, description
KINDS = range(20, 25)  # first byte of a record
PIECE = 256 * 1024  # bytes that are encrypted before they are sent
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


class Engine:
    """TLS in memory: bytes from the network in, plain bytes out, and the other way round."""

    def __init__(self, context: ssl.SSLContext, host: str | None) -> None:
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=host is None, server_hostname=host)
        self._lock = threading.RLock()  # a signal handler may close, or send, while this thread receives
        self._busy = False  # in a call of OpenSSL, which runs signal handlers: none of them may call it
        self._record = bytearray()  # as much of the next one as has arrived
        self.plain = bytearray()  # decrypted, and not asked for yet
        self.ended = False
        self.torn = False  # whoever has raised while bytes were on their way from one place to another (a signal handler) may have lost some

    def handshake(self) -> bool:
        """Go on with the handshake; true when it is done."""
        with self._lock:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                return False
            except ssl.SSLCertVerificationError as error:
                error.add_note(_advice(error))
                raise
            except ssl.SSLError as error:
                if error.reason in {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL"}:
                    error.add_note("the other side does not speak TLS: both sides need tls=shoal.TLS(…)")
                raise
            return True

    def feed(self, sock: socket.SocketType) -> None:
        """Take one record from the network; BlockingIOError if it has not come whole."""
        record = self._record
        while True:
            need = HEADER
            if len(record) >= HEADER:
                length = int.from_bytes(record[3:5], "big")
                if record[0] not in KINDS or record[1] != 3 or length > LONGEST_RECORD:  # noqa: PLR2004 - SSL 3.0 to TLS 1.3
                    break  # no TLS: OpenSSL has the words for it
                need += length
                if len(record) == need:
                    break
            self.torn = True
            try:
                data = sock.recv(need - len(record), socket.MSG_DONTWAIT)
            except (BlockingIOError, ConnectionError):
                self.torn = False
                raise
            if not data:
                with self._lock:
                    self._in.write_eof()
                self.torn = False
                return
            record += data
            self.torn = False
        self.torn = True
        with self._lock:
            self._in.write(record)
        record.clear()
        self.torn = False

    def decrypt(self) -> bool:
        """Decrypt what was fed; true if there are plain bytes now, or never will be."""
        with self._lock:
            while not self.ended:
                self.torn = self._busy = True
                try:
                    data = self._tls.read(PIECE)
                except ssl.SSLWantReadError:
                    self.torn = False
                    break
                except (ssl.SSLEOFError, ssl.SSLZeroReturnError):  # a killed process says no farewell
                    data = b""
                finally:
                    self._busy = False
                if not data:
                    self.ended = True
                self.plain += data
                self.torn = False
        return self.ended or bool(self.plain)

    def take(self, size: int, *, after: int = 0) -> bytearray:
        """Return up to so many plain bytes; those before them, ``after``, are dropped."""
        self.torn = True
        data = self.plain[after : after + size]
        del self.plain[: after + size]
        self.torn = False
        return data

    def encrypt(self, data: Any) -> None:
        """Encrypt; `outgoing` has the result."""
        with self._lock, memoryview(data) as view:
            self._busy = True
            try:
                done = 0
                while done < len(view):
                    done += self._tls.write(view[done:])
            finally:
                self._busy = False

    def interrupted(self) -> bool:
        """Whether the caller is a signal handler, and this thread in the middle of something here."""
        with self._lock:
            return self._busy

    def outgoing(self) -> bytes:
        """Return what is to be sent; whoever takes it must send it before anybody takes more."""
        with self._lock:
            return self._out.read()

    def farewell(self) -> None:
        """Say that nothing more comes from here."""
        with self._lock, suppress(ssl.SSLError):
            if not self._busy:
                self._tls.unwrap()


def _advice(error: ssl.SSLCertVerificationError) -> str:
    text = error.verify_message.lower()
    if "hostname mismatch" in text or "ip address mismatch" in text:
        return "the certificate is for another host: connect by a name that is in it, or make one for this host (`shoal certs DIR HOST`)"
    if "expired" in text or "not yet valid" in text:
        return "make new certificates (`shoal certs DIR HOST`), or set this machine's clock"
    return "the other side's certificate was not signed by the authority in TLS(ca=…): both sides need certificates of the same one"


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
        if self._engine.torn:
            self.close()
        return self._engine.torn

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
