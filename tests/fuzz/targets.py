"""What is fuzzed. Each target plays some bytes to a part of shoal, as if they came from a socket, and raises when a promise is broken."""

from __future__ import annotations

import functools
import hmac
import os
import socket
import struct
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import manager_requests

from shoal._connection.admission import Admission, Plain
from shoal._connection.authentication import LONGEST_MESSAGE, accept_conversation, client_conversation
from shoal.connection import AuthenticationError, Connection

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

    from shoal._connection.authentication import Conversation

KEY = b"the key"
DIGESTS = ("md5", "sha256", "sha384", "sha3_256", "sha3_384", "sha512", "")


def framed(data: bytes) -> bytes:
    return struct.pack("!i", len(data)) + data


class Peer:
    """The other side of a conversation. Its bytes are a script, so that an input can get further than blind chance would:

    0 n …    n bytes as they are       2 d      the right answer to the last challenge, by digest d
    1 n …    a message of n bytes      3 d      a challenge for digest d
    4        WELCOME                   5        an answer with a wrong key, otherwise right
    """

    def __init__(self, script: bytes) -> None:
        self.script = script
        self.at = 0
        self.heard = b""  # from the side under test
        self.proved = False

    def next(self, count: int = 1) -> bytes:
        data = self.script[self.at : self.at + count]
        self.at += count
        return data

    def number(self) -> int:
        return (self.next() or b"\0")[0]

    def last_challenge(self) -> bytes:
        at = self.heard.rfind(b"#CHALLENGE#")
        return self.heard[at + len(b"#CHALLENGE#") :] if at >= 0 else b""

    def says(self) -> Iterator[bytes]:
        while self.at < len(self.script):
            what = self.number() % 6
            if what == 0:
                yield self.next(self.number())
            elif what == 1:
                yield framed(self.next(self.number()))
            elif what == 2:
                answer = self.answer(KEY)
                self.proved = True
                yield answer
            elif what == 3:
                digest = DIGESTS[self.number() % len(DIGESTS)].encode()
                yield framed(b"#CHALLENGE#" + (b"{%s}" % digest if digest else b"") + bytes(20 if not digest else 40))
            elif what == 4:
                yield framed(b"#WELCOME#")
            else:
                yield self.answer(b"a wrong key")

    def answer(self, key: bytes) -> bytes:
        digest = DIGESTS[self.number() % len(DIGESTS)]
        mac = hmac.digest(key, self.last_challenge(), digest or "md5")
        return framed(mac if not digest else b"{%s}%s" % (digest.encode(), mac))


class Played(Plain):
    """A channel on which the peer's script is played, in pieces of some bytes, with nothing there in between."""

    def __init__(self, peer: Peer, piece: int) -> None:
        super().__init__(socket.socket())
        self.peer, self.piece = peer, piece
        self.coming = peer.says()
        self.buffer = b""
        self.pause = False

    def read(self, size: int) -> bytes | None:
        if not 0 < size <= LONGEST_MESSAGE + 4:
            raise AssertionError(f"{size} bytes were asked for before authentication")
        self.pause = not self.pause and self.piece % 2 == 1
        if self.pause:
            return None
        while not self.buffer:
            try:
                self.buffer = next(self.coming)
            except StopIteration:
                return b""
        self.heard = True
        size = min(size, self.piece)
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def write(self, data: bytes) -> None:
        self.peer.heard += data

    def flush(self) -> bool:
        return True


def converse(data: bytes, begin: Callable[..., Conversation]) -> None:
    head = (data[:2] + b"\0\0")[:2]
    peer = Peer(data[2:])
    channel = Played(peer, 1 + head[1])
    admission = Admission(channel, begin(KEY, allow_legacy=bool(head[0] & 1)))
    connection = None
    try:
        while connection is None:
            connection = admission.step()
    except (AuthenticationError, EOFError, OSError):
        if channel.fileno() >= 0:
            raise AssertionError("a refused connection was left open") from None
        return
    connection.close()
    if not peer.proved:
        raise AssertionError("a peer was let in that had not proved that it has the key")


