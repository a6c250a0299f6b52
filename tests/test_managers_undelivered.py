"""What a killed client was waiting for goes to somebody who is there; what cannot be said as it is, is said in words."""

from __future__ import annotations

import os
import queue
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

import shoal
from shoal import managers
from shoal._managers.undelivered import hang_up_of

if TYPE_CHECKING:
    from collections.abc import Iterator

LONG = 20.0
PATIENCE = 5.0


class Queue(queue.Queue):  # type: ignore[type-arg]
    """Tells how many wait in `get`."""

    def waiting(self) -> int:
        return len(self.not_empty._waiters)  # type: ignore[attr-defined]


class Semaphore(threading.Semaphore):
    """Tells how many wait in `acquire`."""

    def waiting(self) -> int:
        return len(self._cond._waiters)  # type: ignore[attr-defined]


class Kinds(managers.BaseManager):
    """Objects that can be waited for."""


Kinds.register("Queue", Queue)
Kinds.register("Semaphore", Semaphore)


class Plain(managers.BaseManager):
    """Serves dicts."""


Plain.register("words", dict, managers.DictProxy)


@pytest.fixture(params=[None, ("127.0.0.1", 0)], ids=["at home", "by TCP"])
def manager(request: pytest.FixtureRequest) -> Iterator[Any]:
    with Kinds(request.param, b"key", ctx=shoal.get_context("fork")) as manager:
        yield manager


def killed_while_it_waits(thing: Any, method: str) -> None:
    """Have a child call a method of something that has to be waited for, and kill it there."""
    child = shoal.get_context("fork").Process(target=thing._callmethod, args=(method,))
    child.start()
    deadline = time.monotonic() + LONG
    while not thing.waiting():
        assert time.monotonic() < deadline
        time.sleep(0.002)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join()


def test_an_item_that_a_killed_client_waited_for_is_not_lost(manager: Any):
    items = manager.Queue()
    killed_while_it_waits(items, "get")
    items.put("first")
    items.put("second")
    assert {items.get(timeout=PATIENCE), items.get(timeout=PATIENCE)} == {"first", "second"}


def test_a_semaphore_that_a_killed_client_waited_for_is_to_be_had(manager: Any):
    semaphore = manager.Semaphore(0)
    killed_while_it_waits(semaphore, "acquire")
    semaphore.release()
    assert semaphore.acquire(timeout=PATIENCE)


def test_a_lock_that_killed_clients_waited_for_is_to_be_had():
    context = shoal.get_context("fork")
    with context.Manager() as manager:
        for lock in (manager.Lock(), manager.RLock(), manager.Condition()):
            lock.acquire()
            children = [context.Process(target=lock.acquire) for _ in range(3)]
            for child in children:
                child.start()
            for child in children:
                os.kill(child.pid, signal.SIGKILL)
                child.join()
            lock.release()
            assert lock.acquire(timeout=PATIENCE)


def test_an_interrupted_get_takes_nothing(manager: Any):
    items = manager.Queue()
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        threading.Thread(target=alarm_when_somebody_waits, args=(items,)).start()
        with pytest.raises(KeyboardInterrupt):
            items.get()
    finally:
        signal.signal(signal.SIGALRM, before)
    items.put("an item")
    assert items.get(timeout=PATIENCE) == "an item"


def alarm_when_somebody_waits(items: Any) -> None:
    while not items.waiting():
        time.sleep(0.002)
    os.kill(os.getpid(), signal.SIGALRM)


def test_an_exception_by_xml_rpc_is_a_remote_error():
    with Plain(serializer="xmlrpclib", ctx=shoal.get_context("fork")) as manager:
        words = manager.words()
        with pytest.raises(managers.RemoteError, match="KeyError: 'nothing'"):
            words.pop("nothing")
        assert words.copy() == {}


def test_several_threads_may_look_whether_a_client_has_hung_up():
    near, far = socket.socketpair()
    has_hung_up = hang_up_of(near.fileno())
    with near, far, ThreadPoolExecutor(4) as threads:
        looks = [threads.submit(lambda: any(has_hung_up() for _ in range(5_000))) for _ in range(4)]
        assert [look.result() for look in looks] == [False] * 4
        far.close()
        assert has_hung_up()
