"""``Connection``: waiting for a message, a clear word when the other end has gone, and ends that several processes hold."""

from __future__ import annotations

import os
import select
import selectors
import socket
import threading
from typing import TYPE_CHECKING

import pytest
from contract_children import connections as child
from contract_children.waiting import LONG, SHORT

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import BaseContext

    from contract_children.instances import Instance
    from contract_children.partner import Partner

MEGABYTES_10 = 10 * 1024 * 1024

# --- waiting -------------------------------------------------------------------------------------------------------------


def test_poll_tells_whether_a_message_has_come(mp: BaseContext, partners: Callable[..., Partner]):
    receiver, sender = mp.Pipe(duplex=False)
    assert receiver.poll() is False
    assert receiver.poll(0) is False
    assert receiver.poll(SHORT) is False
    partner = partners(sender=sender)
    partner.tell("sender.send", "first")
    assert receiver.poll(LONG) is True
    assert receiver.poll() is True, "looking takes nothing away"
    partner.tell("sender.send", "second")
    assert receiver.recv() == "first"
    assert receiver.poll(None) is True
    assert receiver.recv() == "second"
    assert receiver.poll() is False


def test_poll_is_true_at_the_end(mp: BaseContext):
    receiver, sender = mp.Pipe(duplex=False)
    sender.close()
    assert receiver.poll() is True
    assert receiver.poll(None) is True
    with pytest.raises(EOFError):
        receiver.recv()


@pytest.mark.parametrize("duplex", [True, False], ids=["duplex", "simplex"])
def test_fileno_is_readable_exactly_while_there_is_something_to_read(mp: BaseContext, duplex: bool):
    receiver, sender = mp.Pipe(duplex)
    assert isinstance(receiver.fileno(), int)
    poll = select.poll()
    poll.register(receiver, select.POLLIN)
    with selectors.DefaultSelector() as selector:
        selector.register(receiver, selectors.EVENT_READ)

        def readable() -> bool:
            views = {
                bool(selector.select(0)),
                bool(select.select([receiver.fileno()], [], [], 0)[0]),
                bool(poll.poll(0)),
            }
            assert len(views) == 1, "select, poll and epoll agree"
            return views.pop()

        assert not readable()
        for obj in ("first", bytes(30_000), "third"):
            sender.send(obj)
        for _ in range(3):
            assert readable()
            assert readable()
            receiver.recv()
        assert not readable()

        thread = threading.Thread(target=sender.send, args=(bytes(MEGABYTES_10),))
        thread.start()
        assert selector.select(LONG)
        assert len(receiver.recv()) == MEGABYTES_10
        thread.join()
        assert not readable()

        sender.close()
        assert readable()
        with pytest.raises(EOFError):
            receiver.recv()
        assert readable(), "the end stays to be seen"


def test_fileno_wakes_a_selector_when_a_child_sends(mp: BaseContext, partners: Callable[..., Partner]):
    receiver, sender = mp.Pipe(duplex=False)
    partner = partners(sender=sender)
    with selectors.DefaultSelector() as selector:
        selector.register(receiver, selectors.EVENT_READ)
        for number in range(50):
            assert selector.select(0) == []
            partner.tell("sender.send", number)
            assert selector.select(LONG)
            assert receiver.recv() == number
            partner.answer()


def test_wait_gives_everything_that_is_ready(mp: BaseContext, instance: Instance, partners: Callable[..., Partner]):
    wait = instance.module("connection").wait
    pipes = [mp.Pipe(duplex=False) for _ in range(10)]
    receivers = [receiver for receiver, _ in pipes]
    partner = partners(sender=pipes[3][1])
    pipes[9] = mp.Pipe(duplex=False)  # made now: a forked partner holds both ends of the others
    receivers[9] = pipes[9][0]
    ours, theirs = socket.socketpair()
    with ours, theirs:
        everything = [*receivers, ours, partner.process.sentinel]
        assert wait([], 0) == []
        assert wait(everything, 0) == []
        assert wait(everything, SHORT) == []

        partner.tell("sender.send", "message")
        assert wait(everything, LONG) == [receivers[3]]
        pipes[7][1].send("message")
        theirs.send(b"bytes")
        pipes[9][1].close()
        ready = wait(iter(everything))
        assert sorted(map(everything.index, ready)) == [3, 7, 9, 10]

        assert receivers[3].recv() == receivers[7].recv() == "message"
        assert ours.recv(5) == b"bytes"
        with pytest.raises(EOFError):
            receivers[9].recv()
        everything.remove(receivers[9])
        assert wait(everything, 0) == []
        partner.leave()
        assert wait(everything, LONG) == [partner.process.sentinel]


