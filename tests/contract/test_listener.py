"""``Listener`` and ``Client``: connections between processes that know nothing of each other but an address and a key."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from contract_children import clients as child
from contract_children.clients import KEY
from contract_children.waiting import LONG, SHORT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.context import BaseContext
    from types import ModuleType

    from contract_children.instances import Instance
    from contract_children.partner import Partner

# Who connects is a process of whatever making; two ways to start one are enough.
pytestmark = pytest.mark.methods("fork", "spawn")

FAMILIES = ["AF_UNIX", "AF_INET"]


@pytest.fixture
def connection(instance: Instance) -> ModuleType:
    return instance.module("connection")


@pytest.fixture
def caller(instance: Instance, partners: Callable[..., Partner]) -> Partner:
    """A process that connects when it is told to."""
    return partners(instance=instance)


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def steady(descriptors_steady: Callable[[], None]) -> Iterator[Callable[[], None]]:
    return descriptors_steady


# --- what arrives --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, KEY], ids=["open", "key"])
def test_objects_go_there_and_back(connection: ModuleType, caller: Partner, family: str, key: bytes | None):
    with connection.Listener(family=family, authkey=key) as listener:
        caller.tell(child.call, listener.address, "text", [1, {2: 3.5}], b"x" * 300_000, authkey=key)
        with listener.accept() as accepted:
            for _ in range(3):
                accepted.send(("echo", accepted.recv()))
            with pytest.raises(EOFError):
                accepted.recv()
        assert caller.answer() == [("echo", "text"), ("echo", [1, {2: 3.5}]), ("echo", b"x" * 300_000)]


def test_what_a_client_sent_before_it_hung_up_is_received(connection: ModuleType, caller: Partner, family: str):
    with connection.Listener(family=family) as listener:
        caller.ask(child.send_and_hang_up, listener.address, *range(100))
        with listener.accept() as accepted:
            assert [accepted.recv() for _ in range(100)] == list(range(100))
            assert accepted.poll(LONG)
            with pytest.raises(EOFError):
                accepted.recv()


def test_clients_are_accepted_one_call_each(
    connection: ModuleType, instance: Instance, partners: Callable[..., Partner], family: str
):
    callers = [partners(instance=instance) for _ in range(3)]
    with connection.Listener(family=family, backlog=3, authkey=KEY) as listener:
        for number, caller in enumerate(callers):
            caller.tell(child.call, listener.address, number, authkey=KEY)
        accepted = [listener.accept() for _ in callers]
        for end in accepted:
            end.send(-end.recv())
        assert sorted(answer for caller in callers for answer in caller.answer()) == [-2, -1, 0]
        for end in accepted:
            end.close()


def test_an_xml_listener_and_client_exchange_plain_data(connection: ModuleType, caller: Partner):
    with connection.XmlListener(authkey=KEY) as listener:
        caller.tell(child.call_with_xml, listener.address, {"a": [1, "b", None]})
        accepted = listener.accept()
        assert accepted.recv() == {"a": [1, "b", None]}
        accepted.send([True, 2.5])
        assert caller.answer() == [True, 2.5]
        accepted.close()


def test_a_connection_over_a_socket_is_a_connection(connection: ModuleType, caller: Partner):
    with connection.Listener() as listener:
        caller.tell(child.call, listener.address, 1)
        accepted = listener.accept()
        assert isinstance(accepted, connection.Connection)
        assert (accepted.readable, accepted.writable, accepted.closed) == (True, True, False)
        assert connection.wait([accepted], LONG) == [accepted]
        assert accepted.recv() == 1
        assert connection.wait([accepted], SHORT) == []
        accepted.send_bytes(b"\x80\x04K\x02.")  # a pickle of one's own making
        assert caller.answer() == [2]
        accepted.close()
        with pytest.raises(OSError, match="closed"):
            accepted.recv()


# --- the key -------------------------------------------------------------------------------------------------------------


def test_a_wrong_key_is_an_error_on_both_sides_and_the_listener_goes_on(
    connection: ModuleType, caller: Partner, family: str
):
    with connection.Listener(family=family, authkey=KEY) as listener:
        caller.tell(child.call, listener.address, 1, authkey=b"another")
        with pytest.raises(connection.AuthenticationError):
            listener.accept()
        with pytest.raises(connection.AuthenticationError):
            caller.answer()
        caller.tell(child.call, listener.address, 1, authkey=KEY)
        with listener.accept() as accepted:
            accepted.send(accepted.recv() + 1)
            assert caller.answer() == [2]


def test_the_two_halves_of_the_challenge_can_be_had_alone(
    connection: ModuleType, mp: BaseContext, instance: Instance, partners: Callable[..., Partner]
):
    ours, theirs = mp.Pipe()
    other = partners(connection=theirs, instance=instance)
    other.tell(child.prove, KEY)
    connection.deliver_challenge(ours, KEY)
    connection.answer_challenge(ours, KEY)
    assert other.answer() is None
    other.tell(child.prove, b"another")
    with pytest.raises(connection.AuthenticationError):
        connection.deliver_challenge(ours, KEY)
    with pytest.raises(connection.AuthenticationError):
        other.answer()


class Scripted:
    """A connection on which the other side says what the test wants."""

    def __init__(self, *says: bytes) -> None:
        self.says = list(says)
        self.heard: list[bytes] = []

    def recv_bytes(self, maxlength: int | None = None) -> bytes:
        assert maxlength is not None, "what an unknown side sends has a limit"
        return self.says.pop(0)

    def send_bytes(self, data: bytes) -> None:
        self.heard.append(bytes(data))


def test_nonsense_in_place_of_an_answer_or_a_welcome_is_an_authentication_error(connection: ModuleType):
    with pytest.raises(connection.AuthenticationError):
        connection.deliver_challenge(Scripted(b"something else"), KEY)
    with pytest.raises(connection.AuthenticationError):
        connection.answer_challenge(Scripted(b"#CHALLENGE#{sha256}" + bytes(40), b"something else"), KEY)


# The standard library leaves its socket to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("key", ["text", 5])
def test_a_key_that_is_not_bytes_is_refused_at_the_call(connection: ModuleType, key: Any):
    with pytest.raises(TypeError, match="authkey should be a byte string"):
        connection.Listener(authkey=key)
    with connection.Listener() as listener, pytest.raises(TypeError, match="authkey should be a byte string"):
        connection.Client(listener.address, authkey=key)
    for function in (connection.deliver_challenge, connection.answer_challenge):
        with pytest.raises(ValueError, match="must be bytes"):
            function(Scripted(), key)


# --- addresses -----------------------------------------------------------------------------------------------------------


def test_without_an_address_a_listener_is_a_path_that_only_its_user_can_reach(connection: ModuleType):
    with connection.Listener() as listener:
        path = Path(listener.address)
        assert stat.S_ISSOCK(path.stat().st_mode)
        directory = path.parent.stat()
        assert (stat.S_IMODE(directory.st_mode), directory.st_uid) == (0o700, os.geteuid())
    assert not path.exists(), "the path goes with the listener"


def test_a_listener_on_the_internet_family_tells_the_port_it_was_given(connection: ModuleType):
    with connection.Listener(family="AF_INET") as listener:
        host, port = listener.address
        assert host == "127.0.0.1"
        assert port > 0


def test_the_address_says_which_family_it_is(connection: ModuleType, tmp_path: Path):
    assert connection.address_type(("localhost", 1)) == "AF_INET"
    assert connection.address_type("/a/path") == "AF_UNIX"
    with pytest.raises((TypeError, ValueError), match="unrecognized"):
        connection.address_type(["localhost", 1])
    with pytest.raises((TypeError, ValueError), match="unrecognized"):
        connection.Client(5)
    path = str(tmp_path / "socket")
    with connection.Listener(path) as listener:
        assert listener.address == path
        with pytest.raises(OSError, match="in use"):
            connection.Listener(path)


def test_a_path_of_another_making_is_left_alone_when_it_cannot_be_bound(connection: ModuleType, tmp_path: Path):
    path = tmp_path / "file"
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(OSError, match="in use"):
        connection.Listener(str(path))
    assert path.read_text(encoding="utf-8") == "mine"


def test_an_abstract_address_works_for_whoever_asks_for_it(connection: ModuleType, caller: Partner):
    address = f"\0shoal-test-{os.getpid()}-{os.urandom(4).hex()}"
    with connection.Listener(address) as listener:
        caller.tell(child.call, address, 1)
        with listener.accept() as accepted:
            accepted.send(accepted.recv())
            assert caller.answer() == [1]


def test_last_accepted_is_the_address_of_the_last_client(connection: ModuleType, caller: Partner):
    with connection.Listener(family="AF_INET") as listener:
        assert listener.last_accepted is None
        caller.tell(child.name_of, listener.address)
        listener.accept().close()
        assert listener.last_accepted == caller.answer()


def test_where_nobody_listens_a_client_is_told_at_once(connection: ModuleType, tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        connection.Client(str(tmp_path / "nobody"))
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            connection.Client(sock.getsockname())


def test_a_closed_listener_accepts_nobody(connection: ModuleType, family: str):
    listener = connection.Listener(family=family)
    address = listener.address
    listener.close()
    listener.close()
    with pytest.raises(OSError, match="listener is closed"):
        listener.accept()
    with pytest.raises((FileNotFoundError, ConnectionRefusedError)):
        connection.Client(address)


def test_a_listener_gives_up_waiting_when_its_socket_has_a_timeout(connection: ModuleType, family: str):
    with connection.Listener(family=family, authkey=KEY) as listener:
        listener._listener._socket.settimeout(SHORT)  # a habit of programs
        with pytest.raises(TimeoutError):
            listener.accept()


def test_nothing_is_left_open(connection: ModuleType, caller: Partner, family: str, steady: Callable[[], None]):
    for first in (True, False, False):
        with connection.Listener(family=family, authkey=KEY) as listener:
            caller.tell(child.call, listener.address, 1, authkey=KEY)
            with listener.accept() as accepted:
                accepted.send(accepted.recv())
            caller.answer()
        if first:
            steady()
