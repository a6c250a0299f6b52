"""A connection to a server, from the client's side: one request, one answer."""

from __future__ import annotations

from shoal import reduction
from shoal._managers import ring
from shoal._managers.over_socket import ANSWERED, SENT, OverSocket
from shoal._managers.undelivered import hang_up_of
from shoal._managers.words import GREETING, STANDARD_WORDS, RemoteError, dispatch, in_the_standard_dialect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from shoal._managers.links import Link

__all__ = ["Session", "greet"]


def greet(connection: Any, name: str, client: str, *, may_ring: bool) -> tuple[Any, str] | None:
    """Introduce this process to a server.

    Args:
        connection: authenticated, and new. Taken over.
        name: of this process and thread, for the server's list of threads.
        client: names this process.
        may_ring: whether the messages may go through shared memory.

    Returns:
        What to speak over from now on, and which server that is; None if it is one of the standard library.
    """
    offer = ring.Offer() if may_ring and ring.suits(connection) else None
    try:
        instance, agreed = dispatch(
            connection, None, GREETING, (name, client, None if offer is None else offer.references)
        )
    except RemoteError:
        return None
    return (offer.complete(connection) if offer is not None and agreed else connection), instance


class _Line(OverSocket):
    """It knows an answer that has come and cannot be loaded from one that has not come."""

    def __init__(self, connection: Any, send: Callable[[Any], None]) -> None:
        super().__init__(connection, send)
        self._recv_bytes = connection.recv_bytes
        self._loads = getattr(connection, "_loads", reduction.loads)

    def _answer(self) -> Any:
        answer = self._recv_bytes()
        self.progress = ANSWERED
        return self._loads(answer)


class Session:
    """One connection.

    Args:
        connection: what is spoken over; greeted.
        link: whose it is.
        standard: whether the server is one of the standard library.

    Attributes:
        connection: what is spoken over.
    """

    def __init__(self, connection: Any, link: Link, *, standard: bool = False) -> None:
        self.standard = standard
        self.connection = connection
        self._line: Any = connection
        if not isinstance(connection, ring.Ring):
            self._line = _Line(connection, self._send_standard if standard else connection.send)
        self._exchange = self._line.exchange
        self._link = link

    def _send_standard(self, request: Any) -> None:
        with in_the_standard_dialect():
            self.connection.send(request)

    def has_hung_up(self) -> bool:
        """Whether the server has closed it, or has gone."""
        try:
            descriptor = ring.descriptor_of_socket(self.connection)
        except OSError:  # it is closed here
            return True
        return hang_up_of(descriptor)()

    def close(self) -> None:
        """Hang up."""
        self.connection.close()

    def _failed(self, error: BaseException) -> NoReturn:
        """Decide what becomes of a connection on which a call failed, and raise."""
        # Could not be pickled, so nothing was sent; or an answer has come that cannot be loaded here. In between the answer may still come, and the next call would take it for its own.
        if self._line.progress != SENT and isinstance(error, Exception) and not isinstance(error, (EOFError, OSError)):
            raise error
        self._broken(error)

    def _broken(self, error: BaseException) -> NoReturn:
        """The connection is lost, or in the middle of a call (Ctrl-C): it is of no use any more."""
        link = self._link
        link.lost(self)
        self.close()
        if isinstance(error, (EOFError, OSError)):
            raise link.died(error) from error
        raise error

    def call(self, ident: str | None, methodname: str, args: Any, kwds: Any) -> Any:
        """Make a request, and wait for the answer.

        Returns:
            The kind of answer, and its value.

        Raises:
            ManagerDied: if the connection is lost.
        """
        if self.standard:
            methodname = STANDARD_WORDS.get(methodname, methodname)
        try:
            return self._exchange(
                (ident, methodname, args, kwds or {}) if kwds or self.standard else (ident, methodname, args)
            )
        except BaseException as error:  # noqa: BLE001 - raised again there
            self._failed(error)

    def tell(self, methodname: str, args: tuple[Any, ...]) -> None:
        """Make a request that has no answer."""
        self._line.send((None, methodname, args))
