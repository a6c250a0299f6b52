"""Connections whose objects travel as XML-RPC instead of pickles: ``XmlListener`` and ``XmlClient``. Nothing that arrives can run code."""

from __future__ import annotations

from shoal._connection.client import Client
from shoal._connection.listener import Listener

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["ConnectionWrapper", "XmlClient", "XmlListener"]


class ConnectionWrapper:
    """A connection whose objects are turned into bytes, and back, by the given functions."""

    def __init__(self, conn: Any, dumps: Callable[[Any], bytes], loads: Callable[[bytes], Any]) -> None:
        self._conn = conn
        self._dumps = dumps
        self._loads = loads
        for name in ("fileno", "close", "poll", "recv_bytes", "send_bytes"):
            setattr(self, name, getattr(conn, name))

    def send(self, obj: Any) -> None:
        """Send an object."""
        self._conn.send_bytes(self._dumps(obj))

    def recv(self) -> Any:
        """Receive an object."""
        return self._loads(self._conn.recv_bytes())


def _dumps(obj: Any) -> bytes:
    from xmlrpc import client  # noqa: PLC0415 - for these connections only

    return client.dumps((obj,), allow_none=True).encode("utf-8")


def _loads(data: bytes) -> Any:
    from xmlrpc import client  # noqa: PLC0415 - for these connections only

    (obj,), _ = client.loads(data.decode("utf-8"))
    return obj


class XmlListener(Listener):
    """A `Listener` whose connections speak XML-RPC."""

    def accept(self) -> Any:
        """Return the next connection, see `Listener.accept`."""
        return ConnectionWrapper(super().accept(), _dumps, _loads)


def XmlClient(*args: Any, **kwds: Any) -> ConnectionWrapper:  # noqa: N802 - the standard name
    """Connect to an `XmlListener`; the arguments are those of `Client`."""
    return ConnectionWrapper(Client(*args, **kwds), _dumps, _loads)
