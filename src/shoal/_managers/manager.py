"""``BaseManager``: starts a server process, or connects to one, and makes proxies of what it is asked for."""

from __future__ import annotations

import signal
import time
from contextlib import suppress

from shoal import _standard, connection
from shoal._managers import links
from shoal._managers.proxies import AutoProxy
from shoal._managers.server import Server
from shoal._managers.transports import listener_client
from shoal._managers.words import State, Token
from shoal._runtime import default_context, interrupts
from shoal.errors import ManagerDied, describe_exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, Self

__all__ = ["BaseManager"]

_util: Any = _standard.util
_process: Any = _standard.process
_StandardManager: Any = _standard.managers.BaseManager
ProcessError = _standard.context.ProcessError

FIRST_RETRY, LAST_RETRY = 0.01, 0.5  # seconds between attempts to connect


class BaseManager(_StandardManager):  # type: ignore[misc]
    """Shares objects that live in a server process: one it starts, or one it connects to.

    A subclass registers what can be made (`register`), and then has a method for each.

    Args:
        address: where the server listens, or is to listen: a path, or ``(host, port)``; None: a socket file of its own.
        authkey: bytes that the server and its clients must know; None: this process's ``authkey``.
        serializer: ``"pickle"``, or ``"xmlrpclib"`` for what XML-RPC can express.
        ctx: the context that starts the process.
        shutdown_timeout: seconds that the server has to end when it is told to; then it is terminated, and after as long again killed.
        tls: encrypt, and demand certificates of both sides (``shoal.TLS``).
        allow_legacy: speak with CPython 3.11 and older, too, whose authentication is HMAC-MD5.
    """

    _registry: dict[str, Any] = {}  # noqa: RUF012 - the standard name; each class that registers gets its own
    _Server: Any = Server
    _process: Any = None
    _link: Any = None
    shutdown: Callable[[], object]

    def __init__(
        self,
        address: Any = None,
        authkey: bytes | None = None,
        serializer: str = "pickle",
        ctx: Any = None,
        *,
        shutdown_timeout: float = 1.0,
        tls: Any = None,
        allow_legacy: bool = False,
    ) -> None:
        if authkey is None:
            authkey = _process.current_process().authkey
        if not isinstance(authkey, bytes):
            raise TypeError(f"authkey must be bytes, not {type(authkey).__name__}: write b'...', or encode it")
        self._address = address
        self._authkey = _process.AuthenticationString(authkey)
        self._state = State()
        self._state.value = State.INITIAL
        self._serializer = serializer
        self._Listener, self._Client = listener_client[serializer]
        self._ctx = ctx or default_context.get()
        self._shutdown_timeout = shutdown_timeout
        self._options = {
            **({"tls": tls} if tls is not None else {}),
            **({"allow_legacy": True} if allow_legacy else {}),
        }

    @property
    def address(self) -> Any:
        """Where the server listens."""
        return self._address

    # --- servers ---

    def get_server(self) -> Server:
        """Return a server to be run in this process: ``manager.get_server().serve_forever()``.

        Raises:
            ProcessError: if the manager has a server already.
        """
        self._check_initial()
        return self._Server(self._registry, self._address, self._authkey, self._serializer, **self._options)  # type: ignore[no-any-return]

    def connect(self, *, retry: float = 0.0) -> None:
        """Connect to the server at this manager's address.

        Args:
            retry: seconds for which a server that is not up yet is waited for.

        Raises:
            OSError: if none is there (ConnectionRefusedError, FileNotFoundError, …).
            AuthenticationError: if it has another key.
        """
        give_up, pause = time.monotonic() + retry, FIRST_RETRY
        while True:
            try:
                link = links.link_to(self._address, self._authkey, self._serializer, self._options)
                link.connect()
            except (OSError, EOFError) as error:
                if isinstance(error, PermissionError) or time.monotonic() + pause >= give_up:
                    raise
            else:
                break
            time.sleep(pause)
            pause = min(2 * pause, LAST_RETRY)
        self._link = link
        self._state.value = State.STARTED

    def start(self, initializer: Callable[..., object] | None = None, initargs: Any = ()) -> None:
        """Start a server process.

        Args:
            initializer: called in it first, with `initargs`.
            initargs: its arguments.

        Raises:
            ManagerDied: if the process ends before it listens. Its own words are on the standard error stream.
        """
        self._check_initial()
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        reader, writer = connection.Pipe(duplex=False)
        process = self._process = self._ctx.Process(
            target=type(self)._run_server,
            args=(
                self._registry,
                self._address,
                self._authkey,
                self._serializer,
                writer,
                initializer,
                initargs,
                self._options,
            ),
        )
        process.name = f"{type(self).__name__}-{':'.join(str(number) for number in process._identity)}"
        process._die_with_parent = True  # it is no daemon, for a pool in it has processes of its own
        # Whatever is raised from here on, a Ctrl-C perhaps: nobody else ends a server that is no daemon, and at exit it would be waited for.
        unfinished = _util.Finalize(None, _end_server, args=(process,), exitpriority=0)
        given = self._address
        try:
            with reader:
                with interrupts.hold_back():  # the server ignores them, once it is there
                    process.start()
                writer.close()
                try:
                    self._address = reader.recv()
                except EOFError as error:
                    process.join()
                    raise ManagerDied(self._address, f"it did not start: {describe_exit(process.exitcode)}") from error
            self._link = links.link_to(self._address, self._authkey, self._serializer, self._options)
            self.shutdown = _util.Finalize(
                self,
                type(self)._finalize_manager,
                args=(process, self._address, self._authkey, self._state, self._Client, self._shutdown_timeout),
                kwargs={"link": self._link},
                exitpriority=0,
            )
            self._state.value = State.STARTED
        except BaseException:
            self._process, self._address = None, given
            writer.close()
            _end_server(process)
            self._state.value = State.INITIAL
            raise
        finally:
            unfinished.cancel()

    @classmethod
    def _run_server(
        cls,
        registry: Any,
        address: Any,
        authkey: bytes,
        serializer: str,
        writer: Any,
        initializer: Callable[..., object] | None = None,
        initargs: Any = (),
        options: dict[str, Any] | None = None,
    ) -> None:
        """Make a server, report its address, and run it."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is the application's; the server ends with it
        interrupts.let_through()
        if initializer is not None:
            initializer(*initargs)
        server = cls._Server(registry, address, authkey, serializer, **(options or {}))
        writer.send(server.address)
        writer.close()
        _util.info("manager serving at %r", server.address)
        server.serve_forever()

    def join(self, timeout: float | None = None) -> None:
        """Wait until the server process that this manager started has ended, for at most so many seconds."""
        if self._process is not None:
            self._process.join(timeout)
            if not self._process.is_alive():
                self._process = None

    @staticmethod
    def _finalize_manager(
        process: Any,
        address: Any,  # noqa: ARG004 - the standard signature
        authkey: bytes,  # noqa: ARG004 - the same
        state: Any,
        _Client: Any,  # noqa: N803 - the same
        shutdown_timeout: float,
        *,
        link: Any = None,
    ) -> None:
        """End the server process: by asking, then by SIGTERM, then by SIGKILL."""
        if process.is_alive():
            _util.info("sending shutdown message to manager")
            with suppress(Exception):
                conn = link.dial(timeout=shutdown_timeout)
                try:
                    conn.send((None, "shutdown", (), {}))
                    conn.poll(shutdown_timeout)
                finally:
                    conn.close()
            process.join(timeout=shutdown_timeout)
            if process.is_alive():
                _util.info("manager still alive: trying to `terminate()` it")
                process.terminate()
                process.join(timeout=shutdown_timeout)
                if process.is_alive():
                    _util.info("manager still alive after terminate")
                    process.kill()
                    process.join()
        state.value = State.SHUTDOWN
        link.close()

    def __enter__(self) -> Self:
        if self._state.value == State.INITIAL:
            self.start()
        if self._state.value != State.STARTED:
            self._check_initial()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self.shutdown()

    def _check_initial(self) -> None:
        state = self._state.value
        if state == State.STARTED:
            raise ProcessError("Already started server")
        if state == State.SHUTDOWN:
            raise ProcessError("Manager has shut down")
        if state != State.INITIAL:
            raise ProcessError(f"Unknown state {state!r}")

    # --- objects ---

    def _create(self, typeid: str, /, *args: Any, **kwds: Any) -> tuple[Any, tuple[str, ...]]:
        """Have the server make an object; return its token, and the names of its methods. The caller has one reference (`_link.ungrant`)."""
        if self._state.value != State.STARTED:
            raise AssertionError("server not yet started")
        ident, exposed = self._link.ask("create", (typeid, *args), kwds)
        self._link.granted(ident)
        return Token(typeid, self._address, ident), exposed

    def _debug_info(self) -> str:
        """Tell which objects the server has, with their reference counts."""
        return str(self._link.ask_in_turn("debug_info"))

    def _number_of_objects(self) -> int:
        """Tell how many objects the server has."""
        return int(self._link.ask_in_turn("number_of_objects"))

    @classmethod
    def register(
        cls,
        typeid: str,
        callable: Callable[..., Any] | None = None,
        proxytype: Any = None,
        exposed: Any = None,
        method_to_typeid: Any = None,
        create_method: bool = True,
    ) -> None:
        """Let managers of this class share a kind of object.

        Args:
            typeid: its name, and that of the method that makes one.
            callable: makes one, in the server. None: the server is another program's, or what is given to the method is shared itself.
            proxytype: the class of its proxies; None: one that has a method for each exposed one.
            exposed: the names of the methods that proxies may call; None: ``proxytype._exposed_``, or all that do not begin with an underscore.
            method_to_typeid: for methods whose results are to be shared instead of copied: the typeid of what they return, by name.
            create_method: whether this class gets a method ``typeid``.
        """
        if "_registry" not in cls.__dict__:
            cls._registry = cls._registry.copy()
        if proxytype is None:
            proxytype = AutoProxy
        exposed = exposed or getattr(proxytype, "_exposed_", None)
        method_to_typeid = method_to_typeid or getattr(proxytype, "_method_to_typeid_", None)
        for key, value in (method_to_typeid or {}).items():
            for word in (key, value):
                if type(word) is not str:
                    raise AssertionError(f"{word!r} is not a string")
        cls._registry[typeid] = (callable, exposed, method_to_typeid, proxytype)
        if create_method:
            setattr(cls, typeid, _maker_of(typeid, proxytype))


def _end_server(process: Any) -> None:
    """End a server process that has not become a manager's."""
    if process.pid is not None:
        process.kill()
        process.join()


def _maker_of(typeid: str, proxytype: Any) -> Callable[..., Any]:
    """Make the method that creates an object and returns its proxy."""

    def make(self: BaseManager, /, *args: Any, **kwds: Any) -> Any:
        _util.debug("requesting creation of a shared %r object", typeid)
        token, exposed = self._create(typeid, *args, **kwds)
        try:
            return proxytype(token, self._serializer, manager=self, authkey=self._authkey, exposed=exposed)
        finally:
            self._link.ungrant(token.id)

    make.__name__ = make.__qualname__ = typeid
    return make
