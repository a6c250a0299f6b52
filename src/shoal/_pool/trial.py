"""Results that are loaded in trial by the worker that made them (``Pool(verify_results=True)``).

A result becomes an object again in the application: there what cannot be loaded takes the outcomes that were published along with it, and what kills whoever loads it ends the program.
In the worker the first is the failure of that one item, and the second its loss.

The trial comes with the call, so it happens while the item counts as running. It is left out where loading would use something up: a descriptor (of a socket, a connection) can be
handed over once.
"""

from __future__ import annotations

import io
import os
import pickle
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from shoal import _standard, connection, reduction, resource_sharer
from shoal._pool.failures import Failure, encoding_error
from shoal._pool.functions import NOT_HERE

if TYPE_CHECKING:
    from collections.abc import Callable

    from shoal._pool.transport import KnownFunctions

__all__ = ["VerifiedFunctions"]

PLAIN = frozenset({int, float, str, bytes, bool, type(None)})  # of these exactly: loading cannot fail
CONNECTIONS = (socket.socket, connection.Connection, _standard.connection.Connection)
TICKETS = (resource_sharer.DupFd, _standard.resource_sharer.DupFd)  # for a descriptor that waits to be fetched


class VerifiedFunctions:
    """What a worker knows of functions, each as a :class:`Verified`.

    Args:
        functions: what it knows.
    """

    def __init__(self, functions: KnownFunctions) -> None:
        self._functions = functions

    def known(self, key: Any) -> Verified | None:
        """Find a function by its key; None if it has to be resolved."""
        function = self._functions.known(key)
        return None if function is None else Verified(function)

    def resolve(self, payload: tuple[Any, ...]) -> Any:
        """Load the function of a task; ``NOT_HERE`` if it must be sent again, with the function."""
        function = self._functions.resolve(payload)
        return function if function is NOT_HERE else Verified(function)


class Verified:
    """A function that returns what can be loaded, or raises.

    Args:
        function: the function.
    """

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any, **kwds: Any) -> Any:
        """Call it, and load what it returns, or raises, in trial.

        Raises:
            MaybeEncodingError: if the value cannot be loaded, with the reason.
            BaseException: what the function raises.
        """
        try:
            value = self._function(*args, **kwds)
        except BaseException as error:
            with suppress(BaseException):  # that it can be loaded is seen to by Failure; here it may kill
                _load(Failure(error))
            raise
        if value.__class__ not in PLAIN:
            try:
                _load(value)
            except BaseException as reason:
                raise encoding_error(reason, value) from reason
        return value


class _HandedOverError(Exception):
    """Something can be loaded once only."""


class _TrialPickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, TICKETS):
            os.close(obj.detach())  # it was made for this pickle
            raise _HandedOverError
        if isinstance(obj, CONNECTIONS):
            raise _HandedOverError
        return NotImplemented


def _load(value: Any) -> None:
    file = io.BytesIO()
    pickler = _TrialPickler(file, reduction.PROTOCOL)
    pickler.dispatch_table = reduction._reducers()
    try:
        pickler.dump(value)
    except Exception:  # noqa: BLE001 - it is handed over, or travels by value, or cannot be pickled, which publishing it will tell
        return
    pickle.loads(file.getbuffer())
