"""Connections: ``Pipe``, ``Connection``, ``Listener``, ``Client`` and ``wait``.

The ends of a `Pipe` exchange their messages through shared memory; a `Connection` is one over a descriptor, in the standard library's framing; a `Listener` and its
`Client` make such connections between processes that need not be of one tree, nor on one machine, nor both shoal's. What they do is in ``shoal._connection``.

Other names of the standard module, private ones included, are found here too and mean what they mean there.
"""

from __future__ import annotations

from shoal import _standard
from shoal._connection.addresses import address_type, arbitrary_address, default_family, families
from shoal._connection.authentication import AuthenticationError, answer_challenge, deliver_challenge
from shoal._connection.client import Client
from shoal._connection.listener import Listener
from shoal._connection.messages import BufferTooShort
from shoal._connection.pipe import Pipe, PipeEnd
from shoal._connection.sockets import SocketClient, SocketListener
from shoal._connection.stream import Connection, rebuild_connection, reduce_connection
from shoal._connection.waiting import wait
from shoal._connection.xml import ConnectionWrapper, XmlClient, XmlListener

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    # Names that are used within shoal's own modules, for the type checker.
    __all__ = [
        "AuthenticationError",
        "BufferTooShort",
        "Client",
        "Connection",
        "ConnectionWrapper",
        "Listener",
        "Pipe",
        "PipeEnd",
        "SocketClient",
        "SocketListener",
        "XmlClient",
        "XmlListener",
        "address_type",
        "answer_challenge",
        "arbitrary_address",
        "default_family",
        "deliver_challenge",
        "families",
        "rebuild_connection",
        "reduce_connection",
        "wait",
    ]

__all__ = ["Client", "Listener", "Pipe", "wait"]

CONNECTION_TIMEOUT = 20.0  # seconds; what the standard module calls so

_HERE = __name__
for _public in (
    Client,
    Connection,
    ConnectionWrapper,
    Listener,
    Pipe,
    PipeEnd,
    SocketClient,
    SocketListener,
    XmlClient,
    XmlListener,
    address_type,
    answer_challenge,
    arbitrary_address,
    deliver_challenge,
    rebuild_connection,
    reduce_connection,
    wait,
):
    _public.__module__ = _HERE
del _public


def __getattr__(name: str) -> Any:
    return getattr(_standard.connection, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *dir(_standard.connection)})
