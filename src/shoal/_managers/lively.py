"""The one thread that answers all lively clients: those that ask one quick question after the other, through shared memory.

A client's own thread lends its ring to the multiplexer (`shoal._native.Multiplexer`) and gets it back with the first request that may take its time: one that
waits, that belongs into the client's own thread, or that makes an object.

Relies on ``serving`` for what is quick. Promises that whatever happens in one client's request, or in the answer to it, ends that client's connection at most.
"""

from __future__ import annotations

import threading
from traceback import format_exc

from shoal import _native, _standard
from shoal._managers.serving import QUICK, WITHOUT_KWDS, failure
from shoal._managers.words import RETURN, TRACEBACK, UNSERIALIZABLE
from shoal._runtime.threads import harmless

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from shoal._managers.server import Server

__all__ = ["start"]

_util: Any = _standard.util


def start(server: Server) -> _native.Multiplexer | None:
    """Start the thread; return what rings are lent to, or None if it is not to be had: then each client has a thread, as on other ways."""
    try:
        multiplexer = _native.Multiplexer()
        thread = threading.Thread(target=_serve, args=(server, multiplexer), daemon=True, name="shoal-manager-lively")
        harmless(thread)
        thread.start()
    except (OSError, RuntimeError) as error:  # no descriptor, or no thread
        _util.info("lively clients are served as others are: %s", error)
        return None
    return multiplexer


def _serve(server: Server, multiplexer: _native.Multiplexer) -> None:
    try:
        while True:
            _answer_until_trouble(server, multiplexer)
    finally:
        multiplexer.close()


def _answer_until_trouble(server: Server, multiplexer: _native.Multiplexer) -> None:
    """Take requests, and answer them, until one makes trouble."""
    try:
        _answer_all(server, multiplexer)
    except BaseException as error:  # noqa: BLE001 - SystemExit too: it came out of an object that was loaded or pickled
        _util.info("a client is hung up on: %r", error)
    multiplexer.hang_up()


def _answer_all(server: Server, multiplexer: _native.Multiplexer) -> None:
    """Answer requests.

    Raises:
        BaseException: what is to end the connection of the client whose request was taken last.
    """
    entries = server.id_to_obj
    recv, send, hand_back = multiplexer.recv, multiplexer.send, multiplexer.hand_back
    answer: Any
    while True:
        try:
            request = recv()
        except EOFError:
            raise
        except Exception:  # noqa: BLE001 - it cannot be loaded here; the client is told
            send((TRACEBACK, format_exc()))
            continue
        kwds: Any = None
        try:
            if len(request) == WITHOUT_KWDS:
                ident, methodname, args = request
            else:
                ident, methodname, args, kwds = request
            obj, exposed, typeids = entries[ident]
            quick = type(obj) in QUICK and methodname in exposed and not (typeids and methodname in typeids)
            function = getattr(obj, methodname) if quick else None
        except Exception:  # noqa: BLE001 - the server itself is asked, or nothing that is there
            function = None
        if function is None:
            hand_back(request)
        else:
            try:
                answer = (RETURN, function(*args, **kwds) if kwds else function(*args))
            except BaseException as error:  # noqa: BLE001 - the client gets it, SystemExit and KeyboardInterrupt too
                answer = failure(server, error)
            try:
                send(answer)
            except Exception:  # noqa: BLE001 - it cannot be pickled, or the client has gone
                send((UNSERIALIZABLE, format_exc()))
        # Nothing is kept alive while nobody asks; the answer is, by the ring.
        request = function = answer = obj = args = kwds = None
