"""TLS: both sides prove who they are, nobody reads along, and what is wrong with a certificate is said on both sides."""

from __future__ import annotations

import contextlib
import datetime
import os
import pickle
import select
import socket
import ssl
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

sys.path.insert(0, str(Path(__file__).parent))

from alarms import AlarmError, alarms, handled

import shoal
from shoal._connection import admission
from shoal.cli import certs
from shoal.connection import AuthenticationError, Client, Listener, wait
from shoal.errors import NotSupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY = b"the key"
LONG = 20.0


def made(directory: Path, machine: str, name: str = "", **options: Any) -> shoal.TLS:
    assert certs.certs(directory, [machine], days=options.pop("days", 10), replace=False) == 0
    name = name or machine.partition(",")[0]
    return shoal.TLS(directory / f"{name}.crt", directory / f"{name}.key", directory / "ca.crt", **options)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("authority")


@pytest.fixture(scope="module")
def server(authority: Path) -> shoal.TLS:
    return made(authority, "server,127.0.0.1,::1,localhost")


@pytest.fixture(scope="module")
def client(authority: Path) -> shoal.TLS:
    return made(authority, "client")


@pytest.fixture
def call() -> Iterator[Callable[..., Any]]:
    """Connect in a thread; its outcome is the returned future's."""
    with ThreadPoolExecutor(1) as threads:
        yield lambda *args, **kwargs: threads.submit(Client, *args, **kwargs)


@pytest.fixture
def ends(server: shoal.TLS, client: shoal.TLS, call: Callable[..., Any]) -> Iterator[tuple[Any, Any]]:
    """Two ends of an encrypted connection."""
    ours, theirs = connected(server, client, call)
    yield ours, theirs
    ours.close()
    theirs.close()


def connected(server: shoal.TLS, client: shoal.TLS, call: Callable[..., Any]) -> tuple[Any, Any]:
    with Listener(("127.0.0.1", 0), authkey=KEY, tls=server) as listener:
        calling = call(listener.address, authkey=KEY, tls=client)
        return listener.accept(), calling.result(LONG)


# --- what goes over it ---------------------------------------------------------------------------------------------------


def test_objects_of_all_sizes_go_there_and_back(ends: tuple[Any, Any]):
    ours, theirs = ends

    def echo() -> None:
        while (obj := theirs.recv()) is not None:
            theirs.send(obj)

    thread = threading.Thread(target=echo)
    thread.start()
    for obj in (1, "text", b"", bytes(16384 - 4), bytes(16384 - 3), bytes(16385), os.urandom(5_000_000)):
        ours.send(obj)
        assert ours.recv() == obj
    ours.send(None)
    thread.join()


@pytest.mark.parametrize("columns", [10, 100_000])
def test_a_buffer_of_two_dimensions_is_sent_whole(ends: tuple[Any, Any], columns: int):
    ours, theirs = ends
    data = os.urandom(10 * columns)
    with ThreadPoolExecutor(1) as threads:
        sending = threads.submit(ours.send_bytes, memoryview(data).cast("B", (10, columns)))
        assert theirs.recv_bytes() == data
        sending.result(LONG)
    ours.send_bytes(b"next")
    assert theirs.recv_bytes() == b"next"


def test_what_is_no_row_of_bytes_is_refused_and_harms_nothing(ends: tuple[Any, Any]):
    ours, theirs = ends
    with pytest.raises((BufferError, TypeError)):
        ours.send_bytes(memoryview(bytes(100_000))[::2])
    ours.send_bytes(b"next")
    assert theirs.recv_bytes() == b"next"


