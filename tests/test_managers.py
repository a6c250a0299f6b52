"""Managers: what only shoal promises. Deaths, restarts, references, forks; what both libraries do is in tests/contract/test_managers.py."""

from __future__ import annotations

import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import shoal
from shoal import managers
from shoal.errors import ManagerDied, StaleReferenceError

sys.path.insert(0, str(Path(__file__).parent))

from alarms import AlarmError, alarms
from manager_server import threads_of

if TYPE_CHECKING:
    from collections.abc import Iterator

LONG = 20.0
SHARED: queue.Queue[Any] = queue.Queue()


def eventually(condition: Any) -> bool:
    deadline = time.monotonic() + LONG
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True


@pytest.fixture
def manager() -> Iterator[managers.SyncManager]:
    with shoal.get_context("fork").Manager() as manager:
        yield manager


class Named(managers.BaseManager):
    """Has an object with a name, and a factory."""


Named.register("shared", lambda: SHARED)
Named.register("fresh", dict, managers.DictProxy)


def kill(manager: Any) -> None:
    os.kill(manager._process.pid, signal.SIGKILL)
    manager._process.join()


# --- the server dies ----------------------------------------------------------------------------------------------------


def test_a_call_that_waits_for_a_killed_server_ends_at_once(manager: managers.SyncManager):
    event = manager.Event()
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            event.wait()
        except EOFError as error:
            raised.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert eventually(lambda: event._link.held and threads_of(manager) >= 3)
    kill(manager)
    waiting.join(LONG)
    (error,) = raised
    assert isinstance(error, ManagerDied)
    assert isinstance(error, ConnectionError)
    assert error.address == manager.address


def test_later_calls_say_that_the_server_has_gone(manager: managers.SyncManager):
    words, other = manager.dict(), manager.list()
    words["a"] = 1
    kill(manager)
    for call in (lambda: words["a"], lambda: other.append(1), manager.dict, words.copy):
        with pytest.raises(ManagerDied, match="has ended"):
            call()
    assert "failed" in str(words)
    assert pickle.loads(pickle.dumps(ManagerDied("there", "why"))).address == "there"


def test_a_server_that_is_started_again_is_found_by_the_next_call(tmp_path: Path):
    address = str(tmp_path / "socket")
    first = Named(address, b"key")
    first.start()
    client = Named(address, b"key")
    client.connect()
    shared, fresh = client.shared(), client.fresh()
    shared.put(1)
    fresh["a"] = 1
    kill(first)
    with pytest.raises(ManagerDied):
        shared.qsize()
    second = Named(address, b"key")
    second.start()
    assert shared.qsize() == 0
    shared.put(2)
    assert client.shared().get(timeout=LONG) == 2
    with pytest.raises(StaleReferenceError, match="register it by name"):
        fresh["a"]
    client.fresh()["b"] = 2
    second.shutdown()
    first.shutdown()


def test_connect_waits_for_a_server_that_is_not_up_yet(tmp_path: Path):
    address = str(tmp_path / "socket")
    client, server = Named(address, b"key"), Named(address, b"key")
    with pytest.raises(FileNotFoundError):
        client.connect()
    begin = time.monotonic()
    with pytest.raises(FileNotFoundError):
        client.connect(retry=0.2)
    assert time.monotonic() - begin > 0.1
    ours, theirs = shoal.Pipe()
    waiting = shoal.get_context("fork").Process(target=connect_and_use, args=(client, theirs))
    waiting.start()
    assert ours.recv() == "trying"
    server.start()
    assert ours.recv() == 0
    waiting.join()
    server.shutdown()


def connect_and_use(client: Named, pipe: Any) -> None:
    pipe.send("trying")
    client.connect(retry=LONG)
    pipe.send(client.shared().qsize())


def test_a_server_that_cannot_start_says_so():
    manager = managers.SyncManager(ctx=shoal.get_context("fork"))
    with pytest.raises(ManagerDied, match="did not start: exit code 3"):
        manager.start(os._exit, (3,))


def test_a_server_does_not_outlive_a_killed_application():
    program = "import shoal, os, signal, sys; m = shoal.Manager(); print(m._process.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=LONG)
    server = int(done.stdout)
    assert eventually(lambda: not Path(f"/proc/{server}").exists())


def test_a_server_that_does_not_answer_is_ended_all_the_same():
    manager = managers.SyncManager(ctx=shoal.get_context("fork"), shutdown_timeout=0.3)
    manager.start()
    os.kill(manager._process.pid, signal.SIGSTOP)
    manager.shutdown()
    assert manager._process.exitcode == -signal.SIGKILL


def test_an_idle_server_does_not_run(manager: managers.SyncManager):
    words = manager.dict(a=1)
    assert words["a"] == 1

    def nothing_happens() -> bool:
        before = switches_of(manager)
        time.sleep(1.5)  # the subject: that nothing wakes meanwhile
        return switches_of(manager) == before

    assert eventually(nothing_happens)


