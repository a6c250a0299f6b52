"""One connection's requests, answered one after the other until it hangs up.

Two dialects (`shoal._managers.words`): what standard clients speak, and what shoal's own do.
"""

from __future__ import annotations

import queue
from traceback import format_exc

from shoal import _standard
from shoal._managers import ring
from shoal._managers.undelivered import take_back, unless_hung_up
from shoal._managers.words import (
    ERROR,
    FAILURE,
    FOR_GOOD,
    GONE,
    ONE_WAY,
    PROXY,
    RETURN,
    TRACEBACK,
    UNEXPOSED,
    UNSERIALIZABLE,
    Token,
    UnexposedMethodError,
    in_the_standard_dialect,
)
from shoal._pool.failures import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from shoal._managers.server import Server

__all__ = ["Session", "serve_session", "serve_standard"]

_util: Any = _standard.util
WITHOUT_KWDS = 3  # the length of a request that has none


class Session:
    """A connection of one of shoal's clients, as the server's functions see it.

    Attributes:
        holder: the client, as `Objects` knows it.
        send: sends an answer.
        recv: receives a request.
    """

    def __init__(self, connection: Any, holder: Any) -> None:
        self.holder = holder
        self.send = connection.send if isinstance(connection, ring.Ring) else unless_hung_up(connection)
        self.recv = connection.recv


def serve_session(server: Server, connection: Any, client: str, offer: Any) -> None:
    """Greet one of shoal's clients, agree on a ring if it offers one, and serve it."""
    channels = None if offer is None else ring.accept(offer, connection)
    holder = server.objects.admit(client)
    try:
        connection.send((RETURN, (server.objects.instance, channels is not None)))
        if channels is not None:
            connection = ring.take_over(channels, connection)
            server._connections.add(connection)
        _serve(server, Session(connection, holder))
    except (EOFError, OSError):
        _util.debug("a client has gone")
    finally:
        server.objects.leave(client)
        connection.close()


def _serve(server: Server, session: Session) -> None:
    """Answer until the connection breaks: EOFError or OSError."""
    entries = server.id_to_obj
    recv, send = session.recv, session.send
    kwds: Any
    entry: Any = None
    methodname: Any = None
    while True:
        try:
            request = recv()
        except EOFError:
            raise
        except Exception:  # noqa: BLE001 - it cannot be loaded here; the client is told
            send((TRACEBACK, format_exc()))
            continue
        try:
            if len(request) == WITHOUT_KWDS:
                ident, methodname, args = request
                kwds = None
            else:
                ident, methodname, args, kwds = request
            entry = entries[ident]
            function = getattr(entry[0], methodname) if methodname in entry[1] else None
        except Exception:  # noqa: BLE001 - the server itself is asked, or nothing that is there
            function = None
        if function is None:
            answer = answer_any(server, session, request)
            if answer is None:
                continue
        else:
            try:
                result = function(*args, **kwds) if kwds else function(*args)
                answer = (RETURN, result) if entry[2] is None else _returned(server, session, entry, methodname, result)
            except BaseException as error:  # noqa: BLE001 - the client gets it, SystemExit and KeyboardInterrupt too: this thread is never the main one
                answer = _failure(server, error)
        try:
            send(answer)
        except Exception:  # noqa: BLE001 - what is in the answer cannot be pickled, or the client has gone
            _send_instead(send, answer, None if entry is None else entry[0], methodname)
        # The answer is kept until the next request: the client may be about to refer to something in it.
        del request, function
        args = kwds = result = entry = None


def _send_instead(send: Any, answer: tuple[str, Any], obj: Any, methodname: str) -> None:
    """An answer could not be sent: say why. To a client that has gone nothing can be said, and the call is undone."""
    try:
        send((UNSERIALIZABLE, format_exc()))
    except OSError:
        if answer[0] == RETURN:
            take_back(obj, methodname, answer[1])
        raise


