"""A connection over a socket, spoken over as over a `shoal._managers.ring.Ring`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["ANSWERED", "NOTHING_SENT", "SENT", "OverSocket"]

NOTHING_SENT, SENT, ANSWERED = range(3)  # the progress of an exchange, here and in the native core


class OverSocket:
    """What both sides of a session use.

    Args:
        connection: what is spoken over.
        send: sends an object over it.

    Attributes:
        send: that.
        recv: receives an object.
        progress: how far the last `exchange` got.
    """

    def __init__(self, connection: Any, send: Callable[[Any], None]) -> None:
        self.send = send
        self.recv = connection.recv
        self.progress = NOTHING_SENT

    def exchange(self, obj: Any) -> Any:
        """Send an object, and receive one."""
        self.progress = NOTHING_SENT
        self.send(obj)
        self.progress = SENT
        return self._answer()

    def _answer(self) -> Any:
        return self.recv()

    def not_quick(self) -> None:
        """No multiplexer serves sockets."""
