"""Proxies of a server's own objects, inside the server: their calls go no way."""

from __future__ import annotations

import pickle

from shoal import _standard, reduction
from shoal._managers import serving
from shoal._managers.words import RETURN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["own_server"]

_process: Any = _standard.process
# What need not be copied: nobody can change it.
UNCHANGING = (int, float, str, bytes, bool, type(None), complex)


def _copied(value: Any) -> Any:
    data, buffers = reduction.dumps(value)
    return pickle.loads(data, buffers=[bytearray(buffer) for buffer in buffers])


class Door:
    """Stands for a link, and for a thread's connection, where the server is this process."""

    options: Any = None
    holder = None

    def __init__(self, server: Any) -> None:
        self._server = server

    def call(self, ident: str, methodname: str, args: Any, kwds: Any) -> tuple[str, Any]:
        """Call a method as if from outside: what goes in and comes out is a copy."""
        args, kwds = _copied((args, dict(kwds)))
        answer: Any = serving.answer_any(self._server, self, (ident, methodname, args, kwds))
        kind, result = answer
        if kind == RETURN and not isinstance(result, UNCHANGING):
            result = _copied(result)
        return kind, result

    def refer(self, ident: str) -> None:
        """Something in the server holds a proxy of this object."""
        self._server.objects.own(ident)

    def release(self, ident: str) -> None:
        """A proxy has gone."""
        self._server.objects.disown(ident)

    def granted(self, ident: str) -> None:
        """What a method returned has been counted, as for a client."""

    def ungrant(self, ident: str) -> None:
        """A proxy of it was made, which counts itself."""
        self._server.objects.drop(ident)


def own_server(ident: str) -> Door:
    """Return what stands for the link of a proxy that belongs to this process's server, and count the proxy."""
    door = Door(_process.current_process()._manager_server)
    door.refer(ident)
    return door
