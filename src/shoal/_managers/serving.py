"""One connection's requests, answered one after the other until it hangs up.

Two dialects (`shoal._managers.words`): what standard clients speak, and what shoal's own do.
"""

from __future__ import annotations

import array
import queue
import threading
from traceback import format_exc

from shoal import _standard
from shoal._managers import ring
from shoal._managers.held import concerns
from shoal._managers.over_socket import NOTHING_SENT, OverSocket
from shoal._managers.raised import Raised
from shoal._managers.undelivered import hang_up_of, take_back, unless
from shoal._managers.words import (
    ABANDONED,
    ERROR,
    FAILURE,
    FOR_GOOD,
    GONE,
    ONE_WAY,
    PROXY,
    RETURN,
    STANDARD_WORDS,
    TRACEBACK,
    UNEXPOSED,
    UNSERIALIZABLE,
    Token,
    UnexposedMethodError,
    in_the_standard_dialect,
)
from shoal._runtime.threads import harmless

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from shoal._managers.objects import Holder
    from shoal._managers.server import Server

__all__ = ["QUICK", "WITHOUT_KWDS", "Session", "failure", "serve_session", "serve_standard"]

_util: Any = _standard.util
WITHOUT_KWDS = 3  # the length of a request that has none


class Session:
    """A connection of one of shoal's clients, as the server's functions see it.

    Attributes:
        holder: the client, as `Objects` knows it.
        recv: receives a request.
        send: sends an answer.
        exchange: sends an answer and receives the next request.
        not_quick: the request may take its time.
        line: what has these.
        has_hung_up: tells whether the client has closed its end, even while a call is made for it.
    """

    def __init__(self, connection: Any, holder: Any) -> None:
        self.holder = holder
        line: Any = connection
        self.has_hung_up = hang_up_of(ring.descriptor_of_socket(connection))
        if not isinstance(connection, ring.Ring):
            line = OverSocket(connection, unless(self.has_hung_up, connection.send))
        self.recv, self.send, self.exchange, self.not_quick = line.recv, line.send, line.exchange, line.not_quick
        self.line = line


# Calls of these wait for nobody. (Unless a key's ``__hash__`` does, or what is dropped: then the multiplexer's other clients are back with their threads soon.)
QUICK = frozenset({dict, list, set, array.array, _standard.managers.Namespace, _standard.managers.Value})


def serve_session(server: Server, connection: Any, client: str, offer: Any) -> None:
    """Greet one of shoal's clients and serve it; by a ring, if it offers one and that may be had, and then in a new thread."""
    channels = None if offer is None else ring.accept(offer, connection)
    holder = server.objects.admit(client)
    try:
        connection.send((RETURN, (server.objects.instance, channels is not None)))
        if channels is not None:
            connection = ring.take_over(channels, connection, server.multiplexer)
            server._connections.add(connection)
            _start_apart(_serve_admitted, server, connection, holder)
            return
    except BaseException as error:
        server.objects.leave(client)
        connection.close()
        if isinstance(error, (EOFError, OSError)):
            _util.debug("a client has gone")
            return
        raise
    _serve_admitted(server, connection, holder)


def _serve_admitted(server: Server, connection: Any, holder: Holder) -> None:
    """Serve a client until it hangs up; then let go of what was its."""
    session = Session(connection, holder)
    holder.connected.add(session)
    try:
        _serve(server, session)
    except (EOFError, OSError):
        _util.debug("a client has gone")
    finally:
        holder.connected.discard(session)
        server.held.thread_ends()
        server.objects.leave(holder.client)
        connection.close()
        if holder.keeper not in holder.connected:
            server.held.client_ends(holder)


def _start_apart(function: Any, *args: Any) -> None:
    """Call a function in a new thread.

    What this one has said to the client went through a socket, and a wake-up through a socket takes the woken to the waker's core: the two now share one. The kernel starts a new
    thread on the core that has least to do, and where both sides go on from there is left to it.
    """
    thread = threading.Thread(target=function, args=args, daemon=True, name=threading.current_thread().name)
    harmless(thread)
    thread.start()


