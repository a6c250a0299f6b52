"""Whoever is interrupted in the middle of a message does not send, or receive, another as a part of it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import struct
import sys
import termios
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from alarms import AlarmError, alarms, handled

from shoal import reduction
from shoal.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MUCH = 10_000_000
SMALL = 1_000
ALARMS = 0.001  # seconds between two


class SignalError(Exception):
    """By a signal handler."""


@pytest.fixture
def interrupt() -> Iterator[Callable[[], None]]:
    def handler(*_: object) -> None:
        raise SignalError

    before = signal.signal(signal.SIGUSR1, handler)
    yield lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, before)


def begin(begun: threading.Event, call: Callable[..., Any], *args: Any) -> None:
    begun.set()
    call(*args)


def receive_in_part(end: Connection, way: Way, part: bytes, interrupt: Callable[[], None]) -> None:
    """Begin to receive, and be interrupted when so much has come of a message."""
    begun = threading.Event()

    def send() -> None:
        begun.wait()
        os.write(way.write, part)
        way.wait_until_read()
        interrupt()

    sender = threading.Thread(target=send)
    sender.start()
    with pytest.raises(SignalError):
        begin(begun, end.recv_bytes)
    sender.join()


class Way(NamedTuple):
    """Descriptors, the second of which receives what is written to the first."""

    write: int
    read: int

    def unread(self) -> int:
        """How many bytes are under way."""
        return int(struct.unpack("i", fcntl.ioctl(self.read, termios.FIONREAD, b"\0" * 4))[0])

    def wait_until_read(self) -> None:
        while self.unread():
            time.sleep(0.001)

    def wait_until_something_is_unread(self) -> None:
        while not self.unread():
            time.sleep(0.001)


def unix() -> Way:
    near, far = socket.socketpair()
    return Way(near.detach(), far.detach())


def tcp() -> Way:
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        return Way(near.detach(), server.accept()[0].detach())


def pipe() -> Way:
    read, write = os.pipe()
    return Way(write, read)


@pytest.fixture(params=[unix, tcp, pipe], ids=lambda way: way.__name__)
def way(request: pytest.FixtureRequest) -> Way:
    return request.param()  # type: ignore[no-any-return]


def framed(data: bytes, long: bool) -> bytes:
    return (struct.pack("!iQ", -1, len(data)) if long else struct.pack("!i", len(data))) + data


@pytest.mark.parametrize("long", [False, True], ids=["short", "long"])
@pytest.mark.parametrize("size", [SMALL, MUCH])
@pytest.mark.parametrize("there", [0, 2, 4, 6, 12, 500])
def test_a_message_whose_receiving_was_interrupted_is_received_by_the_next_call(
    there: int, size: int, long: bool, way: Way, interrupt: Callable[[], None]
):
    first = framed(os.urandom(size), long)
    with Connection(way.read, writable=False) as end:
        receive_in_part(end, way, first[:there], interrupt)

        def send_the_rest() -> None:
            with Connection(way.write, readable=False) as far, open(way.write, "wb", 0, closefd=False) as file:
                rest = memoryview(first)[there:]
                while rest:
                    rest = rest[file.write(rest) :]
                far.send_bytes(b"next")

        sender = threading.Thread(target=send_the_rest)
        sender.start()
        assert end.recv_bytes() == first[-size:]
        assert end.recv_bytes() == b"next"
        sender.join()
        with pytest.raises(EOFError):
            end.recv_bytes()


def test_a_connection_with_a_part_of_a_message_stays_until_the_rest_has_come(way: Way, interrupt: Callable[[], None]):
    with Connection(way.read, writable=False) as end:
        receive_in_part(end, way, b"\0\0\0\7te", interrupt)
        with pytest.raises(OSError, match="receive the rest"):
            reduction.dumps(end)
        os.write(way.write, b"xt, s")
        assert end.recv_bytes() == b"text, s"
        assert reduction.dumps(end)
    os.close(way.write)


def test_the_end_of_file_in_an_interrupted_message_is_told(way: Way, interrupt: Callable[[], None]):
    with Connection(way.read, writable=False) as end:
        receive_in_part(end, way, b"\0\0\0\7text", interrupt)
        os.close(way.write)
        with pytest.raises(OSError, match="end of file during message"):
            end.recv_bytes()


def test_a_message_whose_sending_was_interrupted_is_not_completed_by_the_next(way: Way, interrupt: Callable[[], None]):
    with Connection(way.write, readable=False) as near, Connection(way.read, writable=False) as far:
        begun = threading.Event()

        def interrupt_in_the_middle() -> None:
            begun.wait()
            way.wait_until_something_is_unread()
            interrupt()

        thread = threading.Thread(target=interrupt_in_the_middle)
        thread.start()
        with pytest.raises(SignalError):
            begin(begun, near.send_bytes, b"a" * MUCH)
        thread.join()
        with pytest.raises(OSError):
            near.send_bytes(b"b" * MUCH)
        with pytest.raises(OSError, match="end of file during message"):
            far.recv_bytes()


def test_who_is_interrupted_before_any_of_a_message_is_sent_sends_the_next(way: Way, interrupt: Callable[[], None]):
    with Connection(way.write, readable=False) as near, Connection(way.read, writable=False) as far:
        os.set_blocking(way.write, False)
        filled = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                filled += os.write(way.write, bytes(4096))
        os.set_blocking(way.write, True)
        thread = threading.Timer(0.1, interrupt)
        thread.start()
        with pytest.raises(SignalError):
            near.send_bytes(b"not sent")
        thread.join()

        def send() -> None:
            near.send_bytes(b"next")

        thread = threading.Thread(target=send)
        thread.start()
        while filled:
            filled -= len(os.read(way.read, min(filled, MUCH)))
        assert far.recv_bytes() == b"next"
        thread.join()


def test_who_is_interrupted_while_no_message_has_come_receives_the_next(way: Way, interrupt: Callable[[], None]):
    with Connection(way.write, readable=False) as near, Connection(way.read, writable=False) as far:
        sender = threading.Timer(0.1, interrupt)
        sender.start()
        with pytest.raises(SignalError):
            far.recv_bytes()
        sender.join()
        near.send_bytes(b"next")
        assert far.recv_bytes() == b"next"


def test_a_handler_cannot_send_in_the_middle_of_a_message(way: Way):
    with Connection(way.write, readable=False) as near, Connection(way.read, writable=False) as far:
        raised = []

        def handle(*_: object) -> None:
            try:
                near.send_bytes(b"hello")
            except OSError as error:
                raised.append(str(error))
            begin_to_read.set()

        begin_to_read = threading.Event()
        arrived: list[bytes] = []

        def read() -> None:
            begin_to_read.wait()
            arrived.extend([far.recv_bytes(), far.recv_bytes()])

        reader = threading.Thread(target=read)
        reader.start()
        with handled(handle, 0.1):
            near.send_bytes(b"y" * MUCH)  # more than there is room for
        near.send_bytes(b"next")
        reader.join()
        assert arrived == [b"y" * MUCH, b"next"]
        assert "handler cannot send" in raised[0]


def test_a_handler_cannot_receive_in_the_middle_of_a_message_but_before_one(way: Way):
    with Connection(way.read, writable=False) as end:
        seen: list[object] = []
        first = framed(b"first", long=False)
        rest = framed(b"second", long=False)

        def handle(*_: object) -> None:
            if not seen:  # nothing has come of any
                os.write(way.write, first)
                seen.append(end.recv_bytes())
                os.write(way.write, rest[:6])
                signal.setitimer(signal.ITIMER_REAL, 0.1)
            else:
                try:
                    seen.append(end.recv_bytes())
                except OSError as error:
                    seen.append(str(error))
                os.write(way.write, rest[6:])

        with handled(handle, 0.1):
            assert end.recv_bytes() == b"second"
        os.close(way.write)
        assert seen[0] == b"first"
        assert "handler cannot receive" in str(seen[1])


def numbered(number: int) -> bytes:
    """A message whose contents tell which it is; one in ten is large."""
    return number.to_bytes(4, "big") * (1 + (number * 7919) % (200_000 if number % 10 == 0 else 500))


MESSAGES = 4_000


def test_messages_stay_whole_and_in_order_under_a_storm_of_alarms(way: Way):
    """One that has come may be lost where the alarm comes between the call and its caller. No other is harmed."""
    with Connection(way.write, readable=False) as near, Connection(way.read, writable=False) as far:

        def send() -> None:
            for number in range(1, MESSAGES + 1):
                near.send_bytes(numbered(number))

        sender = threading.Thread(target=send)
        sender.start()
        last = received = interrupted = 0
        with alarms(ALARMS):
            while last < MESSAGES - 10:
                try:
                    data = far.recv_bytes()
                except AlarmError:
                    interrupted += 1
                    continue
                number = int.from_bytes(data[:4], "big")
                assert last < number <= MESSAGES
                assert data == numbered(number)
                last = number
                received += 1
        while last < MESSAGES:
            last = int.from_bytes(far.recv_bytes()[:4], "big")
        sender.join()
        assert interrupted
        assert received > MESSAGES // 2


def test_a_long_message_is_not_lost_to_an_alarm_that_comes_while_its_bytes_are_there(way: Way):
    """It interrupts no wait, and rings when the call looks at signals: that is while the last byte has still to be read."""
    messages, size = 40, 5_000_000
    with Connection(way.write, readable=False) as near, Connection(way.read, writable=False) as far:

        def send() -> None:
            for number in range(messages):
                near.send_bytes(number.to_bytes(4, "big") + bytes(size))
            near.close()

        sender = threading.Thread(target=send)
        sender.start()
        came, interrupted, over = [], 0, False
        with alarms(ALARMS):
            while not over:
                try:
                    came.append(int.from_bytes(far.recv_bytes()[:4], "big"))
                except AlarmError:
                    interrupted += 1
                except EOFError:
                    over = True
        sender.join()
        assert interrupted > messages // 4
        assert came == sorted(set(came))
        # (While the call waits for the sender's thread to let it return, one may ring, still.)
        assert len(came) > messages // 2


def test_what_is_sent_under_a_storm_of_alarms_arrives_whole_or_not_at_all(way: Way):
    """Of the last one a part may have come, whose rest never does: then the connection is closed."""
    with Connection(way.write, readable=False) as near, Connection(way.read, writable=False) as far:
        arrived: list[bytes] = []

        def receive() -> None:
            with contextlib.suppress(EOFError, OSError):
                while True:
                    arrived.append(far.recv_bytes())

        receiver = threading.Thread(target=receive)
        receiver.start()
        sent, number, tried = [], 0, 0
        with alarms(ALARMS):
            while number < MESSAGES and not near.closed:
                number += 1
                try:
                    near.send_bytes(numbered(number))
                    sent.append(number)
                except AlarmError:
                    tried += 1  # and may have arrived
        near.close()
        receiver.join()
        numbers = [int.from_bytes(data[:4], "big") for data in arrived]
        assert arrived == [numbered(number) for number in numbers]
        assert numbers == sorted(set(numbers))
        assert set(sent) <= set(numbers)
        assert tried
