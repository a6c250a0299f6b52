"""What strangers and clumsy clients do to a manager's server: their connection is closed, the others do not notice, memory stays flat."""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import socket
import struct
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psutil
import pytest

import shoal
from shoal import managers
from shoal.connection import AuthenticationError, Client
from shoal.errors import UnencryptedListenerWarning

if TYPE_CHECKING:
    from collections.abc import Iterator

LONG = 20.0
PATIENCE = 5.0  # seconds that a stranger has
MEGABYTES = 1 << 20


@pytest.fixture(params=["AF_UNIX", "AF_INET"])
def manager(request: pytest.FixtureRequest) -> Iterator[managers.SyncManager]:
    address = ("127.0.0.1", 0) if request.param == "AF_INET" else None
    with managers.SyncManager(address, b"the key", ctx=shoal.get_context("fork")) as manager:
        yield manager


@contextlib.contextmanager
def stranger(manager: Any) -> Iterator[socket.socket]:
    family = socket.AF_UNIX if isinstance(manager.address, str) else socket.AF_INET
    with socket.socket(family) as sock:
        sock.settimeout(LONG)
        sock.connect(manager.address)
        yield sock


def is_hung_up(sock: socket.socket, seconds: float = LONG) -> bool:
    """Whether the other side closes within the time; what it says before is passed over."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not select.select([sock], [], [], max(0.0, until - time.monotonic()))[0]:
            return False
        try:
            if not sock.recv(65536):
                return True
        except ConnectionResetError:
            return True
    return False


def test_a_wrong_key_is_an_error_at_once(manager: managers.SyncManager):
    words = manager.dict(a=1)
    begin = time.monotonic()
    for attempt in ({}, {"retry": LONG}):
        with pytest.raises(AuthenticationError):
            managers.SyncManager(manager.address, b"wrong").connect(**attempt)
    assert time.monotonic() - begin < PATIENCE
    assert words["a"] == 1


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\n\r\n" * 20,
        struct.pack("!i", -1) + struct.pack("!Q", 1 << 32) + bytes(1000),
        struct.pack("!i", 0x7FFFFFFF) + bytes(1000),
        struct.pack("!i", 20) + b"half",
        pickle.dumps((None, "shutdown", (), {})),
    ],
    ids=["another protocol", "4 GiB", "2 GiB", "half a message", "a pickle"],
)
def test_a_stranger_is_sent_away_and_nobody_notices(manager: managers.SyncManager, said: bytes):
    words = manager.dict(a=1)
    with stranger(manager) as sock:
        with suppress(OSError):  # it may have been sent away already
            sock.sendall(said)
            sock.shutdown(socket.SHUT_WR)
        assert words["a"] == 1
        assert is_hung_up(sock)
    assert words["a"] == 1
    assert manager.list([1])[0] == 1


@pytest.mark.limit(90)
def test_dawdlers_keep_nobody_out_and_are_sent_away(manager: managers.SyncManager):
    words = manager.dict(a=1)
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(stranger(manager)) for _ in range(40)]
        for sock in slow:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                sock.sendall(b"\0")
        assert words["a"] == 1
        late = managers.SyncManager(manager.address, b"the key")
        late.connect()
        assert late.list([1])[0] == 1
        assert all(is_hung_up(sock) for sock in slow)


def test_a_client_that_is_in_and_talks_nonsense_hurts_only_itself(manager: managers.SyncManager):
    words = manager.dict(a=1)
    server = psutil.Process(manager._process.pid)
    before = server.memory_info().rss
    for nonsense in (
        b"no pickle",
        pickle.dumps("no request"),
        pickle.dumps((1, 2)),
        pickle.dumps((None, "__init__", (), {})),
    ):
        with Client(manager.address, authkey=b"the key") as client:
            client.send_bytes(nonsense)
            kind, text = client.recv()
            assert kind == "#TRACEBACK"
            assert "Traceback" in text
    with Client(manager.address, authkey=b"the key") as client:
        client.send((None, "accept_connection", ("nobody",), {}))
        assert client.recv() == ("#RETURN", None)
        for nonsense in (b"no pickle", pickle.dumps("no request"), pickle.dumps(("nobody", "x", (), {}))):
            client.send_bytes(nonsense)
            assert client.recv()[0] == "#TRACEBACK"
        with socket.socket(fileno=os.dup(client.fileno())) as sock:
            sock.sendall(struct.pack("!i", -1) + struct.pack("!Q", 1 << 32) + bytes(1000))
            assert words["a"] == 1
    assert words["a"] == 1
    assert server.memory_info().rss - before < 64 * MEGABYTES


def test_a_session_that_offers_what_is_no_ring_goes_over_the_socket(manager: managers.SyncManager):
    for offer in ("nonsense", [[1, 2, 3, 4], [5, 6, 7, 8]], [[0] * 4], [["x"] * 4] * 2, [[1 << 70] * 4] * 2, 7):
        with Client(manager.address, authkey=b"the key") as client:
            client.send((None, "accept_session", ("nobody", "client", offer), {}))
            kind, (_, ring) = client.recv()
            assert (kind, ring) == ("#RETURN", False)
            client.send((None, "number_of_objects", ()))
            assert client.recv() == ("#RETURN", 0)


def test_a_client_that_leaves_in_the_middle_of_the_greeting_is_forgotten(manager: managers.SyncManager):
    if isinstance(manager.address, tuple):
        pytest.skip("a ring needs AF_UNIX")
    there = [shoal._native.pipe_channel(1000)._reference() for _ in range(2)]
    for last_word in (b"", b"?"):
        with Client(manager.address, authkey=b"the key") as client:
            client.send((None, "accept_session", ("nobody", "client", there), {}))
            client.recv()
            with socket.socket(fileno=os.dup(client.fileno())) as sock:
                sock.sendall(last_word)
    assert manager.dict(a=1)["a"] == 1


def test_listening_for_a_network_without_tls_warns_and_names_the_fix():
    with pytest.warns(UnencryptedListenerWarning, match=r"shoal\.TLS"):
        server = managers.SyncManager(("0.0.0.0", 0), b"key").get_server()  # noqa: S104 - that is the subject
    server.listener.close()


def test_an_address_of_ones_own_is_a_socket_in_a_private_directory():
    with shoal.get_context("fork").Manager() as manager:
        assert manager.address[0] == "/"
        mode = os.stat(os.path.dirname(manager.address)).st_mode  # noqa: PTH116, PTH120
        assert mode & 0o777 == 0o700


def test_bad_arguments_are_errors_at_the_call():
    with pytest.raises(TypeError, match="must be bytes, not str"):
        managers.SyncManager(authkey="text")  # type: ignore[arg-type]
    with pytest.raises(KeyError):
        managers.SyncManager(serializer="json")
    with pytest.raises(TypeError, match="callable"):
        managers.SyncManager().start(initializer=3)
    with pytest.raises(AssertionError, match="not yet started"):
        managers.SyncManager().dict()


def test_a_server_with_tls_and_clients_with_certificates(tmp_path: Any):
    pytest.importorskip("cryptography")
    for machine in ("localhost,127.0.0.1", "client"):
        subprocess.run(
            [sys.executable, "-m", "shoal", "certs", str(tmp_path), machine], check=True, capture_output=True
        )
    tls = shoal.TLS(tmp_path / "localhost.crt", tmp_path / "localhost.key", tmp_path / "ca.crt")
    mine = shoal.TLS(tmp_path / "client.crt", tmp_path / "client.key", tmp_path / "ca.crt")
    with managers.SyncManager(("127.0.0.1", 0), b"key", tls=tls, ctx=shoal.get_context("fork")) as manager:
        words = manager.dict(a=1)
        client = managers.SyncManager(manager.address, b"key", tls=mine)
        client.connect()
        numbers = client.list([words])
        assert numbers[0]["a"] == 1
        with pytest.raises((OSError, EOFError, AuthenticationError)):
            Client(manager.address, authkey=b"key", timeout=LONG)
