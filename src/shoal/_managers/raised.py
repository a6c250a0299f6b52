"""How what a method has raised in a manager's server travels to the client."""

from __future__ import annotations

from shoal._managers.words import RemoteError
from shoal._pool.failures import Failure, encoding_error

__all__ = ["Raised"]


class Raised(Failure):
    """An exception of the server's, with its traceback there. One that cannot be sent is told of by a ``RemoteError``, as in the standard library."""

    __slots__ = ()

    @staticmethod
    def stand_in(reason: BaseException, value: object) -> BaseException:
        """Make what is raised in place of an exception that cannot be pickled, or not be loaded."""
        error: BaseException = RemoteError(f"Unserializable message: {encoding_error(reason, value)}\n")
        return error