# --- the other end goes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "return", "os._exit", "kill"])
@pytest.mark.parametrize("duplex", [True, False], ids=["duplex", "simplex"])
def test_what_was_sent_is_received_before_the_end_is(mp: BaseContext, how: str, duplex: bool):
    receiver, sender = mp.Pipe(duplex)
    process = mp.Process(target=child.send_and_leave, args=(sender, 20, how))
    process.start()
    sender.close()
    process.join(LONG)
    assert [receiver.recv() for _ in range(20)] == list(range(20))
    for _ in range(2):
        with pytest.raises(EOFError):
            receiver.recv()
    with pytest.raises(EOFError):
        receiver.recv_bytes()
    with pytest.raises(EOFError):
        receiver.recv_bytes_into(bytearray(9))
    assert receiver.poll() is True
    assert not receiver.closed


def test_a_receiver_that_waits_is_told_of_the_end(mp: BaseContext):
    ours, theirs = mp.Pipe()
    end = mp.Process(target=child.echo_until_none, args=(theirs,))
    end.start()
    theirs.close()
    outcome: list[BaseException] = []

    def receive() -> None:
        try:
            ours.recv()
        except EOFError as error:
            outcome.append(error)

    thread = threading.Thread(target=receive)
    thread.start()
    end.kill()
    end.join(LONG)
    thread.join(LONG)
    assert len(outcome) == 1


@pytest.mark.parametrize("duplex", [True, False], ids=["duplex", "simplex"])
def test_sending_to_nobody_is_a_broken_pipe(mp: BaseContext, duplex: bool):
    receiver, sender = mp.Pipe(duplex)
    receiver.close()
    for _ in range(2):
        with pytest.raises(BrokenPipeError):
            sender.send("anybody?")
    with pytest.raises(BrokenPipeError):
        sender.send_bytes(b"anybody?")
    with pytest.raises(BrokenPipeError):
        sender.send(bytes(MEGABYTES_10))


def test_sending_to_a_process_that_was_killed_is_a_broken_pipe(mp: BaseContext):
    ours, theirs = mp.Pipe()
    process = mp.Process(target=child.echo_until_none, args=(theirs,))
    process.start()
    theirs.close()
    ours.send("here")
    assert ours.recv() == "here"
    process.kill()
    process.join(LONG)
    with pytest.raises(BrokenPipeError):
        ours.send("anybody?")


def test_a_closed_connection_refuses_everything_but_closing(mp: BaseContext):
    one, other = mp.Pipe()
    assert one.closed is False
    one.close()
    one.close()
    assert one.closed is True
    uses = [
        lambda: one.send(1),
        lambda: one.send_bytes(b"1"),
        one.recv,
        one.recv_bytes,
        lambda: one.recv_bytes_into(bytearray(1)),
        one.poll,
        one.fileno,
    ]
    for use in uses:
        with pytest.raises(OSError, match="handle is closed"):
            use()
    with other as entered:
        assert entered is other
    assert other.closed is True


def test_closing_frees_the_descriptor(mp: BaseContext):
    one, other = mp.Pipe()
    numbers = one.fileno(), other.fileno()
    one.close()
    del other
    for number in numbers:
        with pytest.raises(OSError):
            os.fstat(number)


# --- several holders -----------------------------------------------------------------------------------------------------


def test_an_end_held_by_two_is_at_its_end_when_both_have_let_go(mp: BaseContext, partners: Callable[..., Partner]):
    receiver, sender = mp.Pipe(duplex=False)
    one = partners(sender=sender)
    other = partners(sender=sender)
    sender.close()
    one.ask("sender.send", "from one")
    one.ask("sender.close")
    other.ask("sender.send", "from other")
    assert [receiver.recv(), receiver.recv()] == ["from one", "from other"]
    if mp.get_start_method() != "fork":  # where the second would hold what the first one was given
        one.leave()
    assert not receiver.poll(SHORT)
    other.ask("sender.close")
    one.leave()
    other.leave()
    assert receiver.poll(LONG)
    with pytest.raises(EOFError):
        receiver.recv()


