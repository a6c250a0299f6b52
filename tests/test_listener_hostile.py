"""What reaches a listener, or a client, from somebody who is not what he should be: it costs him his connection, and nobody else anything."""

from __future__ import annotations

import errno
import pickle
import socket
import struct
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

import shoal
from shoal._connection import admission
from shoal._connection import listener as listening
from shoal.connection import AuthenticationError, Client, Connection, Listener
from shoal.errors import AuthenticationInterruptedError, UnencryptedListenerWarning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY = b"the key"
LONG = 20.0
GIBIBYTES_4 = b"\xff\xff\xff\xff" + struct.pack("!Q", 1 << 32)


class Mine:
    """Its pickle, loaded, leaves a trace."""

    loaded: ClassVar[list[int]] = []

    def __reduce__(self) -> tuple[Any, ...]:
        return Mine.loaded.append, (1,)


def framed(data: bytes) -> bytes:
    return struct.pack("!i", len(data)) + data


NONSENSE = {
    "an http request": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "zeros": bytes(64),
    "an empty message": framed(b""),
    "four gibibytes to come": GIBIBYTES_4 + b"x" * 100,
    "a negative length": struct.pack("!i", -2) + b"x" * 100,
    "one byte too many": framed(bytes(257)),
    "a pickle": framed(pickle.dumps(Mine())),
    "an unknown digest": framed(b"{rot13}" + bytes(32)),
    "an endless name": framed(b"{" + b"s" * 200),
    "an answer too short": framed(b"{sha256}" + bytes(31)),
    "an answer too long": framed(b"{sha256}" + bytes(33)),
    "the challenge of another": framed(b"#CHALLENGE#{sha256}" + bytes(40)),
    "a welcome": framed(b"#WELCOME#") * 2,
    "sixteen bytes": framed(bytes(16)),
}


@pytest.fixture(params=["AF_UNIX", "AF_INET"])
def listener(request: pytest.FixtureRequest, descriptors_steady: Callable[[], None]) -> Iterator[Listener]:
    with Listener(family=request.param, authkey=KEY, backlog=200) as listener:
        descriptors_steady()
        listener._listener._socket.settimeout(LONG)
        yield listener
    assert Mine.loaded == []


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(100) as threads:
        yield threads


