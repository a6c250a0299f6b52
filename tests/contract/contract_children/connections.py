"""What the tests of ``Pipe`` and ``Connection`` run in other processes."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from types import SimpleNamespace

# Around the sizes at which transports change their ways: headers, pages, segments, socket buffers.
SIZES = [0, 1, 15, 16, 17, 255, 4095, 4096, 4097, 16384, *range(65536 - 40, 65536 + 9, 4), 131072, 300_001, 1 << 20]


def echo_until_none(connection: Connection) -> None:
    while (obj := connection.recv()) is not None:
        connection.send(obj)


def send_and_leave(connection: Connection, number: int, how: str) -> None:
    """Send the numbers below ``number`` and end in the way named."""
    for item in range(number):
        connection.send(item)
    if how == "close":
        connection.close()
    elif how == "os._exit":
        os._exit(0)
    elif how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)


def send_sizes(connection: Connection) -> None:
    for size in SIZES:
        connection.send_bytes(pattern(size))
        connection.send(pattern(size))


def pattern(size: int) -> bytes:
    """Bytes in which every misplaced piece shows."""
    return b"".join(number.to_bytes(4, "little") for number in range((size + 3) // 4))[:size]


def send_many(held: SimpleNamespace, name: str, number: int) -> None:
    for item in range(number):
        with held.lock:
            held.sender.send((name, item))


def send_large(held: SimpleNamespace, number: int, size: int) -> int:
    for _ in range(number):
        held.sender.send_bytes(bytes(size))
    return number


def receive_many(held: SimpleNamespace) -> list[Any]:
    """Everything up to the first None, which is for one receiver."""
    return list(iter(held.receiver.recv, None))


def use_what_comes(held: SimpleNamespace, *message: Any) -> Any:
    """Receive a connection and send something through it."""
    connection = held.orders.recv()
    connection.send(message)
    connection.close()


def write_to_the_socket_that_comes(held: SimpleNamespace, data: bytes) -> None:
    with held.orders.recv() as socket:
        socket.sendall(data)