def test_two_that_send_through_one_end_in_turn_lose_nothing(mp: BaseContext, partners: Callable[..., Partner]):
    receiver, sender = mp.Pipe(duplex=False)
    lock = mp.Lock()
    both = {name: partners(sender=sender, lock=lock) for name in ("one", "other")}
    for name, partner in both.items():
        partner.tell(child.send_many, name, 500)
    received = [receiver.recv() for _ in range(1000)]
    for name, partner in both.items():
        partner.answer()
        assert [number for sender_name, number in received if sender_name == name] == list(range(500))


def test_two_that_receive_from_one_end_in_turn_each_get_the_next_message(
    mp: BaseContext, partners: Callable[..., Partner]
):
    receiver, sender = mp.Pipe(duplex=False)
    both = [partners(receiver=receiver), partners(receiver=receiver)]
    for number in range(50):
        sender.send(number)
    for number in range(50):
        assert both[number % 2].ask("receiver.recv") == number
    assert not both[0].ask("receiver.poll")
    sender.send("one more")
    assert [partner.ask("receiver.poll", LONG) for partner in both] == [True, True]
    assert both[1].ask("receiver.recv") == "one more"
    assert [partner.ask("receiver.poll") for partner in both] == [False, False]
    assert not receiver.poll()


@pytest.mark.shoal_only("concurrent readers of a standard pipe tear each other's messages apart")
def test_two_that_receive_from_one_end_at_once_get_each_message_once(mp: BaseContext, partners: Callable[..., Partner]):
    receiver, sender = mp.Pipe(duplex=False)
    both = [partners(receiver=receiver), partners(receiver=receiver)]
    for partner in both:
        partner.tell(child.receive_many)
    for number in range(1000):
        sender.send(number)
    sender.send(None)
    sender.send(None)
    received = [partner.answer() for partner in both]
    assert sorted(received[0] + received[1]) == list(range(1000))
    assert all(part == sorted(part) for part in received)


def test_a_connection_travels_in_a_message(mp: BaseContext, partners: Callable[..., Partner]):
    orders, theirs = mp.Pipe()
    partner = partners(orders=theirs)
    receiver, sender = mp.Pipe(duplex=False)
    partner.tell(child.use_what_comes, "through", "the sent one")
    orders.send(sender)
    partner.answer()
    assert receiver.recv() == ("through", "the sent one")
    sender.close()
    with pytest.raises(EOFError):
        receiver.recv()


def test_a_connection_travels_with_what_is_in_it(mp: BaseContext, partners: Callable[..., Partner]):
    orders, theirs = mp.Pipe()
    partner = partners(orders=theirs)
    one, other = mp.Pipe()
    one.send("waiting")
    orders.send(other)
    partner.tell("orders.recv")
    received = partner.answer()
    assert received.recv() == "waiting"
    one.send("more")
    assert received.recv() == "more"
    received.close()


def test_a_process_can_be_started_after_a_connection_was_sent(mp: BaseContext, partners: Callable[..., Partner]):
    orders, theirs = mp.Pipe()
    partner = partners(orders=theirs)
    receiver, sender = mp.Pipe(duplex=False)
    orders.send(sender)
    partner.tell(child.use_what_comes, "through")
    partner.answer()
    partner.leave()
    another = partners(receiver=receiver)  # shoal would warn of a fork beside a thread, were there one
    assert another.ask("receiver.recv") == ("through",)


def test_a_socket_travels_in_a_message(mp: BaseContext, partners: Callable[..., Partner]):
    orders, theirs = mp.Pipe()
    partner = partners(orders=theirs)
    ours, sent = socket.socketpair()
    with ours:
        partner.tell(child.write_to_the_socket_that_comes, b"through the socket")
        with sent:
            orders.send(sent)
            partner.answer()
        assert ours.recv(100) == b"through the socket"
        assert ours.recv(1) == b""


# --- plain descriptors ---------------------------------------------------------------------------------------------------


def test_a_connection_can_be_made_of_a_plain_descriptor(instance: Instance):
    kind = instance.module("connection").Connection
    reading, writing = os.pipe()
    with kind(reading, writable=False) as receiver, kind(writing, readable=False) as sender:
        assert receiver.fileno() == reading
        sender.send({"an": "object"})
        sender.send_bytes(b"bytes")
        assert receiver.poll(LONG)
        assert receiver.recv() == {"an": "object"}
        assert receiver.recv_bytes() == b"bytes"
        sender.close()
        with pytest.raises(EOFError):
            receiver.recv()
    with pytest.raises(ValueError):
        kind(-1)
    reading, writing = os.pipe()
    os.close(writing)
    with pytest.raises(ValueError):
        kind(reading, readable=False, writable=False)
    os.close(reading)