def listener(data: bytes) -> None:
    """A client's side of the conversation."""
    converse(data, accept_conversation)


def client(data: bytes) -> None:
    """A listener's side of it."""
    converse(data, client_conversation)


def framing(data: bytes) -> None:
    """What comes over a connection that is authenticated: messages, read in one of several ways."""
    ours, theirs = socket.socketpair()
    with Connection(ours.detach()) as connection, theirs:
        theirs.sendall(data[1:60_000])
        theirs.shutdown(socket.SHUT_WR)
        way = data[0] % 3 if data else 0
        try:
            while connection.poll(None):
                if way == 0:
                    connection.recv_bytes()
                elif way == 1:
                    connection.recv_bytes(1000)
                else:
                    connection.recv_bytes_into(bytearray(70_000))
        except (EOFError, OSError):
            pass


@functools.cache
def context() -> ssl.SSLContext:
    from shoal._connection.tls import TLS  # noqa: PLC0415 - not before it is instrumented
    from shoal.cli.certs import certs  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as directory, open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: PTH123
        import contextlib  # noqa: PLC0415

        place = Path(directory)
        with contextlib.redirect_stdout(nowhere):
            certs(place, ["fuzz"], days=1, replace=False)
        return TLS(place / "fuzz.crt", place / "fuzz.key", place / "ca.crt")._context(server=True)


def tls(data: bytes) -> None:
    """What comes at a listener with TLS: records, or not."""
    from shoal._connection.tls import Encrypted  # noqa: PLC0415

    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(data[:60_000])
        theirs.shutdown(socket.SHUT_WR)
        admission = Admission(Encrypted(ours, context()), accept_conversation(None, allow_legacy=False))
        try:
            connection = admission.step()
        except (AuthenticationError, EOFError, OSError):
            return
        admission.close()
        if connection is not None:
            raise AssertionError("a peer was let in that has no certificate")


TARGETS: dict[str, Callable[[bytes], None]] = {
    "listener": listener,
    "client": client,
    "framing": framing,
    "tls": tls,
    "manager": manager_requests.requests,
}

ALL_OF_A_CLIENT = bytes([2, 1, 3, 1, 4])  # answers by sha256, challenges, welcomes
ALL_OF_A_SERVER = bytes([3, 1, 4, 2, 1])
CLIENT_HELLO = bytes.fromhex("160301002f0100002b0303" + "11" * 32 + "000004c02bc02f0100")
SEEDS: dict[str, list[bytes]] = {
    "listener": [
        bytes([legacy, piece, *script])
        for legacy in (0, 1)
        for piece in (0, 3, 255)
        for script in (ALL_OF_A_CLIENT, [2, 0, 3, 6, 4], [5, 1], [1, 16, *bytes(16)], [0, 4, 255, 255, 255, 255], [])
    ],
    "client": [
        bytes([legacy, piece, *script])
        for legacy in (0, 1)
        for piece in (0, 3, 255)
        for script in (ALL_OF_A_SERVER, [3, 6, 4, 2, 0], [3, 1, 1, 9, *b"#FAILURE#"], [4], [3, 5], [])
    ],
    "framing": [
        bytes([way]) + data
        for way in (0, 1, 2)
        for data in (
            framed(b"abc") * 3,
            framed(bytes(2000)),
            b"\xff\xff\xff\xff" + struct.pack("!Q", 1 << 40),
            b"\xff",
            b"",
        )
    ],
    "tls": [CLIENT_HELLO, b"GET / HTTP/1.1\r\n\r\n", b"\x15\x03\x03\x00\x02\x02\x28", b"\x16\x03\x01\xff\xff", b""],
    "manager": manager_requests.SEEDS,
}
