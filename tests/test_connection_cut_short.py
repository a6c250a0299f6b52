"""Whoever is interrupted in the middle of a message does not send, or receive, another as a part of it."""

from __future__ import annotations

import signal
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from shoal.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MUCH = 10_000_000


class SignalError(Exception):
    """By a signal handler."""


@pytest.fixture
def interrupt() -> Iterator[Callable[[], None]]:
    def handler(*_: object) -> None:
        raise SignalError

    before = signal.signal(signal.SIGUSR1, handler)
    yield lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, before)


def connections() -> tuple[Connection, Connection]:
    near, far = socket.socketpair()
    return Connection(near.detach()), Connection(far.detach())


def test_a_message_whose_sending_was_interrupted_is_not_completed_by_the_next(interrupt: Callable[[], None]):
    near, far = connections()
    with near, far:

        def begin_to_read() -> None:
            far._read(100)
            interrupt()

        reader = threading.Thread(target=begin_to_read)
        reader.start()
        with pytest.raises(SignalError):
            near.send_bytes(b"a" * MUCH)
        reader.join()
        with pytest.raises(OSError):
            near.send_bytes(b"b" * MUCH)


def test_the_rest_of_a_message_whose_receiving_was_interrupted_is_not_taken_for_one(interrupt: Callable[[], None]):
    near, far = connections()
    with near, far:

        def send_half() -> None:
            far._write([MUCH.to_bytes(4, "big"), b"a" * (MUCH // 2)])  # returns when most of it has been read
            interrupt()

        sender = threading.Thread(target=send_half)
        sender.start()
        with pytest.raises(SignalError):
            near.recv_bytes()
        sender.join()
        with pytest.raises(OSError):
            near.recv_bytes()


def test_who_is_interrupted_while_no_message_has_come_receives_the_next(interrupt: Callable[[], None]):
    near, far = connections()
    with near, far:
        sender = threading.Timer(0.1, interrupt)
        sender.start()
        with pytest.raises(SignalError):
            near.recv_bytes()
        sender.join()
        far.send_bytes(b"next")
        assert near.recv_bytes() == b"next"
