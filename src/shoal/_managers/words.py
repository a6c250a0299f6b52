"""What client and server say to each other.

A request is ``(ident, method, args, kwds)``, an answer ``(kind, value)``: the standard library's protocol, which both sides here speak with whoever speaks it.
Between two of shoal there is more, agreed on by the greeting, the first request on a connection:

* ``kwds`` is left out when there are none;
* ``ident`` None asks the server itself, so nobody connects anew to count a reference;
* what has no answer (`ONE_WAY`) is not waited for;
* the server knows a lock that was entered by ``with``, and a client that ends in order, from one that was killed (`shoal._managers.held`);
* the messages may go through a ring in shared memory (`shoal._managers.ring`), and the server keeps book of what each client holds.

A standard server answers the greeting with an error, and is spoken to in its own way from then on.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager

from shoal import _standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = [
    "ABANDONED",
    "ENTER",
    "ERROR",
    "EXIT",
    "FAILURE",
    "FOR_GOOD",
    "GONE",
    "GOOD_BYE",
    "GREETING",
    "KEEP",
    "ONE_WAY",
    "PROXY",
    "RETURN",
    "STANDARD_WORDS",
    "TRACEBACK",
    "UNEXPOSED",
    "UNSERIALIZABLE",
    "RemoteError",
    "State",
    "Token",
    "UnexposedMethodError",
    "all_methods",
    "convert_to_error",
    "dialect",
    "dispatch",
    "in_the_standard_dialect",
    "public_methods",
]

_managers: Any = _standard.managers

# What is the same in both libraries is the same object: `except RemoteError` holds, and a token can be read by a process that has no shoal.
RemoteError = _managers.RemoteError
State = _managers.State
Token = _managers.Token
all_methods = _managers.all_methods
convert_to_error = _managers.convert_to_error
dispatch = _managers.dispatch
public_methods = _managers.public_methods

RETURN = "#RETURN"
ERROR = "#ERROR"  # the exception itself
TRACEBACK = "#TRACEBACK"  # the text of one
UNSERIALIZABLE = "#UNSERIALIZABLE"  # the text of what pickling the answer raised
PROXY = "#PROXY"  # (exposed, token)
# Between two of shoal:
FAILURE = "#FAILURE"  # an exception with the server's traceback
UNEXPOSED = "#UNEXPOSED"  # (type, method, exposed)
GONE = "#GONE"  # the object is not there, and never was in this server
ABANDONED = "#ABANDONED"  # what acquiring a lock returned; who held it before was killed
# Methods of any lock:
ENTER = "#ENTER"  # acquire it, by `with`
EXIT = "#EXIT"  # release it again
STANDARD_WORDS = {ENTER: "acquire", EXIT: "release"}

# What this thread speaks: `standard` is true if the other side may have no shoal.
dialect = threading.local()


@contextmanager
def in_the_standard_dialect() -> Iterator[None]:
    """What this thread pickles meanwhile can be read without shoal."""
    before = getattr(dialect, "standard", False)
    dialect.standard = True
    try:
        yield
    finally:
        dialect.standard = before


GREETING = "accept_session"
GOOD_BYE = "good_bye"
KEEP = "keep"
ONE_WAY = frozenset({"give_back", GOOD_BYE, KEEP})
FOR_GOOD = (
    "accept_connection",
    "accept_session",
)  # functions of a server that end in SystemExit when the client has gone


class UnexposedMethodError(RemoteError, AttributeError):  # type: ignore[misc, valid-type]
    """The object behind a proxy has no such method, or does not expose it.

    An ``AttributeError``, and a ``RemoteError``, which is what the standard library raises.

    Attributes:
        kind: the type of the object.
        method: the name that was called.
        exposed: the names that may be called.
    """

    def __init__(self, kind: str, method: str, exposed: tuple[str, ...]) -> None:
        super().__init__(kind, method, exposed)
        self.kind = kind
        self.method = method
        self.exposed = exposed

    def __str__(self) -> str:
        names = ", ".join(self.exposed) or "nothing"
        return f"{self.kind!r} object behind the proxy does not expose {self.method!r}; it exposes: {names}"