def switches_of(manager: Any) -> int:
    """How often threads of the server were put to run or to sleep."""
    found = 0
    for status in Path(f"/proc/{manager._process.pid}/task").glob("*/status"):
        found += sum(int(line.split()[1]) for line in status.read_text().splitlines() if "ctxt_switches" in line)
    return found


# --- clients die --------------------------------------------------------------------------------------------------------


def hold_and_wait(manager_address: str, authkey: bytes, pipe: Any) -> None:
    manager = managers.SyncManager(manager_address, authkey)
    manager.connect()
    things = [manager.dict(), manager.list()]
    things[0]["x"] = 1
    pipe.send(len(things))
    pipe.recv()


def test_what_a_killed_client_referred_to_goes(manager: managers.SyncManager):
    ours, theirs = shoal.Pipe()
    client = shoal.get_context("fork").Process(
        target=hold_and_wait, args=(manager.address, bytes(manager._authkey), theirs)
    )
    client.start()
    assert ours.recv() == 2
    assert manager._number_of_objects() == 2
    client.kill()
    client.join()
    assert eventually(lambda: manager._number_of_objects() == 0)


def test_a_client_that_is_idle_is_not_taken_for_dead(manager: managers.SyncManager):
    words = manager.dict(a=1)
    used = threading.Thread(target=lambda: words["a"])
    used.start()
    used.join()
    assert eventually(lambda: threads_of(manager) <= 5)
    assert words["a"] == 1


# --- forks and threads --------------------------------------------------------------------------------------------------


def use_when_told(words: Any, pipe: Any) -> None:
    pipe.send("referring")
    pipe.recv()
    pipe.send(words["a"])


def test_a_forked_child_keeps_what_its_parent_drops(manager: managers.SyncManager):
    words = manager.dict(a=1)
    ours, theirs = shoal.Pipe()
    process = shoal.get_context("fork").Process(target=use_when_told, args=(words, theirs))
    process.start()
    assert ours.recv() == "referring"
    del words
    ours.send(None)
    assert ours.recv() == 1
    process.join()
    assert eventually(lambda: manager._number_of_objects() == 0)


def test_connect_tells_that_a_server_which_was_there_has_gone(tmp_path: Path):
    address = str(tmp_path / "socket")
    server, client = Named(address, b"key"), Named(address, b"key")
    server.start()
    client.connect()
    assert client.shared().qsize() == 0
    kill(server)
    for _ in range(2):
        with pytest.raises(OSError, match=r"refused|No such file"):
            Named(address, b"key").connect()
    Path(address).unlink(missing_ok=True)
    another = Named(address, b"key")
    another.start()
    try:
        client.connect()
        assert client.shared().qsize() == 0
    finally:
        another.shutdown()


def test_a_child_of_os_fork_has_connections_of_its_own(manager: managers.SyncManager):
    words = manager.dict(a=0)
    words["a"] = 1
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            words["b"] = words["a"] + 1
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert words.copy() == {"a": 1, "b": 2}


