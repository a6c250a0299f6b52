"""``Client``: the other side of a `Listener`."""

from __future__ import annotations

import time

from shoal._connection import addresses, authentication
from shoal._connection.admission import Admission, Plain, admit
from shoal._connection.sockets import check_key, check_tls, connected
from shoal._connection.stream import Connection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from shoal._connection.tls import TLS

__all__ = ["Client"]


def Client(  # noqa: N802 - the standard name
    address: Any,
    family: str | None = None,
    authkey: bytes | None = None,
    *,
    tls: TLS | None = None,
    allow_legacy: bool = False,
    timeout: float | None = None,
) -> Connection:
    """Connect to a `Listener`.

    A listener that is busy is waited for, as in the standard library, unless there is a timeout; from its first word on, authentication takes 5 s at most.

    Args:
        address: where it listens.
        family: as for `Listener`.
        authkey: bytes that both sides must know; None if the listener has none.
        tls: encrypt, and demand certificates of both sides (`shoal.TLS`).
        allow_legacy: speak to a listener that speaks HMAC-MD5 only: CPython 3.11 and older.
        timeout: seconds after which to give up with TimeoutError, connecting and authentication included.

    Raises:
        AuthenticationError: if either side does not prove that it knows the key.
        OSError: if nobody listens there (ConnectionRefusedError, FileNotFoundError), or the connection breaks.
    """
    check_key(authkey)
    kind = addresses.socket_family(address, family)
    check_tls(tls, kind)
    until = float("inf") if timeout is None else time.monotonic() + timeout
    sock = connected(address, kind, timeout)
    try:
        if authkey is None and tls is None:
            return Connection(sock.detach())
        if tls is None:
            channel: Any = Plain(sock)
        else:
            from shoal._connection.tls import Encrypted  # noqa: PLC0415 - ssl takes long to import

            channel = Encrypted(sock, tls._context(server=False), str(address[0]))
    except BaseException:
        sock.close()
        raise
    conversation = authentication.client_conversation(authkey, allow_legacy=authentication.legacy_allowed(allow_legacy))
    return admit(Admission(channel, conversation, from_first_byte=True), until)
