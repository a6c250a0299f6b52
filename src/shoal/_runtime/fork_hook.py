"""A child forked from a process with one thread has no threads to forget.

In every forked child ``threading`` goes through all threads that there were, forgets those that are not there any more, and gives the others new locks. Where the one that
forked was the only one, nothing comes of it; but the way there costs a child some sixty pages, a quarter of all that it writes to, and with them a tenth of the time that a
start takes. So the interpreter's hook is given code that looks first whether there is anything to do. If there is, it does what it always did.

Relies on ``threading._after_fork`` being the standard library's own, in a version that has been looked at; anything else is left as it is. Promises that a child finds
``threading`` as it would without this, however it was forked.
"""

# ruff: noqa: F821 - the names of another module, declared below
from __future__ import annotations

import sys
import threading
from types import FunctionType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["install"]

FIRST_UNKNOWN = (3, 15)


def install() -> None:
    """Have the hook look first; once, however often this is called."""
    hook: Any = getattr(threading, "_after_fork", None)
    code: Any = getattr(hook, "__code__", None)
    if getattr(code, "co_filename", None) != threading.__file__ or sys.version_info >= FIRST_UNKNOWN:
        return
    hook.__defaults__ = (FunctionType(code, vars(threading)), sys.version_info < (3, 13))
    hook.__code__ = _after_fork.__code__


# What follows runs in `threading`, among its names.
_active: dict[int, threading.Thread]
_active_limbo_lock: Any
_dangling: Any
_main_thread: threading.Thread
_shutdown_locks: set[Any]
_MainThread: type
RLock: Any
get_ident: Callable[[], int]


def _after_fork(whole: Callable[[], None], has_shutdown_locks: bool) -> None:
    global _active_limbo_lock
    # Is this the main thread, and the only one that there is an object of? (Of one that was never started, or has ended, there may be.)
    if (
        len(_active) == 1
        and len(_dangling.data) == 1
        and _main_thread.__class__ is _MainThread
        and _active.get(get_ident()) is _main_thread
    ):
        if has_shutdown_locks:
            _shutdown_locks.clear()
        # A thread that `threading` does not know may have held it.
        if _active_limbo_lock.acquire(False):
            _active_limbo_lock.release()
        else:
            _active_limbo_lock = RLock()
    else:
        whole()