def _serve(server: Server, session: Session) -> None:  # noqa: C901, PLR0912 - the hot loop, in one piece
    """Answer until the connection breaks: EOFError or OSError."""
    entries = server.id_to_obj
    recv, exchange, not_quick = session.recv, session.exchange, session.not_quick
    line = session.line
    kwds: Any
    ident: Any = None
    methodname: Any = None
    entry: Any
    answer: Any = None
    while True:
        # The answer is kept until the next one: the client may be about to refer to something in it.
        try:
            request = recv() if answer is None else exchange(answer)
            if request is line:  # its client is lively; the ring keeps the answer
                answer = None
                request = line.lend()
        except Exception as error:
            if _has_gone(server, session, error, answer, ident, methodname):
                raise
            answer = None
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
            not_quick()
            answer = answer_any(server, session, request)
        else:
            locking = False
            if type(entry[0]) not in QUICK:
                not_quick()
                locking = concerns(methodname, entry[0])
            try:
                if locking:
                    answer = server.held.answer(session.holder, ident, entry[0], methodname, args, kwds or {})
                else:
                    result = function(*args, **kwds) if kwds else function(*args)
                    answer = (
                        (RETURN, result) if entry[2] is None else _returned(server, session, entry, methodname, result)
                    )
            except BaseException as error:  # noqa: BLE001 - the client gets it, SystemExit and KeyboardInterrupt too: this thread is never the main one
                answer = failure(server, error)
        # Nothing else is kept alive while nobody asks.
        del request, function
        args = kwds = result = entry = None


def _has_gone(server: Server, session: Session, error: Exception, answer: Any, ident: Any, methodname: Any) -> bool:
    """After an answer that could not be sent, or a request that could not be loaded: tell the client, or tell that it has gone.

    Raises:
        OSError: if it turns out to have gone.
    """
    if answer is not None and session.line.progress == NOTHING_SENT:
        _send_instead(server, session, answer, ident, methodname)
    elif isinstance(error, EOFError):
        return True
    else:
        session.send((TRACEBACK, format_exc()))
    return False


def _send_instead(server: Server, session: Session, answer: tuple[str, Any], ident: Any, methodname: Any) -> None:
    """An answer could not be sent: say why. To a client that has gone nothing can be said, and the call is undone."""
    try:
        session.send((UNSERIALIZABLE, format_exc()))
    except OSError:
        if answer[0] in {RETURN, ABANDONED}:
            take_back(server, session.holder, ident, methodname, answer)
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
        if STANDARD_WORDS.get(methodname, methodname) not in entry[1]:
            return _answer_unexposed(server, session, entry, request)
        return _called(server, session, entry, ident, methodname, args, kwds)
    except BaseException as error:
        if isinstance(error, SystemExit) and methodname in FOR_GOOD:
            raise
        return TRACEBACK, format_exc()


def _called(
    server: Server, session: Any, entry: Any, ident: str, methodname: str, args: Any, kwds: Any
) -> tuple[str, Any]:
    """Call a method that is exposed; the answer."""
    try:
        if concerns(methodname, entry[0]):
            return server.held.answer(session.holder, ident, entry[0], methodname, args, kwds)
        result = getattr(entry[0], STANDARD_WORDS.get(methodname, methodname))(*args, **kwds)
        return _returned(server, session, entry, methodname, result)
    except BaseException as error:  # noqa: BLE001 - the client gets it
        return failure(server, error)


def _answer_unexposed(server: Server, session: Any, entry: Any, request: Any) -> tuple[str, Any]:
    """Answer a call of what any object can do, or of what this one does not expose."""
    ident, methodname, args = request[:WITHOUT_KWDS]
    fallback = server.fallback_mapping.get(methodname)
    if fallback is None:
        return UNEXPOSED, (type(entry[0]).__name__, str(methodname), tuple(sorted(entry[1])))
    return RETURN, fallback(server, session, ident, entry[0], *args)


# Exceptions of everyday use, whose traceback in the server tells nobody anything.
ORDINARY = (queue.Empty, queue.Full, LookupError, StopIteration)


def failure(server: Server, error: BaseException) -> tuple[str, Any]:
    """Make the answer to a call that raised."""
    if server.serializer != "pickle":
        return TRACEBACK, format_exc()  # XML-RPC can express no exception
    return FAILURE, Raised(error, remote=not isinstance(error, ORDINARY))


# --- as the standard library's clients have it --------------------------------------------------------------------------


def serve_standard(server: Server, connection: Any) -> None:
    """Answer the requests of a standard client until it hangs up."""
    try:
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
    finally:
        server.held.thread_ends()


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
            if concerns(methodname, entry[0]):
                return RETURN, server.held.answer(None, ident, entry[0], methodname, args, kwds)[1]
            result = function(*args, **kwds)
        except BaseException as error:  # noqa: BLE001 - the client gets it
            return (ERROR, error) if server.serializer == "pickle" else failure(server, error)
        return _returned(server, connection, entry, methodname, result)
    except BaseException:  # noqa: BLE001 - the client is told
        return TRACEBACK, format_exc()
