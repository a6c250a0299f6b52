"""``Server``: runs in the process that a manager controls, and does what proxies ask.

One thread accepts; every connection has a thread that serves it, as in the standard library, so that a call which blocks (``Queue.get``, ``Lock.acquire``)
keeps nobody else waiting, and a lock knows its owner. What arrives has been authenticated by the listener.

Relies on the registry of its manager. Promises that no request, however broken, ends the server or another client's connection.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import weakref
from contextlib import suppress
from traceback import format_exc

from shoal import _runtime, _standard
from shoal._managers import lively, serving
from shoal._managers.held import Held
from shoal._managers.links import known_keys
from shoal._managers.objects import Objects
from shoal._managers.transports import listener_client
from shoal._managers.words import FOR_GOOD, RETURN, TRACEBACK
from shoal._runtime.threads import harmless

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

__all__ = ["Server"]

_util: Any = _standard.util
_process: Any = _standard.process


class Server:
    """What a manager's process runs; made by ``BaseManager.get_server`` or ``start``.

    Args:
        registry: what can be made, by typeid: (callable, exposed, method_to_typeid, proxytype).
        address: where to listen; None: a socket file of its own, which `address` then tells.
        authkey: bytes that every client must know.
        serializer: ``"pickle"`` or ``"xmlrpclib"``.
        options: keyword arguments of `shoal.connection.Listener`: ``tls``, ``allow_legacy``.

    Attributes:
        address: where clients find it.
        id_to_obj: by ident: (object, exposed names, method_to_typeid).
        id_to_refcount: references from outside, by ident.
        held: who holds which lock.
    """

    public: tuple[str, ...] = (
        "shutdown",
        "create",
        "accept_connection",
        "accept_session",
        "get_methods",
        "debug_info",
        "number_of_objects",
        "dummy",
        "incref",
        "decref",
        "keep",
        "give_back",
        "good_bye",
        "hold",
    )

    def __init__(self, registry: Any, address: Any, authkey: bytes, serializer: str, **options: Any) -> None:
        if not isinstance(authkey, bytes):
            raise TypeError(f"Authkey {authkey!r} is type {type(authkey)!s}, not bytes")
        self.registry = registry
        self.authkey = _process.AuthenticationString(authkey)
        self.serializer = serializer
        _remove_stale_socket(address)
        self.listener = listener_client[serializer][0](address=address, backlog=128, authkey=self.authkey, **options)
        self.address = self.listener.address
        self.objects = Objects(registry)
        self.mutex = self.objects.mutex
        self.id_to_obj = self.objects.entries
        self.id_to_refcount = self.objects.counts
        self.id_to_local_proxy_obj = self.objects.owned
        self.held = Held()
        self.stop_event = threading.Event()
        self._connections: weakref.WeakSet[Any] = weakref.WeakSet()
        self._multiplexer: Any = None
        self._starting = threading.Lock()
        known_keys[self.address] = self.authkey
        _servers.add(self)

    def serve_forever(self) -> NoReturn:
        """Serve until told to shut down, then leave the process (``SystemExit``)."""
        _process.current_process()._manager_server = self
        try:
            accepter = threading.Thread(target=self.accepter, daemon=True, name="shoal-manager-accepter")
            harmless(accepter)
            harmless(threading.current_thread())  # it waits here; a pool in the server forks from another thread
            accepter.start()
            with suppress(KeyboardInterrupt, SystemExit):
                self.stop_event.wait()
        finally:
            if sys.stdout != sys.__stdout__:
                _util.debug("resetting stdout, stderr")
                sys.stdout = sys.__stdout__
                sys.stderr = sys.__stderr__
            sys.exit(0)

    def accepter(self) -> None:
        """Accept connections, until the listener is closed."""
        while not self.stop_event.is_set():
            try:
                connection = self.listener.accept()
            except (OSError, EOFError, _standard.context.AuthenticationError) as error:
                _util.info("a connection was not accepted: %s", error)
                if getattr(self.listener, "_listener", True) is None:
                    return
                continue
            except Exception as error:  # noqa: BLE001 - whatever a stranger sent; the server goes on
                _util.info("a connection was not accepted: %r", error)
                continue
            self._connections.add(connection)
            thread = threading.Thread(target=self.handle_request, args=(connection,), daemon=True)
            harmless(thread)
            thread.start()

    def handle_request(self, conn: Any) -> None:
        """Do what a new connection asks first, and close it."""
        try:
            self._handle_request(conn)
        except SystemExit:  # the end of a session
            pass
        finally:
            conn.close()

    def _handle_request(self, conn: Any) -> None:
        request = None
        try:
            request = conn.recv()
            _, funcname, args, kwds = request
            func = self._public(funcname)
        except EOFError:
            return
        except Exception:  # noqa: BLE001 - the client is told
            message = (TRACEBACK, format_exc())
        else:
            try:
                result = func(conn, *args, **kwds)
            except BaseException as error:
                if isinstance(error, SystemExit) and funcname in FOR_GOOD:
                    raise
                message = (TRACEBACK, format_exc())
            else:
                message = (RETURN, result)
        try:
            conn.send(message)
        except Exception:  # noqa: BLE001 - it may have gone, or the answer cannot be pickled
            with suppress(Exception):
                conn.send((TRACEBACK, format_exc()))
            _util.info("Failure to send message: %r; request was %r", message, request)

    @property
    def multiplexer(self) -> Any:
        """What answers lively clients, or None; started when the first comes who may become one."""
        with self._starting:
            if self._multiplexer is None:
                self._multiplexer = lively.start(self)
            return self._multiplexer

    def _public(self, funcname: str) -> Any:
        if funcname not in self.public:
            raise AssertionError(f"{funcname!r} unrecognized")
        return getattr(self, funcname)

    # --- what may be asked of the server itself; `c` is the connection or session that asks ---

    def accept_connection(self, c: Any, name: str) -> NoReturn:
        """Serve a standard client's requests on this connection, in this thread, until it hangs up."""
        threading.current_thread().name = name
        c.send((RETURN, None))
        serving.serve_standard(self, c)
        sys.exit(0)

    def accept_session(self, c: Any, name: str, client: str, offer: Any = None) -> NoReturn:
        """Serve one of shoal's clients on this connection, in this thread, until it hangs up."""
        threading.current_thread().name = name
        serving.serve_session(self, c, client, offer)
        sys.exit(0)

    def dummy(self, c: Any) -> None:
        """Do nothing, to show that the server is there."""

    def debug_info(self, c: Any) -> str:  # noqa: ARG002 - as the others
        """Tell which objects there are, with their reference counts."""
        with self.mutex:
            lines = [
                f"  {ident}:       refcount={count}\n    {str(self.id_to_obj[ident][0])[:75]}"
                for ident, count in sorted(self.id_to_refcount.items())
            ]
        return "\n".join(lines)

    def number_of_objects(self, c: Any) -> int:  # noqa: ARG002 - as the others
        """Tell how many objects there are."""
        return len(self.id_to_refcount)

    def shutdown(self, c: Any) -> None:
        """End this server."""
        try:
            _util.debug("manager received shutdown message")
            c.send((RETURN, None))
        finally:
            self.stop_event.set()

    def create(self, c: Any, typeid: str, /, *args: Any, **kwds: Any) -> tuple[str, tuple[str, ...]]:
        """Make a shared object, with one reference; return its ident, and the names of its methods."""
        ident, exposed = self.objects.create(typeid, args, kwds)
        self.incref(c, ident)
        return ident, exposed

    def get_methods(self, c: Any, token: Any) -> tuple[str, ...]:  # noqa: ARG002 - as the others
        """Tell which methods an object exposes."""
        return tuple(self.objects.find(token.id)[1])

    def incref(self, c: Any, ident: str) -> None:
        """Count a reference."""
        self.objects.refer(ident, getattr(c, "holder", None))

    def decref(self, c: Any, ident: str) -> None:
        """Take a reference back."""
        self.objects.drop(ident, getattr(c, "holder", None))

    def give_back(self, c: Any, ident: str, count: int) -> None:
        """Take back so many references of one of shoal's clients. Nobody waits for an answer."""
        self.objects.drop(ident, c.holder, count)

    def keep(self, c: Any) -> None:
        """This is the connection by which one of shoal's clients is known to live. Nobody waits for an answer."""
        c.holder.keeper = c

    def good_bye(self, c: Any) -> None:
        """One of shoal's clients ends in order: what it leaves locked stays so. Nobody waits for an answer."""
        c.holder.left_well = True

    def hold(self, c: Any, idents: Any) -> list[str]:
        """Count a reference to each of these; return those that are there."""
        found = []
        for ident in idents:
            with suppress(KeyError):
                self.incref(c, ident)
                found.append(ident)
        return found

    # --- what any object can do, exposed or not ---

    def fallback_getvalue(self, conn: Any, ident: str, obj: Any) -> Any:  # noqa: ARG002 - as the others
        """Return the object itself, of which the client gets a copy; of a nested container, a plain one."""
        plain = getattr(type(obj), "_plain_copy", None)
        return obj if plain is None else plain(obj)

    def fallback_str(self, conn: Any, ident: str, obj: Any) -> str:  # noqa: ARG002 - as the others
        """Return its ``str``."""
        return str(obj)

    def fallback_repr(self, conn: Any, ident: str, obj: Any) -> str:  # noqa: ARG002 - as the others
        """Return its ``repr``."""
        return repr(obj)

    fallback_mapping = {  # noqa: RUF012 - the standard name, for subclasses
        "__str__": fallback_str,
        "__repr__": fallback_repr,
        "#GETVALUE": fallback_getvalue,
    }

    def _leave_to_the_parent(self) -> None:
        """In a forked child: what it has inherited would keep clients from seeing the server's end."""
        with suppress(Exception):
            sock = self.listener._listener._socket
            sock.close()
        for connection in list(self._connections):
            with suppress(Exception):
                connection.close()
        if self._multiplexer is not None:
            self._multiplexer.abandon()


def _remove_stale_socket(address: Any) -> None:
    """Take away the socket file that a killed server has left where this one is to listen."""
    if not isinstance(address, str) or not os.path.exists(address):  # noqa: PTH110 - an address, as the standard library has it
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(address)
        except ConnectionRefusedError:
            os.unlink(address)  # noqa: PTH108 - the same
        except OSError:  # no socket: binding says what is wrong
            return


_servers: weakref.WeakSet[Server] = weakref.WeakSet()


def _leave_servers_to_the_parent() -> None:
    for server in list(_servers):
        server._leave_to_the_parent()


_runtime.in_forked_child(_leave_servers_to_the_parent)
