"""``Pipe`` and ``Connection``: messages arrive whole and in order."""

from __future__ import annotations

import array
import threading
import time
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from contract_children import connections as child
from contract_children.waiting import LONG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection
    from multiprocessing.context import BaseContext

    from contract_children.partner import Partner

MEGABYTES_10 = 10 * 1024 * 1024


@dataclass(frozen=True)
class Point:
    x: int
    y: int


@pytest.fixture
def echo(mp: BaseContext) -> Iterator[Connection]:
    """A connection whose other end, in a child, sends back what it receives."""
    ours, theirs = mp.Pipe()
    process = mp.Process(target=child.echo_until_none, args=(theirs,))
    process.start()
    theirs.close()
    yield ours
    ours.send(None)
    process.join(LONG)
    assert process.exitcode == 0
    ours.close()


# --- what arrives --------------------------------------------------------------------------------------------------------

OBJECTS = [
    None,
    True,
    0,
    -1,
    2**63 - 1,
    -(2**63),
    2**64,
    10**100,
    0.1,
    float("inf"),
    "",
    "text",
    "Grüße \N{FISH} \0 \ud800",
    b"",
    b"\0bytes",
    bytearray(b"mutable"),
    (),
    (1, "a", None, 2.5, b"b", True),
    ((1, (2, (3,))),),
    [1, [2, [3]]],
    {"a": {1: {2, 3}}, None: frozenset([4])},
    1 + 2j,
    range(5),
    Decimal("1.10"),
    ValueError("as a value", 1),
    time.gmtime(0),
    int,
    len,
]


def test_objects_arrive_as_they_were_sent(echo: Connection):
    for obj in OBJECTS:
        if obj is None:
            continue
        echo.send(obj)
        received = echo.recv()
        assert type(received) is type(obj)
        assert repr(received) == repr(obj)


def test_an_object_that_occurs_twice_in_a_message_arrives_as_one(mp: BaseContext):
    receiver, sender = mp.Pipe(duplex=False)
    shared: list[Any] = [1]
    shared.append(shared)
    sender.send((shared, shared))
    first, second = receiver.recv()
    assert first is second is first[1]


def test_instances_of_ones_own_classes_arrive(mp: BaseContext):
    receiver, sender = mp.Pipe(duplex=False)
    sender.send([Point(1, 2), Point(3, 4)])
    assert receiver.recv() == [Point(1, 2), Point(3, 4)]


def test_a_sender_goes_on_when_its_receiver_has_taken_enough(mp: BaseContext, partners: Callable[..., Partner]):
    receiver, sender = mp.Pipe(duplex=False)
    partner = partners(sender=sender)
    partner.tell(child.send_large, 3, 1 << 20)
    assert receiver.poll(LONG)
    assert [len(receiver.recv_bytes()) for _ in range(3)] == [1 << 20] * 3
    assert partner.answer() == 3