def _returned(server: Server, c: Any, entry: Any, methodname: str, result: Any) -> tuple[str, Any]:
    """The answer with what a method returned: a copy, or a proxy if the method is registered so."""
    typeid = entry[2] and entry[2].get(methodname)
    if not typeid:
        return RETURN, result
    ident, exposed = server.create(c, typeid, result)
    return PROXY, (exposed, Token(typeid, server.address, ident))


def answer_any(server: Server, session: Any, request: Any) -> tuple[str, Any] | None:
    """Answer any request; None: it has no answer."""
    methodname = None
    try:
        ident, methodname, args, kwds = (*request, {}) if len(request) == WITHOUT_KWDS else request
        if ident is None:
            result = server._public(methodname)(session, *args, **kwds)
            return None if methodname in ONE_WAY else (RETURN, result)
        try:
            entry = server.objects.find(ident)
        except KeyError:
            return GONE, str(ident)
        if methodname not in entry[1]:
            return _answer_unexposed(server, session, entry, request)
        try:
            result = getattr(entry[0], methodname)(*args, **kwds)
            return _returned(server, session, entry, methodname, result)
        except BaseException as error:  # noqa: BLE001 - the client gets it
            return _failure(server, error)
    except BaseException as error:
        if isinstance(error, SystemExit) and methodname in FOR_GOOD:
            raise
        return TRACEBACK, format_exc()


def _answer_unexposed(server: Server, session: Any, entry: Any, request: Any) -> tuple[str, Any]:
    """Answer a call of what any object can do, or of what this one does not expose."""
    ident, methodname, args = request[:WITHOUT_KWDS]
    fallback = server.fallback_mapping.get(methodname)
    if fallback is None:
        return UNEXPOSED, (type(entry[0]).__name__, str(methodname), tuple(sorted(entry[1])))
    return RETURN, fallback(server, session, ident, entry[0], *args)


# Exceptions of everyday use, whose traceback in the server tells nobody anything.
ORDINARY = (queue.Empty, queue.Full, LookupError, StopIteration)


def _failure(server: Server, error: BaseException) -> tuple[str, Any]:
    if server.serializer != "pickle":
        return TRACEBACK, format_exc()  # XML-RPC can express no exception
    return FAILURE, Failure(error, remote=not isinstance(error, ORDINARY))


# --- as the standard library's clients have it --------------------------------------------------------------------------


def serve_standard(server: Server, connection: Any) -> None:
    """Answer the requests of a standard client until it hangs up."""
    with in_the_standard_dialect():
        while not server.stop_event.is_set():
            try:
                request = connection.recv()
            except EOFError:
                return
            except Exception:  # noqa: BLE001 - it cannot be loaded here; the client is told
                answer: tuple[str, Any] = (TRACEBACK, format_exc())
            else:
                answer = _answer_standard(server, connection, request)
            if not _sent_standard(connection, answer):
                return


def _sent_standard(connection: Any, answer: tuple[str, Any]) -> bool:
    """Send an answer, or why it cannot be sent; return whether the client is there."""
    try:
        try:
            connection.send(answer)
        except Exception:  # noqa: BLE001 - what is in the answer cannot be pickled
            connection.send((UNSERIALIZABLE, format_exc()))
    except Exception as error:  # noqa: BLE001 - it has gone
        _util.info("a client has gone: %r; the answer was %r", error, answer)
        return False
    return True


def _answer_standard(server: Server, connection: Any, request: Any) -> tuple[str, Any]:
    try:
        ident, methodname, args, kwds = request
        entry = server.objects.find(ident)
        if methodname not in entry[1]:
            kind, value = _answer_unexposed(server, connection, entry, request)
            if kind == UNEXPOSED:
                return TRACEBACK, f"{UnexposedMethodError.__name__}: {UnexposedMethodError(*value)}\n"
            return kind, value
        function = getattr(entry[0], methodname)
        try:
            result = function(*args, **kwds)
        except BaseException as error:  # noqa: BLE001 - the client gets it
            return (ERROR, error) if server.serializer == "pickle" else _failure(server, error)
        return _returned(server, connection, entry, methodname, result)
    except BaseException:  # noqa: BLE001 - the client is told
        return TRACEBACK, format_exc()
