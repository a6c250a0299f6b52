"""Sockets, connections and bare descriptors in messages and arguments."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

import pytest
from contract_children import descriptors as child
from contract_children.waiting import LONG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.context import BaseContext
    from multiprocessing.pool import Pool
    from pathlib import Path

    from contract_children.instances import Instance
    from contract_children.partner import Partner


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.settimeout(LONG)
    with ours, theirs:
        yield ours, theirs


def hears(ours: socket.socket, data: bytes) -> bool:
    """Whether that is what somebody says on the other end."""
    return ours.recv(len(data), socket.MSG_WAITALL) == data


def test_a_socket_goes_with_a_processs_arguments(mp: BaseContext, pair: tuple[socket.socket, socket.socket]):
    process = mp.Process(target=child.say, args=(pair[1], b"argument"))
    process.start()
    assert hears(pair[0], b"argument")
    process.join(LONG)
    assert process.exitcode == 0


def test_a_socket_goes_through_a_queue(
    mp: BaseContext, partners: Callable[..., Partner], pair: tuple[socket.socket, socket.socket]
):
    queue = mp.Queue()
    partner = partners(queue=queue)
    queue.put(pair[1])
    partner.ask(child.say_to_the_socket_in_the_queue, b"through a queue")
    assert hears(pair[0], b"through a queue")


def test_a_socket_comes_out_of_a_queue(mp: BaseContext, partners: Callable[..., Partner]):
    queue = mp.SimpleQueue()
    partner = partners(queue=queue)
    partner.ask(child.put_a_socket)
    with queue.get() as sock:
        assert (sock.family, sock.type) == (socket.AF_UNIX, socket.SOCK_STREAM)
        sock.sendall(b"back")
        assert partner.ask(child.hear) == b"back"


def test_a_socket_is_an_argument_of_a_pools_task(pool: Pool, pair: tuple[socket.socket, socket.socket]):
    assert pool.apply(child.say, (pair[1], b"task")) >= 0
    assert hears(pair[0], b"task")


def test_a_connection_is_an_argument_of_a_pools_task(mp: BaseContext, pool: Pool):
    receiver, sender = mp.Pipe(duplex=False)
    pool.apply(child.send, (sender, ["from", "a", "worker"]))
    assert receiver.recv() == ["from", "a", "worker"]


@pytest.mark.parametrize("over", ["pipe", "socket"])
def test_a_connection_over_a_socket_travels_too(
    mp: BaseContext, instance: Instance, partners: Callable[..., Partner], over: str
):
    connection = instance.module("connection")
    ours, theirs = (connection.Connection(end.detach()) for end in socket.socketpair())
    if over == "pipe":
        there, here = mp.Pipe()
    else:
        there, here = (connection.Connection(end.detach()) for end in socket.socketpair())
    partner = partners(orders=there, instance=instance)
    from contract_children.connections import use_what_comes  # noqa: PLC0415

    partner.tell(use_what_comes, "a", 1)
    here.send(theirs)
    assert ours.recv() == ("a", 1)
    partner.answer()
    for end in (ours, theirs, here, there):
        end.close()


def test_a_descriptor_travels_as_dupfd(mp: BaseContext, instance: Instance, partners: Callable[..., Partner]):
    there, here = mp.Pipe()
    partner = partners(orders=there, instance=instance)
    reader, writer = os.pipe()
    partner.tell(child.write_to_what_comes, b"bytes")
    here.send(instance.module("reduction").DupFd(writer))
    os.close(writer)  # a copy was made
    partner.answer()
    assert os.read(reader, 100) == b"bytes"
    assert os.read(reader, 100) == b"", "nobody holds a copy any more"
    os.close(reader)


def test_a_handle_is_sent_and_received(mp: BaseContext, instance: Instance, partners: Callable[..., Partner]):
    there, here = mp.Pipe()
    partner = partners(orders=there, instance=instance)
    reader, writer = os.pipe()
    partner.tell(child.write_to_the_handle_that_comes, b"bytes")
    instance.module("reduction").send_handle(here, writer, partner.process.pid)
    partner.answer()
    assert os.read(reader, 100) == b"bytes"
    os.close(reader)
    os.close(writer)


def test_a_handle_comes_back(mp: BaseContext, instance: Instance, partners: Callable[..., Partner], tmp_path: Path):
    there, here = mp.Pipe()
    partner = partners(orders=there, instance=instance)
    file = tmp_path / "file"
    file.write_text("content", encoding="utf-8")
    partner.tell(child.send_a_handle, str(file))
    fd = instance.module("reduction").recv_handle(here)
    here.send("have it")
    partner.answer()
    assert os.read(fd, 100) == b"content"
    os.close(fd)


def test_descriptors_are_sent_over_a_socket(instance: Instance, pair: tuple[Any, Any]):
    reduction = instance.module("reduction")
    reader, writer = os.pipe()
    reduction.sendfds(pair[0], [reader, writer])
    received = reduction.recvfds(pair[1], 2)
    os.write(received[1], b"bytes")
    assert os.read(received[0], 100) == b"bytes"
    pair[0].close()
    with pytest.raises(EOFError):
        reduction.recvfds(pair[1], 1)
    for fd in (reader, writer, *received):
        os.close(fd)
