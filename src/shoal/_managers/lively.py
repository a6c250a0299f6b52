"""The one thread that answers all lively clients: those that ask one quick question after the other, through shared memory.

A client's own thread lends its ring to the multiplexer (`shoal._native.Multiplexer`) and gets it back with the first request that may take its time: one that
waits, that belongs into the client's own thread, or that makes an object.
"""

from __future__ import annotations

import threading

from shoal import _native
from shoal._managers.serving import QUICK, WITHOUT_KWDS, failure, not_exchanged
from shoal._managers.words import RETURN
from shoal._runtime.threads import harmless

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from shoal._managers.server import Server

__all__ = ["start"]


def start(server: Server) -> _native.Multiplexer:
    """Start the thread; return what rings are lent to."""
    multiplexer = _native.Multiplexer()
    thread = threading.Thread(target=_serve, args=(server, multiplexer), daemon=True, name="shoal-manager-lively")
    harmless(thread)
    thread.start()
    return multiplexer


def _serve(server: Server, multiplexer: _native.Multiplexer) -> None:
    try:
        _answer_all(server, multiplexer)
    finally:
        multiplexer.close()


def _answer_all(server: Server, multiplexer: _native.Multiplexer) -> None:
    entries = server.id_to_obj
    recv, exchange, hand_back = multiplexer.recv, multiplexer.exchange, multiplexer.hand_back
    ident: Any = None
    methodname: Any = None
    answer: Any = None
    while True:
        try:
            request = recv() if answer is None else exchange(answer)
        except Exception as error:  # noqa: BLE001 - one of three: see there
            try:
                not_exchanged(multiplexer, error, answer, entries, ident, methodname)
            except (EOFError, OSError):
                hand_back(None)  # its own thread sees that the client has gone
            answer = None
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
            answer = None
        else:
            try:
                answer = (RETURN, function(*args, **kwds) if kwds else function(*args))
            except BaseException as error:  # noqa: BLE001 - the client gets it, SystemExit and KeyboardInterrupt too
                answer = failure(server, error)
        # Nothing is kept alive while nobody asks.
        del request, function
        obj = args = kwds = None
