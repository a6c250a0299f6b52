"""Clients that ask one quick question after the other: the server answers them all in one thread, and nobody is to notice."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import shoal
from shoal import managers
from shoal.errors import ManagerDied

sys.path.insert(0, str(Path(__file__).parent))

from manager_server import threads_of

if TYPE_CHECKING:
    from collections.abc import Iterator

LONG = 20.0
OFTEN = 1_000  # questions in a row: by then a client is answered there, on any machine that is not too busy for it


@pytest.fixture
def manager() -> Iterator[managers.SyncManager]:
    with shoal.get_context("fork").Manager() as manager:
        yield manager


def ask_often(words: Any) -> None:
    for _ in range(OFTEN):
        words["key"]


def own_epolls(_: int) -> int:
    return sum("eventpoll" in str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink())


def count_up(words: Any, name: str, count: int) -> None:
    for number in range(count):
        words[name] = number
        assert words[name] == number


def hammer(words: Any, over: Any, ready: Any) -> None:
    ask_often(words)
    ready.release()
    while not over.is_set():
        ask_often(words)


@contextmanager
def hammering(words: Any) -> Iterator[list[Any]]:
    """Three processes that ask all the time; those that are left in the list must come to a good end."""
    context = shoal.get_context("fork")
    over, ready = context.Event(), context.Semaphore(0)
    clients: list[Any] = [context.Process(target=hammer, args=(words, over, ready)) for _ in range(3)]
    for client in clients:
        client.start()
    for _ in clients:
        assert ready.acquire(timeout=LONG)
    yield clients
    over.set()
    for client in clients:
        client.join(LONG)
        assert client.exitcode == 0


class SlowKey:
    """A key that takes its time where it is looked up, as long as the file is there."""

    def __init__(self, path: str, looked_up: str) -> None:
        self.path, self.looked_up = path, looked_up

    def __hash__(self) -> int:
        Path(self.looked_up).touch()
        until = time.monotonic() + LONG
        while Path(self.path).exists() and time.monotonic() < until:
            time.sleep(0.01)
        return 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SlowKey)


class OnceOnly:
    """Can be sent to the server, and not back."""

    def __init__(self, trips: int = 0) -> None:
        self.trips = trips

    def __reduce__(self) -> Any:
        if self.trips:
            raise ValueError("not twice")
        return OnceOnly, (1,)


class NotThere:
    """Cannot be loaded."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


class Raising:
    """Raises where it is loaded, or where it is pickled for the way back."""

    def __init__(
        self, loading: type[BaseException] | None, pickling: type[BaseException] | None, trips: int = 0
    ) -> None:
        self.errors, self.trips = (loading, pickling), trips
        if trips and loading is not None:
            raise loading

    def __reduce__(self) -> Any:
        if self.trips and self.errors[1] is not None:
            raise self.errors[1]
        return Raising, (*self.errors, self.trips + 1)


class Noticed:
    """Tells, by a file, when it is dropped in the server."""

    def __init__(self, path: str, trips: int = 0) -> None:
        self.path, self.trips = path, trips

    def __reduce__(self) -> Any:
        return Noticed, (self.path, self.trips + 1)

    def __del__(self) -> None:
        if self.trips == 1:
            Path(self.path).touch()


def test_many_clients_at_once_get_their_own_answers(manager: managers.SyncManager):
    words = manager.dict(key=1)
    context = shoal.get_context("fork")
    clients: list[Any] = [
        *(context.Process(target=count_up, args=(words, f"process {i}", OFTEN)) for i in range(4)),
        *(threading.Thread(target=count_up, args=(words, f"thread {i}", OFTEN)) for i in range(4)),
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join(LONG)
    assert [client.exitcode for client in clients[:4]] == [0] * 4
    assert len(words) == 9
    assert all(value == OFTEN - 1 for key, value in words.items() if key != "key")


def test_errors_reach_who_has_asked(manager: managers.SyncManager):
    words = manager.dict(key=1)
    numbers = manager.list(range(3))
    ask_often(words)
    for _ in range(3):
        with pytest.raises(KeyError, match="nothing"):
            words["nothing"]
        with pytest.raises(IndexError):
            numbers[7]
        with pytest.raises(AttributeError, match="fly"):
            words._callmethod("fly")
        with pytest.raises(managers.RemoteError, match="no number"):
            words["key"] = NotThere()
        ask_often(words)
    words["once"] = OnceOnly()
    with pytest.raises(managers.RemoteError, match="not twice"):
        words["once"]
    ask_often(words)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, EOFError])
