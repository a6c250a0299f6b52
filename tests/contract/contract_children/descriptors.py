"""What the tests of descriptors in messages run in other processes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket
    from multiprocessing.connection import Connection
    from types import SimpleNamespace


def say(sock: socket.socket, data: bytes) -> int:
    with sock:
        sock.sendall(data)
        return sock.fileno()


def send(connection: Connection, obj: Any) -> None:
    with connection:
        connection.send(obj)


def say_to_the_socket_in_the_queue(held: SimpleNamespace, data: bytes) -> None:
    say(held.queue.get(), data)


def put_a_socket(held: SimpleNamespace) -> None:
    """Into the queue, one end of a pair; the other end says what arrives at it."""
    import socket as sockets  # noqa: PLC0415

    held.kept, other = sockets.socketpair()
    held.queue.put(other)
    other.close()


def hear(held: SimpleNamespace) -> bytes:
    return held.kept.recv(100)


def write_to_what_comes(held: SimpleNamespace, data: bytes) -> None:
    """A descriptor, as ``DupFd`` sends it."""
    fd = held.orders.recv().detach()
    os.write(fd, data)
    os.close(fd)


def write_to_the_handle_that_comes(held: SimpleNamespace, data: bytes) -> None:
    fd = held.instance.module("reduction").recv_handle(held.orders)
    os.write(fd, data)
    os.close(fd)


def send_a_handle(held: SimpleNamespace, fd_of: str) -> None:
    with open(fd_of, "rb") as file:  # noqa: PTH123
        held.instance.module("reduction").send_handle(held.orders, file.fileno(), os.getppid())
        held.orders.recv()