@pytest.fixture
def short_patience(monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setattr(admission, "PATIENCE", 0.2)
    monkeypatch.setattr(listening, "PATIENCE", 0.2)
    for module in (admission, listening):
        monkeypatch.setattr(module, "UNDISTURBED", 0.02)
    return 0.2


def raw(listener: Listener) -> socket.socket:
    """A connection whose other side does what the test says."""
    sock = socket.socket(listener._listener._socket.family)
    sock.settimeout(LONG)
    sock.connect(listener.address)
    return sock


def read(sock: socket.socket) -> bytes:
    """One message."""
    (size,) = struct.unpack("!i", sock.recv(4, socket.MSG_WAITALL))
    return sock.recv(size, socket.MSG_WAITALL)


def hung_up(sock: socket.socket) -> bool:
    """Whether the other side has gone, after whatever it had to say."""
    try:
        while sock.recv(4096):
            pass
    except ConnectionResetError:
        pass
    return True


def lets_in(listener: Listener, threads: ThreadPoolExecutor) -> None:
    """An honest client is let in; whoever else comes to light before is told by an exception."""
    calling = threads.submit(Client, listener.address, authkey=KEY)
    while True:
        try:
            accepted = listener.accept()
        except AuthenticationError:
            continue
        break
    with accepted, calling.result(LONG) as theirs:
        theirs.send("honest")
        assert accepted.recv() == "honest"


# --- against a listener --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nonsense", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_costs_its_sender_the_connection(listener: Listener, threads: ThreadPoolExecutor, nonsense: bytes):
    with raw(listener) as sock:
        sock.sendall(nonsense)
        with pytest.raises(AuthenticationError):
            listener.accept()
        assert hung_up(sock)
    lets_in(listener, threads)


@pytest.mark.parametrize("part", [b"", b"\0", b"\0\0\0", framed(b"{sha256}" + bytes(32))[:20]])
def test_half_a_message_and_the_end_is_an_interrupted_authentication(listener: Listener, part: bytes):
    with raw(listener) as sock:
        sock.sendall(part)
        sock.shutdown(socket.SHUT_WR)
        with pytest.raises(AuthenticationInterruptedError, match="hung up") as caught:
            listener.accept()
    assert isinstance(caught.value, EOFError), "which is what programs written for the standard library expect"


def test_who_says_nothing_is_hung_up_on_in_time(listener: Listener, short_patience: float):
    with raw(listener) as silent, raw(listener) as dripping:
        stop = threading.Event()

        def drip() -> None:
            """A byte every now and then: each is in time, all together are not."""
            for byte in framed(b"{sha256}" + bytes(32)):
                if stop.wait(short_patience / 10):
                    return
                try:
                    dripping.sendall(bytes([byte]))
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        begin = time.monotonic()
        for _ in range(2):
            with pytest.raises(AuthenticationError, match="within"):
                listener.accept()
        assert time.monotonic() - begin >= short_patience
        stop.set()
        thread.join()
        assert read(silent).startswith(b"#CHALLENGE#{sha256}")
        assert silent.recv(1) == b""


def test_who_says_nothing_keeps_nobody_waiting(listener: Listener, threads: ThreadPoolExecutor):
    """There is no failure to wait for: honest clients overtake."""
    silent = [raw(listener) for _ in range(20)]
    calling = [threads.submit(Client, listener.address, authkey=KEY) for _ in range(5)]
    accepted = [listener.accept() for _ in calling]
    for end in [*accepted, *(call.result(LONG) for call in calling)]:
        end.close()
    for sock in silent:
        sock.close()


def test_a_flood_is_bounded_and_honest_clients_get_through(
    threads: ThreadPoolExecutor, descriptors_steady: Callable[[], None], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(listening, "EVICTABLE", 0.1)
    with Listener(family="AF_INET", authkey=KEY, backlog=200) as listener:
        descriptors_steady()
        flood = [raw(listener) for _ in range(3 * listening.MOST_UNDER_WAY)]
        most = 0
        calling = threads.submit(Client, listener.address, authkey=KEY)
        failures = 0
        while True:
            try:
                accepted = listener.accept()
            except AuthenticationError:
                failures += 1
                most = max(most, len(listener._under_way))
                continue
            break
        most = max(most, len(listener._under_way))
        assert most <= listening.MOST_UNDER_WAY
        assert failures <= len(flood)
        accepted.close()
        calling.result(LONG).close()
        for sock in flood:
            sock.close()


def test_memory_stays_flat_under_nonsense(listener: Listener):
    def disturb(rounds: int) -> None:
        for number in range(rounds):
            with raw(listener) as sock:
                sock.sendall(list(NONSENSE.values())[number % len(NONSENSE)])
                with pytest.raises(AuthenticationError):
                    listener.accept()

    disturb(30)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        disturb(100)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 100_000
    assert peak - before < 1_000_000, "four gibibytes were announced, and nothing was made ready for them"


def test_time_in_which_nobody_was_in_accept_does_not_count(
    listener: Listener, threads: ThreadPoolExecutor, short_patience: float
):
    with raw(listener) as slow:
        lets_in(listener, threads)  # the slow one has been challenged meanwhile
        challenge = read(slow)
        time.sleep(2 * short_patience)  # the server is busy
        import hmac  # noqa: PLC0415 - for this test only

        slow.sendall(framed(b"{sha256}" + hmac.digest(KEY, challenge[len(b"#CHALLENGE#") :], "sha256")))

        def go_on() -> None:
            assert read(slow) == b"#WELCOME#"
            slow.sendall(framed(b"#CHALLENGE#{sha256}" + bytes(40)))
            assert read(slow).startswith(b"{sha256}")
            slow.sendall(framed(b"#WELCOME#") + framed(pickle.dumps("after all")))

        going = threads.submit(go_on)
        with listener.accept() as accepted:
            assert accepted.recv() == "after all"
        going.result(LONG)


def test_closing_a_listener_wakes_who_is_in_accept(listener: Listener, threads: ThreadPoolExecutor):
    waiting = [threads.submit(listener.accept) for _ in range(3)]
    with raw(listener) as sock:
        read(sock)  # one of them is at work
        listener.close()
        for each in waiting:
            with pytest.raises(OSError, match="listener is closed"):
                each.result(LONG)
        assert sock.recv(1) == b"", "who was on his way is hung up on"


@pytest.mark.parametrize("family", ["AF_UNIX", "AF_INET"])
def test_a_forked_child_leaves_the_parents_conversations_alone(threads: ThreadPoolExecutor, family: str):
    with Listener(family=family, authkey=KEY) as listener, raw(listener) as sock:
        lets_in(listener, threads)
        process = shoal.get_context("fork").Process(target=listener.close)
        threads.shutdown()
        process.start()
        process.join()
        assert process.exitcode == 0
        assert read(sock).startswith(b"#CHALLENGE#")
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(1)  # not hung up on
        if family == "AF_UNIX":
            assert Path(listener.address).exists(), "the path is the parent's to remove"


# --- against a client ----------------------------------------------------------------------------------------------------


@pytest.fixture
def fake(threads: ThreadPoolExecutor) -> Callable[..., Any]:
    """A server that says what the test wants to whoever connects; returns the client's outcome."""

    def serve(*says: bytes, hang_up: bool = True, **options: Any) -> BaseException | None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            calling = threads.submit(Client, server.getsockname(), authkey=KEY, **options)
            peer, _ = server.accept()
            with peer:
                with suppress(OSError):  # the client has heard enough, and has gone
                    for data in says:
                        peer.sendall(data)
                    if hang_up:
                        peer.shutdown(socket.SHUT_WR)
                return calling.exception(LONG)

    return serve


@pytest.mark.parametrize("nonsense", NONSENSE.values(), ids=NONSENSE)
def test_a_client_that_hears_nonsense_goes(fake: Callable[..., Any], nonsense: bytes):
    assert isinstance(fake(nonsense), AuthenticationError)
    assert Mine.loaded == []


def test_a_client_is_told_when_the_server_hangs_up(fake: Callable[..., Any]):
    assert isinstance(fake(), AuthenticationInterruptedError)
    assert isinstance(fake(framed(b"#CHALLENGE#{sha256}" + bytes(40))), AuthenticationInterruptedError)


def test_a_server_that_falls_silent_in_the_middle_is_given_up(fake: Callable[..., Any], short_patience: float):
    error = fake(framed(b"#CHALLENGE#{sha256}" + bytes(40)), hang_up=False)
    assert isinstance(error, AuthenticationError)
    assert "fell silent" in str(error)
    assert short_patience


def test_a_server_that_is_busy_is_waited_for_unless_there_is_a_timeout(fake: Callable[..., Any], short_patience: float):
    assert isinstance(fake(hang_up=False, timeout=3 * short_patience), TimeoutError)


def test_a_server_that_answers_with_the_wrong_key_gets_no_message(fake: Callable[..., Any]):
    """The server lets the client in without knowing the key, and then cannot prove itself."""
    error = fake(framed(b"#CHALLENGE#{sha256}" + bytes(40)), framed(b"#WELCOME#"), framed(b"{sha256}" + bytes(32)))
    assert isinstance(error, AuthenticationError)
    assert "digest received was wrong" in str(error)


# --- after it ------------------------------------------------------------------------------------------------------------


def test_a_length_that_lies_is_given_no_memory():
    ours, theirs = socket.socketpair()
    with Connection(ours.detach()) as connection, theirs:
        theirs.sendall(GIBIBYTES_4 + b"x" * 1000)
        theirs.shutdown(socket.SHUT_WR)
        tracemalloc.start()
        try:
            with pytest.raises(OSError, match="got end of file during message"):
                connection.recv()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 2_000_000


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", EOFError),
        (b"\0\0", OSError),
        (framed(b"abc")[:-1], OSError),
        (struct.pack("!i", -5), OSError),
        (b"\xff\xff\xff\xff" + bytes(3), OSError),
    ],
)
def test_a_stream_that_ends_badly_is_an_error_in_the_standard_words(data: bytes, kind: type[BaseException]):
    ours, theirs = socket.socketpair()
    with Connection(ours.detach()) as connection, theirs:
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(kind):
            connection.recv_bytes()


