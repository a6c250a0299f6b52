"""The target for a manager's server: requests of a client that is in, in both dialects, well-formed or not.

Bytes become values by a small grammar and not by pickle: a pickle from an authenticated peer may run code, and a fuzzer would find some. What is looked for is a
request that takes the server down, is not answered, or leaves its table in disorder.
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any

from shoal import managers
from shoal._managers import serving
from shoal._managers.words import Token

if TYPE_CHECKING:
    from collections.abc import Iterator

# Nothing here waits, starts processes, or grows beyond what a request says.
SHARED = ("dict", "list", "set", "Namespace", "Value", "Array", "NestedDict", "NestedList", "NestedSet", "Iterator")
WORDS = (
    *("create", "incref", "decref", "give_back", "hold", "get_methods", "dummy", "debug_info", "number_of_objects"),
    *("accept_connection", "accept_session", "shutdown", "#GETVALUE", "__str__", "__repr__", "__iter__", "__next__"),
    *("__getitem__", "__setitem__", "__delitem__", "__getattribute__", "__setattr__", "__class__", "__init__"),
    *(
        "append",
        "extend",
        "insert",
        "pop",
        "update",
        "setdefault",
        "sort",
        "get",
        "set",
        "add",
        "clear",
        "copy",
        "send",
    ),
    *("key", "=dict", "0", "i", ""),
    *SHARED,
)
DEEPEST = 4


class Registry(managers.BaseManager):
    """Has what is shared here."""


for typeid in SHARED:
    Registry._registry = {**Registry._registry, typeid: managers.SyncManager._registry[typeid]}


OPEN = socket.socketpair()  # for a look whether the client has hung up: it has not


class Connection:
    """Plays requests, and keeps the answers."""

    holder: Any = None

    def __init__(self, requests: list[Any]) -> None:
        self.requests = requests
        self.answers: list[Any] = []

    def recv(self) -> Any:
        if not self.requests:
            raise EOFError
        return self.requests.pop(0)

    def send(self, answer: Any) -> None:
        if not isinstance(answer, tuple) or len(answer) != 2 or not isinstance(answer[0], str):
            raise AssertionError(f"an answer that no client understands: {answer!r}")
        self.answers.append(answer)

    def fileno(self) -> int:
        return OPEN[0].fileno()

    def close(self) -> None:
        pass


class Grammar:
    """Reads values from bytes."""

    def __init__(self, data: bytes, idents: Any) -> None:
        self.bytes = iter(data)
        self.idents = idents

    def byte(self) -> int:
        return next(self.bytes, 0)

    def many(self, depth: int) -> Iterator[Any]:
        for _ in range(self.byte() % 5):
            yield self.value(depth)

    def value(self, depth: int = 0) -> Any:
        kinds = (self.nothing, self.integer, self.word, self.word, self.ident, self.tuple, self.list, self.dict)
        return kinds[self.byte() % (8 if depth < DEEPEST else 5)](depth + 1)

    def nothing(self, depth: int) -> None:
        pass

    def integer(self, depth: int) -> int:  # noqa: ARG002 - as the others
        return self.byte() - 8

    def word(self, depth: int) -> str:  # noqa: ARG002 - as the others
        return WORDS[self.byte() % len(WORDS)]

    def ident(self, depth: int) -> Any:  # noqa: ARG002 - as the others
        return self.idents[self.byte() % len(self.idents)]

    def tuple(self, depth: int) -> Any:
        return tuple(self.many(depth))

    def list(self, depth: int) -> Any:
        return list(self.many(depth))

    def dict(self, depth: int) -> Any:
        return {str(key): self.value(depth) for key in self.many(depth)}


def requests(data: bytes) -> None:
    """Play requests, and look whether the server is still what it was."""
    server = object.__new__(managers.Server)
    server.__dict__.update(a_server().__dict__)
    server.objects = type(server.objects)(server.registry)
    server.mutex = server.objects.mutex
    server.id_to_obj, server.id_to_refcount = server.objects.entries, server.objects.counts
    server.id_to_local_proxy_obj = server.objects.owned
    idents = [server.create(None, typeid)[0] for typeid in ("dict", "list", "Namespace", "NestedDict", "set")]
    token = Token("dict", server.address, idents[0])
    grammar = Grammar(data, [*idents, token, "nobody"])
    way = grammar.byte() % 3
    script = [grammar.value() for _ in range(1 + grammar.byte() % 12)]
    script = [
        one if isinstance(one, tuple) else (grammar.value(), grammar.value(), tuple(grammar.many(1))) for one in script
    ]
    connection = Connection(script)
    if way == 0:
        holder = server.objects.admit("fuzz")
        connection.holder = holder
        session = serving.Session(connection, holder)
        with contextlib.suppress(EOFError, SystemExit):
            serving._serve(server, session)
        server.objects.leave("fuzz")
        if server.objects._holders.get("fuzz"):
            raise AssertionError("a client that has gone is still counted")
    elif way == 1:
        serving.serve_standard(server, connection)
    else:
        while connection.requests:
            before = len(connection.requests)
            server.handle_request(connection)
            if len(connection.requests) == before:
                raise AssertionError("a request was not taken")
    server.stop_event.clear()
    if any(count < 0 for count in server.id_to_refcount.values()):
        raise AssertionError("fewer references than none")
    if server.id_to_refcount.keys() - server.id_to_obj.keys():
        raise AssertionError("references to what is not there")
    fresh = Connection([(None, "create", ("dict",), {}), (None, "number_of_objects", (), {})])
    server.handle_request(fresh)
    server.handle_request(fresh)
    if [kind for kind, _ in fresh.answers] != ["#RETURN", "#RETURN"]:
        raise AssertionError(f"the server does not work any more: {fresh.answers}")


_made: list[Any] = []


def a_server() -> managers.Server:
    """One that listens, so that it has an address; nobody comes."""
    if not _made:
        _made.append(Registry(authkey=b"key").get_server())
    server: managers.Server = _made[0]
    return server


def spelled(*words: Any) -> bytes:
    """The bytes of a request, for seeds."""
    said = [5, len(words)]
    for word in words:
        if word is None:
            said += [0]
        elif isinstance(word, int):
            said += [4, word]
        elif isinstance(word, tuple):
            said += spelled(*word)
        else:
            said += [2, WORDS.index(word)]
    return bytes(said)


SEEDS = [
    bytes([way, len(script) - 1]) + b"".join(script)
    for way in range(3)
    for script in (
        [spelled(None, "create", ("dict",)), spelled(None, "number_of_objects", ())],
        [spelled(0, "__setitem__", ("key", "i")), spelled(0, "__getitem__", ("key",)), spelled(0, "__iter__", ())],
        [spelled(1, "append", ("key",)), spelled(1, "sort", ()), spelled(1, "#GETVALUE", ())],
        [spelled(2, "__setattr__", ("key", "i")), spelled(2, "__getattribute__", ("key",))],
        [spelled(3, "__setitem__", ("key", ("i",))), spelled(3, "pop", ("key",)), spelled(None, "hold", (("key",),))],
        [spelled(None, "give_back", ("key", 1)), spelled(None, "decref", ("key",)), spelled("0", "__str__", ())],
    )
]
# Found once, and mended: a request whose ident cannot be looked up, the last one.
SEEDS.append(bytes.fromhex("0002050302010403021205020205250501035e020028"))