def test_a_proxy_is_used_by_many_threads(manager: managers.SyncManager):
    words = manager.dict()

    def fill(start: int) -> None:
        for key in range(start, start + 50):
            words[key] = key

    threads = [threading.Thread(target=fill, args=(50 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(words) == 200


def test_a_key_of_ones_own_is_known_to_proxies_inside_proxies():
    with managers.SyncManager(authkey=b"another", ctx=shoal.get_context("fork")) as manager:
        outer = manager.list([manager.dict(x=1)])
        assert outer[0]["x"] == 1


def test_making_an_object_that_takes_its_time_keeps_no_other_thread_waiting():
    with Slow(ctx=shoal.get_context("fork")) as manager:
        made: list[Any] = []
        waiting = threading.Thread(target=lambda: made.append(manager.after_the_gate()))
        waiting.start()
        manager.open_gate()
        waiting.join(LONG)
        assert len(made) == 1


GATE = threading.Event()


def after_the_gate() -> dict[str, Any]:
    assert GATE.wait(LONG)
    return {}


class Slow(managers.BaseManager):
    """Making one thing waits for another to be made."""


Slow.register("after_the_gate", after_the_gate, managers.DictProxy)
Slow.register("open_gate", GATE.set)
Slow.register("words", dict, managers.DictProxy)


# --- the calls ----------------------------------------------------------------------------------------------------------


def test_an_unknown_method_names_the_type_and_what_it_has(manager: managers.SyncManager):
    words = manager.dict()
    with pytest.raises(AttributeError, match=r"'dict' object .* does not expose 'append'; it exposes: .*setdefault"):
        words._callmethod("append", (1,))
    with pytest.raises(managers.RemoteError):
        words._callmethod("append", (1,))


def test_a_thread_that_connects_anew_after_an_interruption_leaves_the_keeper_alone(manager: managers.SyncManager):
    words: Any = manager.dict(a=0)
    link = words._link
    keeper = link._keeper
    # Another interruption there would cost this process all its references.
    keeper.call = link.local.session._broken
    with pytest.raises(KeyboardInterrupt):
        link.local.session._broken(KeyboardInterrupt())
    words["a"] = 1
    assert link._keeper is keeper
    assert words.copy() == {"a": 1}


def test_an_interrupted_call_does_not_leave_its_answer_to_the_next(manager: managers.SyncManager):
    event, words = manager.Event(), manager.dict(a="right")
    me = threading.get_ident()
    timer = threading.Timer(0.2, signal.pthread_kill, (me, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        event.wait()
    timer.join()
    event.set()
    assert words["a"] == "right"


@pytest.mark.parametrize("address", [None, ("127.0.0.1", 0)], ids=["at home", "by TCP"])
def test_a_handler_that_raises_does_not_leave_an_answer_to_the_next_call(address: Any):
    with managers.SyncManager(address, b"key", ctx=shoal.get_context("fork")) as manager:
        event, words = manager.Event(), manager.dict(a="right")
        with alarms(0.2), pytest.raises(AlarmError):
            event.wait()
        event.set()
        assert words["a"] == "right"


def test_what_cannot_be_pickled_leaves_the_connection_as_it_was(manager: managers.SyncManager):
    words = manager.dict(a=1)
    with pytest.raises(Exception, match="pickle"):
        words["b"] = threading.Lock()
    assert dict(words) == {"a": 1}


def test_a_call_after_a_long_rest_is_heard(manager: managers.SyncManager):
    """Both sides sleep in between, and the bell wakes each."""
    words = manager.dict(a=0)
    for number in range(50):
        words["a"] = number
        time.sleep(0.002)  # longer than either side spins
        assert words["a"] == number


class Obstinate:
    """A key whose comparison, in the server, waits for what another client does."""

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        GATE.wait()
        return isinstance(other, Obstinate)


def test_a_call_that_blocks_where_none_should_keeps_nobody_waiting():
    """A dict's methods wait for nobody, so a server expects no harm of them; but the keys are the users' own."""
    GATE.clear()
    with Slow(ctx=shoal.get_context("fork")) as manager:
        words, others = manager.words(), manager.words()
        words.update({Obstinate(): 1})
        asking = threading.Thread(target=lambda: words.get(Obstinate()))
        asking.start()
        for number in range(200):
            others["a"] = number
        assert asking.is_alive()
        manager.open_gate()
        asking.join()


def test_an_exception_brings_the_servers_traceback(manager: managers.SyncManager):
    barrier = manager.Barrier(2)
    barrier.abort()
    with pytest.raises(threading.BrokenBarrierError) as raised:
        barrier.wait()
    assert "threading.py" in str(raised.value.__cause__)


def test_what_a_client_sends_and_the_server_cannot_load_is_an_error(manager: managers.SyncManager):
    words = manager.dict()
    with pytest.raises(managers.RemoteError, match="in this process only"):
        words["a"] = OnlyHere()
    words["a"] = 1
    assert words["a"] == 1


HERE = os.getpid()


def only_here() -> Any:
    if os.getpid() != HERE:
        raise RuntimeError("in this process only")
    return OnlyHere()


class OnlyHere:
    def __reduce__(self) -> Any:
        return only_here, ()


def test_a_spawned_child_that_ends_with_proxies_is_quiet(tmp_path: Path):
    program = tmp_path / "program.py"
    program.write_text(
        """
import shoal

def keep(words, numbers):
    words["seen"] = len(numbers)

if __name__ == "__main__":
    context = shoal.get_context("spawn")
    manager = context.Manager()
    words, numbers = manager.dict(), manager.list([1, 2])
    child = context.Process(target=keep, args=(words, numbers))
    child.start()
    child.join()
    print(words)
"""
    )
    ended = subprocess.run([sys.executable, program], capture_output=True, text=True, check=True, timeout=LONG)
    assert (ended.stdout, ended.stderr) == ("{'seen': 2}\n", "")


def test_proxies_are_the_standard_librarys_too(manager: managers.SyncManager):
    from multiprocessing import managers as standard  # noqa: PLC0415

    assert isinstance(manager, standard.BaseManager)
    assert isinstance(manager.dict(), standard.BaseProxy)
    assert type(manager.list()).__module__ == "shoal.managers"


def test_equality_looks_at_what_proxies_stand_for(manager: managers.SyncManager):
    first, second = manager.dict(a=1), manager.dict(a=1)
    assert first == second == {"a": 1}
    second["b"] = 2
    assert first != second
    assert manager.list([1, 2]) == [1, 2]
    assert len({first, second}) == 2
