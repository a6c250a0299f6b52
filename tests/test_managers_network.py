"""A manager's server on one host, its clients on two others: over a real network stack, which is cut, slow, or loses the server."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import networks

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

LONG = 30.0
NAMES = """
import json, queue, socket, sys, threading, time
from shoal import managers
from shoal.errors import ManagerDied
shared, board = queue.Queue(), {}
class Manager(managers.SyncManager): pass
Manager.register("get_queue", lambda: shared)
Manager.register("get_board", lambda: board, managers.DictProxy)
def say(what): print(json.dumps(what), flush=True)
def hear(): return json.loads(sys.stdin.readline())
"""
SERVER = (
    NAMES
    + """
server = Manager(("0.0.0.0", 0), b"key").get_server()
say(server.address[1])
server.serve_forever()
"""
)
CLIENT = (
    NAMES
    + """
manager = Manager((sys.argv[1], int(sys.argv[2])), b"key")
manager.connect(retry=20)
board, shared = manager.get_board(), manager.get_queue()
say("connected")
while (order := hear()) is not None:
    begin = time.monotonic()
    try:
        say([eval(order), time.monotonic() - begin])
    except Exception as error:
        say([type(error).__name__, time.monotonic() - begin])
"""
)
# Passes bytes on in both directions, 100 ms later.
RELAY = """
import socket, sys, threading, time
def forward(source, target):
    with source, target:
        while data := source.recv(65536):
            time.sleep(0.1)
            target.sendall(data)
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    here, _ = listener.accept()
    there = socket.create_connection((sys.argv[1], int(sys.argv[2])))
    for pair in ((here, there), (there, here)):
        threading.Thread(target=forward, args=pair, daemon=True).start()
"""


class Peer:
    """A client's process on some host."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def tell(self, order: str | None) -> None:
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        return json.loads(self.process.stdout.readline())

    def ask(self, order: str) -> Any:
        self.tell(order)
        return self.answer()[0]


class Setting:
    """The network, with a server on it."""

    def __init__(self, network: networks.Network, stack: contextlib.ExitStack) -> None:
        self.network = network
        self._stack = stack
        self.port = 0
        self.server: Any = None

    def start(self, host: int, *command: str, **options: Any) -> subprocess.Popen[str]:
        process = self._stack.enter_context(self.network.start(host, "-W", "ignore", "-c", *command, **options))
        self._stack.callback(process.kill)
        return process

    def serve(self, port: int = 0) -> None:
        self.server = self.start(0, SERVER.replace('"0.0.0.0", 0', f'"0.0.0.0", {port}'))
        self.port = json.loads(self.server.stdout.readline())

    def client(self, host: int, address: str | None = None, port: int | None = None) -> Peer:
        place = [address or self.network.address(host), str(port or self.port)]
        peer = Peer(self.start(host, CLIENT, *place, stdin=-1))
        assert peer.answer() == "connected"
        return peer


@pytest.fixture(scope="module")
def permitted() -> None:
    if reason := networks.why_not():
        pytest.skip(reason)


@pytest.fixture
def setting(permitted: None) -> Iterator[Setting]:  # noqa: ARG001 - skips
    with networks.network(2) as network, contextlib.ExitStack() as stack:
        setting = Setting(network, stack)
        setting.serve()
        yield setting


def test_two_hosts_share_a_queue_and_a_dict(setting: Setting):
    one, two = setting.client(1), setting.client(2)
    one.ask("board.update(a=1)")
    assert two.ask("board['a']") == 1
    two.tell("shared.get(timeout=20)")
    one.ask("shared.put(['work', 7])")
    assert two.answer()[0] == ["work", 7]


def test_a_killed_server_is_noticed_at_once_and_a_new_one_is_found(setting: Setting):
    one, two = setting.client(1), setting.client(2)
    one.tell("shared.get()")
    assert two.ask("len(board)") == 0
    setting.server.kill()
    assert one.answer()[0] == "ManagerDied"
    assert two.ask("len(board)") == "ManagerDied"
    setting.serve(setting.port)
    one.ask("shared.put('again')")
    assert two.ask("shared.get(timeout=20)") == "again"


def test_a_link_that_was_cut_for_a_moment_loses_nothing(setting: Setting):
    one, two = setting.client(1), setting.client(2)
    setting.network.cut(1)
    one.tell("board.update(cut=1) or board['cut']")
    assert two.ask("'cut' in board") is False
    setting.network.mend(1)
    assert one.answer()[0] == 1
    assert two.ask("board['cut']") == 1


SOCKET = "socket.socket(fileno=__import__('os').dup(board._tls.session.connection.fileno()))"
IMPATIENT = f"{SOCKET}.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000)"


def test_a_link_that_stays_cut_is_an_error_and_the_way_is_found_again(setting: Setting):
    one, two = setting.client(1), setting.client(2)
    one.ask("len(board)")
    one.ask(IMPATIENT)  # else it takes two minutes
    setting.network.cut(1)
    assert one.ask("len(board)") == "ManagerDied"
    assert two.ask("len(board)") == 0
    setting.network.mend(1)
    assert one.ask("len(board)") == 0


def test_a_slow_way_costs_time_and_nothing_else(setting: Setting):
    relay = setting.start(1, RELAY, setting.network.address(1), str(setting.port))
    far = setting.client(1, "127.0.0.1", int(relay.stdout.readline()))
    near = setting.client(2)
    far.tell("[board.update({n: n}) for n in range(3)] and len(board)")
    begin = time.monotonic()
    assert near.ask("shared.qsize()") == 0
    length, seconds = far.answer()
    assert length == 3
    assert seconds >= 0.8  # four calls, each there and back
    assert near.ask("len(board)") == 3
    assert time.monotonic() - begin < LONG


def test_the_example_of_a_work_queue_is_served_to_two_other_hosts(permitted: None):  # noqa: ARG001 - skips
    program = ["-W", "ignore", str(Path(__file__).parents[1] / "examples" / "work_queue.py")]
    with networks.network(2) as network, contextlib.ExitStack() as stack:
        workers = [network.start(host, *program, "work", network.address(host), "50000") for host in (1, 2)]
        server = network.start(0, *program, "serve", "0.0.0.0", "50000", "2")  # noqa: S104 - of a network of its own
        for process in (server, *workers):
            stack.enter_context(process)
            stack.callback(process.kill)
        said = server.communicate(timeout=LONG)[0]
        assert said == "squares: [0, 1, 4, 9, 16, 25, 36, 49, 64, 81]\nworkers: 2\n"
        for worker in workers:
            assert worker.communicate(timeout=LONG)[0] == "worked\n"
            assert worker.returncode == 0