def test_one_thread_sends_while_another_receives(ends: tuple[Any, Any]):
    ours, theirs = ends
    rounds, size = 40, 100_000

    def send(end: Any) -> None:
        for number in range(rounds):
            end.send_bytes(number.to_bytes(2, "big") * (size // 2))

    threads = [threading.Thread(target=send, args=(end,)) for end in ends]
    for thread in threads:
        thread.start()

    def receive(end: Any) -> list[bytes]:
        return [end.recv_bytes()[:2] for _ in range(rounds)]

    with ThreadPoolExecutor(1) as other:
        far = other.submit(receive, theirs)
        assert receive(ours) == far.result(LONG) == [number.to_bytes(2, "big") for number in range(rounds)]
    for thread in threads:
        thread.join()


def test_one_thread_polls_while_another_receives(ends: tuple[Any, Any]):
    ours, theirs = ends
    done = threading.Event()

    def poll() -> int:
        times = 0
        while not done.is_set():
            times += ours.poll(0)
        return times

    def send() -> None:
        for i in range(500):
            theirs.send_bytes(bytes([i % 256]) * 50_000)

    with ThreadPoolExecutor(2) as threads:
        polling, sending = threads.submit(poll), threads.submit(send)
        try:
            for i in range(500):
                assert ours.recv_bytes() == bytes([i % 256]) * 50_000
        finally:
            done.set()
        sending.result(LONG)
        assert polling.result(LONG)


def test_who_is_interrupted_while_no_message_has_come_receives_the_next(ends: tuple[Any, Any]):
    ours, theirs = ends
    with alarms(0.05), pytest.raises(AlarmError):
        ours.recv()
    theirs.send("next")
    assert ours.recv() == "next"


def test_who_is_interrupted_before_the_rest_of_a_message_has_come_receives_it_by_the_next_call(ends: tuple[Any, Any]):
    ours, theirs = ends

    def send(part: bytes) -> None:
        theirs._engine.encrypt(part)
        theirs._socket.sendall(theirs._engine.outgoing())

    for part in (b"\0\0", b"\0\5te"):
        send(part)
        with alarms(0.1), pytest.raises(AlarmError):
            ours.recv_bytes()
    send(b"xt!")
    assert ours.recv_bytes() == b"text!"


@pytest.mark.parametrize("size", [500, 200_000])
def test_no_message_is_misread_under_a_storm_of_alarms(
    size: int, server: shoal.TLS, client: shoal.TLS, call: Callable[..., Any]
):
    """A connection that has lost bytes to one is closed, so that both sides know; what had arrived before is right."""
    for _ in range(10):
        ours, theirs = connected(server, client, call)
        last = 0

        def send(end: Any) -> None:
            with contextlib.suppress(OSError):  # ours was closed
                for number in range(1, 2_000):
                    end.send_bytes(number.to_bytes(4, "big") * (size // 4))
            end.close()

        sender = threading.Thread(target=send, args=(theirs,))
        sender.start()
        with alarms(0.0005), contextlib.suppress(EOFError, OSError):
            while True:
                try:
                    data = ours.recv_bytes()
                except AlarmError:
                    continue
                number = int.from_bytes(data[:4], "big")
                assert last < number
                assert data == data[:4] * (size // 4)
                last = number
        sender.join()  # is told
        ours.close()


def test_a_message_whose_sending_was_interrupted_is_not_completed_by_the_next(ends: tuple[Any, Any]):
    ours, theirs = ends
    with alarms(0.2), pytest.raises(AlarmError):
        ours.send_bytes(bytes(50_000_000))  # more than the kernel takes: nobody reads
    with pytest.raises(OSError):
        ours.send_bytes(b"next")
    with pytest.raises(OSError, match="end of file during message"):
        theirs.recv_bytes()


@pytest.mark.parametrize("call_of", ["recv_bytes", "send_bytes"])
@pytest.mark.parametrize("habit", ["close", "send"])
def test_a_signal_handler_may_use_the_connection_that_it_interrupts(
    habit: str, call_of: str, server: shoal.TLS, client: shoal.TLS, call: Callable[..., Any]
):
    """It gets an error where that cannot be; nothing waits for itself."""
    for attempt in range(10):
        ours, theirs = connected(server, client, call)

        def answer(end: Any) -> None:
            with contextlib.suppress(EOFError, OSError):
                while True:
                    if call_of == "recv_bytes":
                        end.send_bytes(b"x" * 20_000)
                    else:
                        assert len(end.recv_bytes()) in {5, 300_000}
            end.close()

        def handle(_number: int, _frame: object, end: Any = ours) -> None:
            end.close() if habit == "close" else end.send_bytes(b"hello")

        other = threading.Thread(target=answer, args=(theirs,))
        other.start()
        with handled(handle, 0.005 + attempt * 0.0001), contextlib.suppress(OSError):
            for _ in range(50):
                ours.recv_bytes() if call_of == "recv_bytes" else ours.send_bytes(b"y" * 300_000)
        ours.close()
        other.join()


def test_waiting_sees_messages_and_only_messages(ends: tuple[Any, Any]):
    ours, theirs = ends
    reader, writer = shoal.Pipe(duplex=False)
    assert wait([ours, reader], 0.05) == []
    assert not ours.poll()
    for number in range(3):
        theirs.send(number)
    poller = select.poll()
    poller.register(ours, select.POLLIN)
    for number in range(3):
        assert poller.poll(LONG * 1000), "a select on the descriptor misses nothing"
        assert wait([reader, ours], LONG) == [ours]
        assert wait([ours], LONG) == [ours]
        assert ours.poll()
        assert ours.recv() == number
    assert not ours.poll(0.05)
    theirs.close()
    assert wait([reader, ours], LONG) == [ours]
    assert ours.poll(None)
    with pytest.raises(EOFError):
        ours.recv()
    reader.close()
    writer.close()


def test_a_peer_that_dies_without_a_farewell_is_the_end_of_file(ends: tuple[Any, Any]):
    ours, theirs = ends
    theirs._socket.close()
    with pytest.raises(EOFError):
        ours.recv()


def test_what_is_on_the_wire_is_not_what_was_sent(server: shoal.TLS, client: shoal.TLS, call: Callable[..., Any]):
    secret = b"a secret that nobody reads along"
    seen = bytearray()
    with (
        Listener(("127.0.0.1", 0), authkey=KEY, tls=server) as listener,
        socket.create_server(("127.0.0.1", 0)) as relay,
    ):

        def carry(source: socket.socket, target: socket.socket) -> None:
            with contextlib.suppress(OSError):  # one side has hung up
                while data := source.recv(65536):
                    seen.extend(data)
                    target.sendall(data)
                target.shutdown(socket.SHUT_WR)

        calling = call(relay.getsockname(), authkey=KEY, tls=client)
        near, _ = relay.accept()
        far = socket.create_connection(listener.address)
        carriers = [threading.Thread(target=carry, args=pair) for pair in ((near, far), (far, near))]
        for carrier in carriers:
            carrier.start()
        ours = listener.accept()
        theirs = calling.result(LONG)
        theirs.send_bytes(secret)
        assert ours.recv_bytes() == secret
        ours.close()
        theirs.close()
        for carrier in carriers:
            carrier.join()
        near.close()
        far.close()
    assert len(seen) > 1000
    assert secret not in seen
    assert b"#CHALLENGE#" not in seen


def test_certificates_do_without_a_key(server: shoal.TLS, client: shoal.TLS, call: Callable[..., Any]):
    with Listener(("127.0.0.1", 0), tls=server) as listener:
        calling = call(listener.address, tls=client)
        with listener.accept() as ours, calling.result(LONG) as theirs:
            theirs.send(1)
            assert ours.recv() == 1


def test_ipv6_and_names_are_checked_as_they_are_written(server: shoal.TLS, client: shoal.TLS, call: Callable[..., Any]):
    try:
        listener = Listener(("::1", 0), authkey=KEY, tls=server)
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    with listener:
        calling = call(listener.address, authkey=KEY, tls=client)
        listener.accept().close()
        calling.result(LONG).close()
    with Listener(("127.0.0.1", 0), authkey=KEY, tls=server) as listener:
        calling = call(("localhost", listener.address[1]), authkey=KEY, tls=client)
        listener.accept().close()
        calling.result(LONG).close()


# --- who is not let in ---------------------------------------------------------------------------------------------------


def outcomes(listener: Listener, calling: Any) -> tuple[BaseException, BaseException]:
    """What was raised on the listener's side, and on the client's."""
    with pytest.raises((OSError, AuthenticationError)) as ours:
        listener.accept()
    theirs = calling.exception(LONG)
    assert theirs is not None
    return ours.value, theirs


def notes(error: BaseException) -> str:
    return " ".join(getattr(error, "__notes__", []))


def test_a_wrong_key_is_an_error_on_both_sides(server: shoal.TLS, client: shoal.TLS, call: Callable[..., Any]):
    with Listener(("127.0.0.1", 0), authkey=KEY, tls=server) as listener:
        ours, theirs = outcomes(listener, call(listener.address, authkey=b"another", tls=client))
    assert isinstance(ours, AuthenticationError)
    assert isinstance(theirs, AuthenticationError)


@pytest.mark.parametrize("key", [None, KEY], ids=["certificates alone", "key"])
def test_certificates_of_another_authority_are_refused_by_both_sides(
    tmp_path: Path, server: shoal.TLS, client: shoal.TLS, call: Callable[..., Any], key: bytes | None
):
    stranger = made(tmp_path, "stranger,127.0.0.1")
    with Listener(("127.0.0.1", 0), authkey=key, tls=server) as listener:
        ours, theirs = outcomes(listener, call(listener.address, authkey=key, tls=stranger))
        assert isinstance(theirs, ssl.SSLCertVerificationError)
        assert "the same one" in notes(theirs)
        assert isinstance(ours, ssl.SSLError)
        halfway = shoal.TLS(stranger.cert, stranger.key, client.ca)  # trusts us, and shows what we do not trust
        ours, theirs = outcomes(listener, call(listener.address, authkey=key, tls=halfway))
        assert isinstance(ours, ssl.SSLCertVerificationError)
        assert isinstance(theirs, (ssl.SSLError, AuthenticationError, ConnectionResetError))


def test_a_certificate_for_another_host_is_refused_unless_the_client_does_not_care(
    authority: Path, client: shoal.TLS, call: Callable[..., Any]
):
    elsewhere = made(authority, "elsewhere")
    with Listener(("127.0.0.1", 0), authkey=KEY, tls=elsewhere) as listener:
        _, theirs = outcomes(listener, call(listener.address, authkey=KEY, tls=client))
        assert isinstance(theirs, ssl.SSLCertVerificationError)
        assert "shoal certs DIR HOST" in notes(theirs)
        careless = shoal.TLS(client.cert, client.key, client.ca, check_hostname=False)
        calling = call(listener.address, authkey=KEY, tls=careless)
        listener.accept().close()
        calling.result(LONG).close()


def test_an_expired_certificate_is_refused(
    authority: Path, client: shoal.TLS, call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(certs, "EARLIER", datetime.timedelta(days=30))
    begin = certs._begin

    def begin_long_ago(name: Any, key: Any, days: int) -> x509.CertificateBuilder:
        return begin(name, key, days - 20)

    monkeypatch.setattr(certs, "_begin", begin_long_ago)
    expired = made(authority, "expired,127.0.0.1", days=10)
    with Listener(("127.0.0.1", 0), authkey=KEY, tls=expired) as listener:
        _, theirs = outcomes(listener, call(listener.address, authkey=KEY, tls=client))
    assert isinstance(theirs, ssl.SSLCertVerificationError)
    assert "expired" in str(theirs)
    assert "make new certificates" in notes(theirs)


def test_a_client_without_tls_and_a_listener_without_tls_are_told_apart(
    server: shoal.TLS, client: shoal.TLS, call: Callable[..., Any]
):
    with (
        Listener(("127.0.0.1", 0), authkey=KEY, tls=server) as listener,
        socket.create_connection(listener.address) as plain,
    ):
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(ssl.SSLError) as caught:
            listener.accept()
        assert "does not speak TLS" in notes(caught.value)
    with Listener(("127.0.0.1", 0), authkey=KEY) as listener:
        ours, theirs = outcomes(listener, call(listener.address, authkey=KEY, tls=client))
        assert isinstance(ours, AuthenticationError)
        assert isinstance(theirs, (ssl.SSLError, AuthenticationError))


def test_a_silent_client_without_tls_and_its_listener_are_both_told_of_tls(
    server: shoal.TLS, call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(admission, "PATIENCE", 0.3)
    with Listener(("127.0.0.1", 0), authkey=KEY, tls=server) as listener:
        ours, theirs = outcomes(listener, call(listener.address, authkey=KEY))
    assert isinstance(ours, AuthenticationError)
    assert "knows nothing of TLS: both sides need tls=" in str(ours)
    assert isinstance(theirs, AuthenticationError)
    assert "the listener speaks TLS" in str(theirs)


# --- what is said at the call --------------------------------------------------------------------------------------------


def test_what_cannot_be_is_said_when_it_is_asked_for(tmp_path: Path, server: shoal.TLS):
    with pytest.raises(ValueError, match="TLS is for addresses"):
        Listener(str(tmp_path / "path"), tls=server)
    with pytest.raises(TypeError, match=r"shoal\.TLS"):
        Listener(("127.0.0.1", 0), tls=True)
    with pytest.raises(FileNotFoundError, match="shoal certs"):
        Listener(("127.0.0.1", 0), tls=shoal.TLS(tmp_path / "no.crt", server.key, server.ca))
    with pytest.raises(ssl.SSLError) as caught:
        Listener(("127.0.0.1", 0), tls=shoal.TLS(server.cert, server.cert, server.ca))
    assert "a certificate and its key?" in notes(caught.value)
    with pytest.raises(ssl.SSLError) as caught:
        Listener(("127.0.0.1", 0), tls=shoal.TLS(server.cert, server.key, server.key))
    assert "is this a certificate?" in notes(caught.value)


def test_an_encrypted_connection_stays_where_its_keys_are(ends: tuple[Any, Any]):
    ours, theirs = ends
    with pytest.raises(NotSupportedError, match="connect there"):
        pickle.dumps(ours)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            ours.send(1)
        except NotSupportedError:
            os.write(writer, b"refused")
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(reader, 10) == b"refused"
    os.close(reader)
    os.close(writer)
    ours.send(2)
    assert theirs.recv() == 2, "the child's attempt has spoilt nothing"


def test_a_program_without_tls_does_not_import_ssl():
    program = "import shoal, shoal.connection, sys; shoal.connection.Listener().close(); print('ssl' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=True)
    assert done.stdout == "False\n"
