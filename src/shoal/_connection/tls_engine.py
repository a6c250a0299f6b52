"""OpenSSL at work in memory, between a socket and who receives and sends messages over TLS.

It never touches the socket itself, and its lock is not held while anything waits: one thread may send while another receives, and a third one polls.

A signal handler that raises may lose bytes while they are on their way from one place to another: `Engine.torn` says so. Only within the lock is it set for anything
else, so whoever sees it while he has the lock is that handler, or comes after it.
"""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["PIECE", "Engine"]

HEADER = 5  # bytes: kind, version, length
LONGEST_RECORD = (1 << 14) + 2048  # bytes after the header
KINDS = range(20, 25)  # first byte of a record
PIECE = 256 * 1024  # bytes that are encrypted before they are sent


class Engine:
    """TLS in memory: bytes from the network in, plain bytes out, and the other way round."""

    def __init__(self, context: ssl.SSLContext, host: str | None) -> None:
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=host is None, server_hostname=host)
        self.lock = threading.RLock()  # a signal handler may close, or send, while this thread receives
        self._busy = False  # in a call of OpenSSL, which runs signal handlers: none of them may call it
        self._record = bytearray()  # as much of the next one as has arrived
        self.plain = bytearray()  # decrypted, and not asked for yet
        self.ended = False
        self.torn = False  # whoever has raised while bytes were on their way from one place to another (a signal handler) may have lost some

    def handshake(self) -> bool:
        """Go on with the handshake; true when it is done."""
        with self.lock:
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
        with self.lock:
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
                    self._in.write_eof()
                    self.torn = False
                    return
                record += data
                self.torn = False
            self.torn = True
            self._in.write(record)
            record.clear()
            self.torn = False

    def decrypt(self) -> bool:
        """Decrypt what was fed; true if there are plain bytes now, or never will be."""
        with self.lock:
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
        with self.lock:
            self.torn = True
            data = self.plain[after : after + size]
            del self.plain[: after + size]
            self.torn = False
        return data

    def encrypt(self, data: Any) -> None:
        """Encrypt; `outgoing` has the result."""
        with self.lock, memoryview(data) as view:
            self._busy = True
            try:
                done = 0
                while done < len(view):
                    done += self._tls.write(view[done:])
            finally:
                self._busy = False

    def interrupted(self) -> bool:
        """Whether the caller is a signal handler, and this thread in the middle of something here."""
        with self.lock:
            return self._busy

    def outgoing(self) -> bytes:
        """Return what is to be sent; whoever takes it must send it before anybody takes more."""
        with self.lock:
            return self._out.read()

    def farewell(self) -> None:
        """Say that nothing more comes from here."""
        with self.lock, suppress(ssl.SSLError):
            if not self._busy:
                self._tls.unwrap()


def _advice(error: ssl.SSLCertVerificationError) -> str:
    text = error.verify_message.lower()
    if "hostname mismatch" in text or "ip address mismatch" in text:
        return "the certificate is for another host: connect by a name that is in it, or make one for this host (`shoal certs DIR HOST`)"
    if "expired" in text or "not yet valid" in text:
        return "make new certificates (`shoal certs DIR HOST`), or set this machine's clock"
    return "the other side's certificate was not signed by the authority in TLS(ca=…): both sides need certificates of the same one"