@pytest.mark.parametrize(
    "make", [bytes, bytearray, lambda size: "é" * (size // 2), lambda size: [bytes(size // 10)] * 10]
)
def test_ten_megabytes_arrive_there_and_back(echo: Connection, make: Callable[[int], Any]):
    obj = make(MEGABYTES_10)
    echo.send(obj)
    received = echo.recv()
    assert type(received) is type(obj)
    assert received == obj
    echo.send("and then")
    assert echo.recv() == "and then"


def test_messages_of_any_size_arrive_whole_and_in_order(mp: BaseContext):
    receiver, sender = mp.Pipe(duplex=False)
    process = mp.Process(target=child.send_sizes, args=(sender,))
    process.start()
    sender.close()
    for size in child.SIZES:
        assert receiver.recv_bytes() == child.pattern(size)
        assert receiver.recv() == child.pattern(size)
    with pytest.raises(EOFError):
        receiver.recv()
    process.join(LONG)


def test_many_messages_stay_in_order(echo: Connection):
    for number in range(200):
        echo.send(number)
    assert [echo.recv() for _ in range(200)] == list(range(200))
    for number in range(2000):
        echo.send(number)
        assert echo.recv() == number


def test_both_directions_work_at_once(mp: BaseContext):
    one, other = mp.Pipe()
    one.send("from one")
    other.send("from other")
    one.send("again")
    assert (other.recv(), one.recv(), other.recv()) == ("from one", "from other", "again")
    assert not one.poll()
    assert not other.poll()


def test_a_simplex_pipe_has_one_end_to_read_and_one_to_write(mp: BaseContext):
    receiver, sender = mp.Pipe(duplex=False)
    assert (receiver.readable, receiver.writable) == (True, False)
    assert (sender.readable, sender.writable) == (False, True)
    with pytest.raises(OSError, match="read-only"):
        receiver.send(1)
    with pytest.raises(OSError, match="read-only"):
        receiver.send_bytes(b"1")
    for use in (sender.recv, sender.recv_bytes, lambda: sender.recv_bytes_into(bytearray(1)), sender.poll):
        with pytest.raises(OSError, match="write-only"):
            use()
    one, other = mp.Pipe(True)
    assert (one.readable, one.writable, other.readable, other.writable) == (True, True, True, True)


# --- bytes ---------------------------------------------------------------------------------------------------------------


def test_send_bytes_sends_the_part_it_is_told(mp: BaseContext):
    receiver, sender = mp.Pipe(duplex=False)
    for arguments in [(), (2,), (2, 3), (0, 0), (6, 0), (6,), (0, 6)]:
        sender.send_bytes(b"012345", *arguments)
    sender.send_bytes(bytearray(b"mutable"))
    sender.send_bytes(memoryview(b"a view")[2:])
    sender.send_bytes(array.array("i", [1, 2, 3]), 4, 4)
    sender.send_bytes(b"012345", offset=1, size=None)
    assert [receiver.recv_bytes() for _ in range(7)] == [b"012345", b"2345", b"234", b"", b"", b"", b"012345"]
    assert [receiver.recv_bytes() for _ in range(4)] == [b"mutable", b"view", array.array("i", [2]).tobytes(), b"12345"]


def test_send_bytes_refuses_a_part_that_is_not_there(mp: BaseContext):
    receiver, sender = mp.Pipe(duplex=False)
    for arguments in [(-1,), (7,), (0, -1), (0, 7), (4, 3)]:
        with pytest.raises(ValueError):
            sender.send_bytes(b"012345", *arguments)
    with pytest.raises(TypeError):
        sender.send_bytes("text")
    assert not receiver.poll()
    sender.send_bytes(b"still good")
    assert receiver.recv_bytes() == b"still good"


def test_recv_bytes_takes_messages_up_to_the_length_allowed(mp: BaseContext):
    receiver, sender = mp.Pipe(duplex=False)
    with pytest.raises(ValueError):
        receiver.recv_bytes(-1)
    sender.send_bytes(b"12345")
    assert receiver.recv_bytes(5) == b"12345"
    sender.send_bytes(b"")
    assert receiver.recv_bytes(0) == b""
    sender.send_bytes(b"12345")
    assert receiver.recv_bytes(maxlength=None) == b"12345"


def test_a_message_longer_than_allowed_ends_the_reading(mp: BaseContext):
    receiver, sender = mp.Pipe(duplex=False)
    sender.send_bytes(b"123456")
    with pytest.raises(OSError, match="bad message length"):
        receiver.recv_bytes(5)
    assert receiver.closed

    one, other = mp.Pipe()
    other.send_bytes(b"123456")
    with pytest.raises(OSError, match="bad message length"):
        one.recv_bytes(5)
    assert (one.closed, one.readable, one.writable) == (False, False, True)
    with pytest.raises(OSError, match="write-only"):
        one.recv_bytes()
    one.send("the other direction still works")
    assert other.recv() == "the other direction still works"


def test_recv_bytes_into_fills_a_buffer_from_an_offset(mp: BaseContext):
    receiver, sender = mp.Pipe(duplex=False)
    buffer = bytearray(b"." * 8)
    sender.send_bytes(b"abc")
    assert receiver.recv_bytes_into(buffer) == 3
    assert buffer == b"abc....."
    sender.send_bytes(b"def")
    assert receiver.recv_bytes_into(buffer, 5) == 3
    assert buffer == b"abc..def"
    sender.send_bytes(b"")
    assert receiver.recv_bytes_into(buffer, offset=8) == 0

    numbers = array.array("i", [0] * 4)
    sender.send_bytes(array.array("i", [7, 8]))
    assert receiver.recv_bytes_into(numbers, 2 * numbers.itemsize) == 2 * numbers.itemsize
    assert list(numbers) == [0, 0, 7, 8]

    large = bytearray(300_000)
    data = child.pattern(200_000)
    thread = threading.Thread(target=sender.send_bytes, args=(data,))
    thread.start()
    assert receiver.recv_bytes_into(large, 1) == len(data)
    thread.join()
    assert large == b"\0" + data + bytes(99_999)


@pytest.mark.shoal_only("the standard library takes the message, then looks at the buffer")
def test_a_buffer_that_cannot_be_written_to_costs_nothing(mp: BaseContext):
    receiver, sender = mp.Pipe(duplex=False)
    sender.send_bytes(b"the whole message")
    with pytest.raises(TypeError, match="writable"):
        receiver.recv_bytes_into(bytes(17))
    assert receiver.recv_bytes() == b"the whole message"


def test_a_buffer_too_short_costs_nothing(mp: BaseContext):
    receiver, sender = mp.Pipe(duplex=False)
    for offset in (0, 2):
        sender.send_bytes(b"the whole message")
        buffer = bytearray(4)
        with pytest.raises(mp.BufferTooShort) as caught:
            receiver.recv_bytes_into(buffer, offset)
        assert caught.value.args == (b"the whole message",)
    sender.send_bytes(b"next")
    assert receiver.recv_bytes_into(buffer) == 4
    assert buffer == b"next"
    for offset in (-1, 5):
        with pytest.raises(ValueError):
            receiver.recv_bytes_into(buffer, offset)
