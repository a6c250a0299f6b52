"""The wire between shoal and the standard library of each CPython that is found: either may be the listener, either may be the client."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import interpreters

from shoal.connection import AuthenticationError, Client, Connection, Listener

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY = b"the key"
LONG = 30.0

# One side of a conversation, on the standard library of whatever interpreter runs it. It prints its listener's address, if it is one, and its outcome.
PEER = """
import json, sys
from multiprocessing.connection import Client, Listener
role, address, key = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3].encode()
address = tuple(address) if isinstance(address, list) else address

def listen():
    listener = Listener(address, authkey=key)
    print(json.dumps(listener.address), flush=True)
    try:
        return listener.accept()
    finally:
        listener.close()

try:
    with listen() if role == "listen" else Client(address, authkey=key) as connection:
        while True:
            obj = connection.recv()
            if obj is None:
                break
            connection.send(obj)
        connection.send_bytes(connection.recv_bytes())
    print(json.dumps("done"))
except Exception as error:
    print(json.dumps(type(error).__name__))
"""

OBJECTS = [1, "text", [1.5, {"a": (b"b", None)}], {1, 2}, b"x" * 16_384, b"y" * 16_385, bytes(1_000_000)]


@pytest.fixture(params=interpreters.VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    if interpreters.interpreter(request.param) is None:
        pytest.skip(f"no CPython {request.param} on PATH or in pyenv")
    return request.param


@pytest.fixture
def peer(version: str) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    with contextlib.ExitStack() as stack:

        def start(role: str, address: Any, key: bytes = KEY) -> subprocess.Popen[str]:
            command = [interpreters.interpreter(version), "-I", "-c", PEER, role, json.dumps(address), key.decode()]
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            stack.callback(process.kill)
            return process

        yield start


@pytest.fixture(params=["AF_UNIX", "AF_INET"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return ("127.0.0.1", 0) if request.param == "AF_INET" else str(tmp_path / "socket")


def needs_permission(version: str) -> bool:
    """3.11 and older speak HMAC-MD5 only."""
    return version == "3.11"


def outcome(process: subprocess.Popen[str]) -> str:
    return json.loads(process.communicate(timeout=LONG)[0].splitlines()[-1])


def address_of(process: subprocess.Popen[str]) -> Any:
    told = json.loads(process.stdout.readline())
    return tuple(told) if isinstance(told, list) else told


def converse(connection: Connection) -> None:
    with connection:
        for obj in OBJECTS:
            connection.send(obj)
            assert connection.recv() == obj
        connection.send(None)
        connection.send_bytes(b"raw")
        assert connection.recv_bytes() == b"raw"


def test_a_standard_client_on_our_listener(version: str, peer: Callable[..., Any], address: Any):
    with Listener(address, authkey=KEY, allow_legacy=needs_permission(version)) as listener:
        process = peer("call", listener.address)
        converse(listener.accept())
    assert outcome(process) == "done"


def test_our_client_on_a_standard_listener(version: str, peer: Callable[..., Any], address: Any):
    process = peer("listen", address)
    converse(Client(address_of(process), authkey=KEY, allow_legacy=needs_permission(version)))
    assert outcome(process) == "done"


def test_a_wrong_key_is_an_authentication_error_on_both_sides(version: str, peer: Callable[..., Any], address: Any):
    allow = needs_permission(version)
    with Listener(address, authkey=KEY, allow_legacy=allow) as listener:
        process = peer("call", listener.address, b"another")
        with pytest.raises(AuthenticationError, match="different authentication keys"):
            listener.accept()
    assert outcome(process) == "AuthenticationError"
    process = peer("listen", address, b"another")
    with pytest.raises(AuthenticationError, match="different authentication keys"):
        Client(address_of(process), authkey=KEY, allow_legacy=allow)
    assert outcome(process) == "AuthenticationError"


@pytest.mark.parametrize("version", ["3.11"], indirect=True)
def test_without_permission_both_sides_are_told_that_md5_is_not_enough(peer: Callable[..., Any], address: Any):
    with Listener(address, authkey=KEY) as listener:
        process = peer("call", listener.address)
        with pytest.raises(AuthenticationError, match=r"HMAC-MD5.*allow_legacy=True.*SHOAL_ALLOW_LEGACY=1"):
            listener.accept()
    assert outcome(process) == "AuthenticationError"
    process = peer("listen", address)
    with pytest.raises(AuthenticationError, match=r"HMAC-MD5.*allow_legacy=True.*SHOAL_ALLOW_LEGACY=1"):
        Client(address_of(process), authkey=KEY)
    assert outcome(process) == "AuthenticationError"


@pytest.mark.parametrize("version", ["3.11"], indirect=True)
def test_the_environment_gives_permission_for_programs_that_cannot_ask(
    peer: Callable[..., Any], address: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SHOAL_ALLOW_LEGACY", "1")
    process = peer("listen", address)
    converse(Client(address_of(process), authkey=KEY))
    assert outcome(process) == "done"


PROGRAM = """
import sys
from multiprocessing.connection import Client, Listener
if sys.argv[1] == "listen":
    with Listener(sys.argv[2], authkey=b"k") as listener:
        print("ready", flush=True)
        with listener.accept() as connection:
            connection.send([type(listener).__module__, "hello"])
            print(connection.recv())
else:
    with Client(sys.argv[2], authkey=b"k") as connection:
        connection.send("answer to " + " ".join(connection.recv()))
"""


@pytest.mark.parametrize("listening", ["plain", "run"])
@pytest.mark.parametrize("calling", ["plain", "run"])
def test_a_program_under_the_alias_speaks_with_itself_and_with_the_standard_library(
    tmp_path: Path, listening: str, calling: str, monkeypatch: pytest.MonkeyPatch
):
    """An unchanged program, with and without ``shoal run``, on the running interpreter."""
    if needs_permission(interpreters.running()):
        monkeypatch.setenv("SHOAL_ALLOW_LEGACY", "1")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    command = {"plain": [sys.executable], "run": [sys.executable, "-m", "shoal", "run"]}
    path = str(tmp_path / "socket")
    with subprocess.Popen(
        [*command[listening], str(program), "listen", path], stdout=subprocess.PIPE, text=True
    ) as listener:
        assert listener.stdout.readline() == "ready\n"
        subprocess.run([*command[calling], str(program), "call", path], timeout=LONG, check=True)
        said = listener.communicate(timeout=LONG)[0]
    assert said == f"answer to {'shoal' if listening == 'run' else 'multiprocessing'}.connection hello\n"
