"""Proxies: what stands for an object in a server, and calls its methods there.

``BaseProxy`` derives from the standard library's class, so ``isinstance`` holds; the way to the server is shoal's own (`shoal._managers.links`).
A proxy may be used from many threads, and in forked children; pickled, it goes anywhere the server can be reached from.
"""

from __future__ import annotations

import sys
import warnings
from contextlib import suppress

from shoal import _standard
from shoal._managers import links, local
from shoal._managers.transports import listener_client
from shoal._managers.words import (
    ABANDONED,
    ENTER,
    EXIT,
    FAILURE,
    GONE,
    PROXY,
    RETURN,
    UNEXPOSED,
    RemoteError,
    Token,
    UnexposedMethodError,
    convert_to_error,
    dialect,
    public_methods,
)
from shoal.errors import AbandonedLockWarning, StaleReferenceError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

__all__ = ["AutoProxy", "BaseProxy", "MakeProxyType", "RebuildProxy", "returned_types"]

_process: Any = _standard.process
_util: Any = _standard.util
_StandardProxy: Any = _standard.managers.BaseProxy

NO_KWDS: Mapping[str, Any] = {}
# Proxy types by typeid, for proxies that know no manager: in another process than the one that made them.
returned_types: dict[str, Any] = {}


class BaseProxy(_StandardProxy):  # type: ignore[misc]
    """Base of all proxies; a subclass calls `_callmethod` in each of its methods.

    Args:
        token: names the object: typeid, address of its server, ident.
        serializer: ``"pickle"`` or ``"xmlrpclib"``.
        manager: which made it, if it is known.
        authkey: of the server; None: the manager's, or this process's.
        exposed: the names of the methods.
        incref: whether the server is told that this proxy refers to the object.
        manager_owned: whether the proxy is held by something in the server itself.
    """

    _tls: Any = None
    _link: Any = None
    _referring = False

    def __init__(
        self,
        token: Any,
        serializer: str,
        manager: Any = None,
        authkey: bytes | None = None,
        exposed: Any = None,  # noqa: ARG002 - the standard signature
        incref: bool = True,
        manager_owned: bool = False,
    ) -> None:
        self._token = token
        self._id = token.id
        self._manager = manager
        self._serializer = serializer
        self._Client = listener_client[serializer][1]
        self._owned_by_manager = manager_owned
        if authkey is None:
            authkey = manager._authkey if manager is not None else links.key_for(token.address)
        self._authkey = _process.AuthenticationString(authkey)
        if manager_owned:
            self._link = self._tls = local.own_server(self._id)
            self._referring = True
            return
        self._link = links.link_to(token.address, self._authkey, serializer)
        self._tls = self._link.local
        if incref:
            self._incref()

    def _connect(self) -> Any:
        """Give the calling thread a connection to the server; return what makes its calls."""
        return self._link.open_thread()

    def _callmethod(self, methodname: str, args: Any = (), kwds: Mapping[str, Any] = NO_KWDS) -> Any:
        """Call a method of the object; return a copy of what it returned, or a proxy of it.

        Raises:
            ManagerDied: if the server has gone, or the connection to it.
            StaleReferenceError: if another server is there now, which does not have the object.
            UnexposedMethodError: if the object does not expose the method.
            Exception: whatever the method raised.
        """
        try:
            call = self._tls.call
        except AttributeError:
            call = self._connect()
        kind, result = call(self._id, methodname, args, kwds)
        if kind == RETURN:
            return result
        if kind == PROXY:
            return self._proxy_of(*result)
        if kind == ABANDONED:
            self._warn_of_abandoned(methodname)
            return result
        try:
            raise self._error(kind, result)
        finally:
            del result  # else the error would lead to this frame, and this frame to the error

    def _warn_of_abandoned(self, methodname: str) -> None:
        text = f"the client that held this {self._token.typeid} died; what it protects may be half changed"
        try:
            warnings.warn(text, AbandonedLockWarning, stacklevel=4)
        except BaseException:  # warnings are errors here: then the lock has not been had
            self._callmethod(EXIT if methodname == ENTER else "release")
            raise

    def _proxy_of(self, exposed: Any, token: Any) -> Any:
        token.address = self._token.address
        manager = self._manager
        proxytype = (
            returned_types.get(token.typeid, AutoProxy) if manager is None else manager._registry[token.typeid][-1]
        )
        link = self._link
        link.granted(token.id)
        owned = {"manager_owned": True} if self._owned_by_manager else {}
        try:
            return proxytype(token, self._serializer, manager=manager, authkey=self._authkey, exposed=exposed, **owned)
        finally:
            link.ungrant(token.id)

    def _error(self, kind: str, result: Any) -> BaseException:
        if kind == FAILURE:
            return result.exception  # type: ignore[no-any-return]
        if kind == UNEXPOSED:
            return UnexposedMethodError(*result)
        if kind == GONE:
            return StaleReferenceError(
                f"the server at {self._token.address!r} has no object {result!r} ({self._token.typeid}): the server that had it has ended, or every "
                "reference to it was dropped. Make it anew, or register it by name, with a callable that returns one and the same object."
            )
        return convert_to_error(kind, result)  # type: ignore[no-any-return]

    def __getattr__(self, name: str) -> Any:
        """Say what there is instead of an attribute that is not there."""
        kind = type(self)
        # Looked for by copy, pickle and the like; or a property that raised, and raises again.
        if name.startswith("_") or hasattr(kind, name):
            return object.__getattribute__(self, name)
        exposed = ", ".join(sorted(getattr(kind, "_exposed_", None) or public_methods(kind)))
        raise AttributeError(
            f"{kind.__name__!r} object has no attribute {name!r}; type {self._token.typeid!r} exposes: {exposed}",
            name=name,
            obj=self,
        )

    def _getvalue(self) -> Any:
        """Return a copy of the object."""
        return self._callmethod("#GETVALUE")

    # --- references ---

    def _incref(self) -> None:
        if not self._owned_by_manager:
            self._link.refer(self._id)
            self._referring = True

    # What it needs is bound here: at the end of the interpreter this module's names are gone before the last proxy is.
    def __del__(self, is_finalizing: Any = sys.is_finalizing, suppress: Any = suppress) -> None:
        if self._referring and not is_finalizing():
            with suppress(Exception):
                self._link.release(self._id)

    def __reduce__(self) -> tuple[Any, ...]:
        kwds: dict[str, Any] = {}
        if _standard.context.get_spawning_popen() is not None:
            kwds["authkey"] = self._authkey
            if not self._owned_by_manager and self._link.options:
                kwds["options"] = self._link.options
        kind: Any = type(self)
        if getattr(self, "_isauto", False):
            kwds["exposed"] = self._exposed_
            kind = AutoProxy
        return rebuilding(RebuildProxy, kind, self._token, self._serializer, kwds)

    def __deepcopy__(self, memo: Any) -> Any:
        return self._getvalue()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} object, typeid {self._token.typeid!r} at {id(self):#x}>"

    def __str__(self) -> str:
        """The ``repr`` of the object; of the proxy, if the object cannot be asked."""
        try:
            return str(self._callmethod("__repr__"))
        except Exception:  # noqa: BLE001 - as the standard library does
            return repr(self)[:-1] + "; '__str__()' failed>"


OURS = "shoal."
GENERAL = (BaseProxy, _StandardProxy, object)  # what has no methods of its own
LATER = frozenset({"SetProxy"})  # proxy types that not every version of the standard library has


def rebuilding(rebuild: Any, kind: Any, token: Any, serializer: str, kwds: dict[str, Any]) -> tuple[Any, ...]:
    """What a pickled proxy says of itself: what makes it again, and of what.

    To somebody who may have no shoal, it names what the standard library of every version has. A type of the program's own stays what it is.
    """
    # Under `shoal run` the module of that name is ours, and what is pickled out of it is ours.
    standard: Any = sys.modules.get("multiprocessing.managers")
    if not getattr(dialect, "standard", False) or standard is None or standard.BaseProxy is BaseProxy:
        return rebuild, (kind, token, serializer, kwds)
    if kind.__module__.startswith(OURS):
        names = (
            [kind.__name__] if kind is AutoProxy else [base.__name__ for base in kind.__mro__ if base not in GENERAL]
        )
        name = next((name for name in names if name not in LATER and hasattr(standard, name)), None)
        if name is None:
            name = "AutoProxy"
            kwds["exposed"] = kind._exposed_
        kind = getattr(standard, name)
    return standard.RebuildProxy, (kind, token, serializer, kwds)


def RebuildProxy(func: Any, token: Any, serializer: str, kwds: dict[str, Any]) -> Any:  # noqa: N802 - the standard name
    """Make a proxy again that was pickled.

    In the server itself it is one that belongs to the server, and goes no way. In a child that is being started, a server that has gone is no reason to fail.
    """
    options = kwds.pop("options", None)
    current = _process.current_process()
    server = getattr(current, "_manager_server", None)
    if server is not None and server.address == token.address:
        kwds["manager_owned"] = True
    elif options:
        links.known_options[token.address] = options
    incref = kwds.pop("incref", True)
    if incref and getattr(current, "_inheriting", False):
        try:
            return func(token, serializer, incref=True, **kwds)
        except (OSError, EOFError, RemoteError) as error:
            _util.info("incref failed: %s", error)
            incref = False
    return func(token, serializer, incref=incref, **kwds)


def MakeProxyType(name: str, exposed: Iterable[str], _cache: dict[Any, Any] = {}) -> Any:  # noqa: B006, N802 - the standard signature
    """Return a proxy type whose methods are those named."""
    exposed = tuple(exposed)
    try:
        return _cache[name, exposed]
    except KeyError:
        pass
    methods: dict[str, Any] = {}
    for method in exposed:
        exec(  # noqa: S102 - a function by each name, with a signature that help() shows
            f"def {method}(self, /, *args, **kwds):\n    return self._callmethod({method!r}, args, kwds)", methods
        )
    methods.pop("__builtins__", None)
    kind = type(name, (BaseProxy,), {**methods, "_exposed_": exposed, "__module__": "shoal.managers"})
    _cache[name, exposed] = kind
    return kind


def AutoProxy(  # noqa: N802 - the standard name
    token: Any,
    serializer: str,
    manager: Any = None,
    authkey: bytes | None = None,
    exposed: Any = None,
    incref: bool = True,
    manager_owned: bool = False,
) -> Any:
    """Return a proxy with the methods that the object exposes; the server is asked for them if need be."""
    if authkey is None:
        authkey = manager._authkey if manager is not None else links.key_for(token.address)
    if exposed is None:
        exposed = links.link_to(token.address, authkey, serializer).ask("get_methods", (Token(*token.__getstate__()),))
    kind = MakeProxyType(f"AutoProxy[{token.typeid}]", exposed)
    proxy = kind(
        token, serializer, manager=manager, authkey=authkey, incref=incref, manager_owned=manager_owned, exposed=exposed
    )
    proxy._isauto = True
    return proxy