def test_messages_around_and_above_two_gibibytes_bear_the_standard_librarys_header():
    from shoal._connection.stream import frame  # noqa: PLC0415 - for this test only

    assert frame(5) == b"\0\0\0\5"
    assert frame((1 << 31) - 1) == b"\x7f\xff\xff\xff"
    assert frame(1 << 31) == b"\xff\xff\xff\xff" + struct.pack("!Q", 1 << 31)
    ours, theirs = socket.socketpair()
    with Connection(ours.detach()) as connection, theirs:
        theirs.sendall(b"\xff\xff\xff\xff" + struct.pack("!Q", 3) + b"abc")
        assert connection.recv_bytes() == b"abc"


# --- addresses on the network ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", ""])  # noqa: S104 - that is what the warning is about
def test_listening_on_the_network_without_tls_warns_and_names_the_fix(host: str):
    with pytest.warns(UnencryptedListenerWarning, match=r"tls=shoal\.TLS.*shoal certs DIR.*127\.0\.0\.1") as caught:
        Listener((host, 0), authkey=KEY).close()
    assert caught[0].filename == __file__


def test_listening_on_ipv6_loopback_works_and_does_not_warn(threads: ThreadPoolExecutor):
    try:
        listener = Listener(("::1", 0), authkey=KEY)
    except OSError as error:
        if error.errno not in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
            raise
        pytest.skip("no IPv6 here")
    with listener:
        calling = threads.submit(Client, listener.address, authkey=KEY)
        listener.accept().close()
        calling.result(LONG).close()