@pytest.mark.parametrize("where", ["loading", "pickling"])
def test_who_makes_trouble_is_hung_up_on_and_nobody_else(
    manager: managers.SyncManager, error: type[BaseException], where: str
):
    words = manager.dict(key=1)
    outcomes: list[str] = []

    def make_trouble() -> None:
        ask_often(words)
        try:
            words["x"] = Raising(error, None) if where == "loading" else Raising(None, error)
            ask_often(words)
            words["x"]
        except ManagerDied:
            outcomes.append("hung up")
        except managers.RemoteError:
            outcomes.append("told")

    ask_often(words)
    troubled = threading.Thread(target=make_trouble, daemon=True)
    troubled.start()
    troubled.join(LONG)
    assert outcomes in (["hung up"], ["told"])
    ask_often(words)
    other = threading.Thread(target=ask_often, args=(words,), daemon=True)
    other.start()
    other.join(LONG)
    assert not other.is_alive()


@pytest.mark.parametrize("pause", [0, 0.1])
def test_an_answer_is_kept_until_the_client_refers_to_what_is_in_it(manager: managers.SyncManager, pause: float):
    words = manager.dict(key=1)
    for _ in range(5):
        words["inner"] = manager.dict(a=1)
        ask_often(words)
        inner = words.pop("inner")
        time.sleep(pause)  # long enough, once, for the ring to have gone back
        ask_often(words)
        assert inner["a"] == 1


def test_nothing_is_kept_alive_once_the_next_answer_has_come(manager: managers.SyncManager, tmp_path: Path):
    words = manager.dict(key=1)
    for number in range(60, 70):  # some of these before the client is lively, others when it is
        words["noticed"] = Noticed(str(tmp_path / str(number)))
        for _ in range(number):
            words["key"]
        words.pop("noticed")
        ask_often(words)
        assert (tmp_path / str(number)).exists()


def test_a_question_that_takes_long_keeps_nobody_waiting(manager: managers.SyncManager, tmp_path: Any):
    words = manager.dict(key=1)
    slow = tmp_path / "slow"
    slow.touch()
    looked_up = tmp_path / "looked up"
    key = SlowKey(str(slow), str(looked_up))

    def ask_slowly() -> None:
        ask_often(words)
        words.get(key)

    asking = threading.Thread(target=ask_slowly)
    ask_often(words)
    asking.start()
    until = time.monotonic() + LONG
    while not looked_up.exists():  # it is in its slow question when that is there
        ask_often(words)
        assert time.monotonic() < until
    for _ in range(20):
        ask_often(words)
    assert asking.is_alive()
    slow.unlink()
    asking.join(LONG)
    assert not asking.is_alive()
    ask_often(words)


def test_what_has_an_owner_stays_with_its_thread(manager: managers.SyncManager):
    words, lock, condition = manager.dict(key=1), manager.RLock(), manager.Condition()
    with lock, condition:
        ask_often(words)
        assert lock.acquire()
        ask_often(words)
        condition.notify_all()
        lock.release()
        ask_often(words)
    others: list[bool] = []
    other = threading.Thread(target=lambda: others.append(lock.acquire(timeout=LONG)))
    other.start()
    other.join(LONG)
    assert others == [True]


def test_a_killed_client_is_noticed_and_the_others_go_on(manager: managers.SyncManager):
    words = manager.dict(key=1)
    with hammering(words) as clients:
        ask_often(words)
        before = threads_of(manager)
        killed = clients.pop()
        killed.kill()
        os.kill(clients[0].pid, signal.SIGSTOP)  # in the middle of anything
        killed.join()
        until = time.monotonic() + LONG
        while threads_of(manager) >= before:
            ask_often(words)
            assert time.monotonic() < until
        os.kill(clients[0].pid, signal.SIGCONT)


def test_who_asks_seldom_is_answered_between_those_who_ask_often(manager: managers.SyncManager):
    words = manager.dict(key=1)
    with hammering(words):
        queue = manager.Queue()
        for number in range(200):
            words[number] = number
            queue.put(number)
            assert queue.get() == number
            time.sleep(0.001)


def test_a_forked_server_child_does_not_keep_it(manager: managers.SyncManager):
    words = manager.dict(key=1)
    ask_often(words)
    pool = manager.Pool(2)
    ask_often(words)
    assert pool.map(abs, [-1, 2]) == [1, 2]
    assert set(pool.map(own_epolls, range(4))) == {0}
    pool.terminate()
    ask_often(words)
