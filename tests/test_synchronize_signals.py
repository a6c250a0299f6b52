"""A signal that comes during a wait: its handler runs at once, and an exception of it ends the wait with nothing taken and nothing lost."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

import shoal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

mp = shoal.get_context("fork")

LONG = 20.0  # seconds: what must happen happens within them, on a busy machine too
SHORT = 0.05  # seconds: time for a wait to begin


@contextmanager
def later(action: Callable[[], object], seconds: float = 2 * SHORT) -> Iterator[None]:
    """Do something while this thread waits."""
    timer = threading.Timer(seconds, action)
    timer.start()
    try:
        yield
    finally:
        timer.join()


def send() -> None:
    os.kill(os.getpid(), signal.SIGUSR1)


class InterruptionError(Exception):
    pass


@pytest.fixture
def interrupted() -> Iterator[Callable[[], Any]]:
    """A context in which this process gets a signal whose handler raises."""

    def handler(*_: object) -> None:
        raise InterruptionError

    before = signal.signal(signal.SIGUSR1, handler)
    yield lambda: later(send)
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("kind", ["Lock", "Semaphore", "Event", "Barrier"])
@pytest.mark.parametrize("timeout", [None, LONG])
def test_a_signal_ends_a_wait(kind: str, timeout: float | None, interrupted: Callable[[], Any]):
    thing = mp.Barrier(2) if kind == "Barrier" else getattr(mp, kind)()
    if kind in {"Lock", "Semaphore"}:
        thing.acquire()
        wait = partial(thing.acquire, True)
    else:
        wait = thing.wait
    with interrupted(), pytest.raises(InterruptionError):
        wait(timeout)
    if kind == "Barrier":
        assert (thing.n_waiting, thing.broken) == (0, False), "whoever is interrupted has not arrived"


def test_an_interrupted_wait_on_a_condition_holds_the_lock_again(interrupted: Callable[[], Any]):
    condition = mp.Condition()
    with condition:
        with interrupted(), pytest.raises(InterruptionError):
            condition.wait()
        assert "MainProcess, 1" in repr(condition)
        assert condition.wait(0) is False


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_a_second_signal_leaves_a_wait_without_the_lock_and_its_block_with_that_signals_exception(
    kind: str, interrupted: Callable[[], Any]
):
    condition, taken, done = mp.Condition(getattr(mp, kind)()), threading.Event(), threading.Event()

    def hold() -> None:
        with condition:
            taken.set()
            done.wait(LONG)

    def send_twice() -> None:
        taken.wait(LONG)
        for _ in range(2):
            with interrupted():
                pass

    holder, sender = threading.Thread(target=hold), threading.Thread(target=send_twice)

    def wait() -> None:
        with condition:
            holder.start()
            sender.start()
            condition.wait()

    with pytest.raises(InterruptionError):
        wait()
    assert not done.is_set()
    done.set()
    holder.join()
    sender.join()
    with condition:
        assert condition.wait(0) is False


def test_a_handler_that_raises_nothing_does_not_end_a_wait():
    event, seen = mp.Event(), []
    before = signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
    try:
        with later(send), later(event.set, 4 * SHORT):
            assert event.wait(LONG) is True
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen == [1]
