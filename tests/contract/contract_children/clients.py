"""What the tests of ``Listener`` and ``Client`` run in other processes."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import SimpleNamespace

KEY = b"the key"


def call(held: SimpleNamespace, address: Any, *messages: Any, authkey: bytes | None = None) -> list[Any]:
    """Connect, send each message, and return the answers."""
    with held.instance.module("connection").Client(address, authkey=authkey) as connection:
        answers = []
        for message in messages:
            connection.send(message)
            answers.append(connection.recv())
        return answers


def send_and_hang_up(held: SimpleNamespace, address: Any, *messages: Any) -> None:
    with held.instance.module("connection").Client(address) as connection:
        for message in messages:
            connection.send(message)


def name_of(held: SimpleNamespace, address: Any) -> Any:
    """Connect, wait until the other side hangs up, and return what this side's end is called."""
    with held.instance.module("connection").Client(address) as connection:
        with socket.socket(fileno=connection.fileno()) as sock:
            name = sock.getsockname()
            sock.detach()
        return name


def prove(held: SimpleNamespace, authkey: bytes) -> None:
    """Both halves of the challenge, as a client has them."""
    module = held.instance.module("connection")
    module.answer_challenge(held.connection, authkey)
    module.deliver_challenge(held.connection, authkey)


def call_with_xml(held: SimpleNamespace, address: Any, message: Any) -> Any:
    connection = held.instance.module("connection").XmlClient(address, authkey=KEY)
    connection.send(message)
    answer = connection.recv()
    connection.close()
    return answer
