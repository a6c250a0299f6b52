"""Forking beside other threads: who they are, and saying so before it happens.

A fork copies one thread. What the others held at that moment (locks of the logging module, of a library, of malloc) stays held in the child, for ever.
CPython warns of that from 3.12 on, after the fork and without saying which threads; shoal warns before it, on every version, and names them.
"""

from __future__ import annotations

import os
import posix
import sys
import threading
import warnings
import weakref
from contextlib import contextmanager

from shoal import _runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

__all__ = ["announce_fork", "harmless", "level_of_caller", "unannounced", "unseen"]

SHOWN = 5  # names in the warning

# Threads of shoal's own that hold nothing a child could miss.
_harmless: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


def harmless(thread: threading.Thread) -> None:
    """Say that a fork beside this thread needs no warning, because it never holds anything that a child uses."""
    _harmless.add(thread)


_counting = threading.Lock()


class Announcing(threading.local):
    """How forks by this thread are announced.

    Attributes:
        silent: not at all.
    """

    silent = False


_announcing = Announcing()


@contextmanager
def unseen() -> Iterator[None]:
    """Be counted among the threads that `threading` does not know and that hold nothing a forked child could miss."""
    with _counting:
        _runtime.unseen_threads += 1
    try:
        yield
    finally:
        with _counting:
            _runtime.unseen_threads -= 1


def _in_forked_child() -> None:
    global _counting
    _counting = threading.Lock()
    _announcing.silent = False
    _runtime.unseen_threads = 0


_runtime.in_forked_child(_in_forked_child)


def _sharer_of_descriptors() -> threading.Thread | None:
    """Return the standard library's thread that hands descriptors to other processes; it resets itself in a forked child."""
    module = sys.modules.get("multiprocessing.resource_sharer")
    sharer: Any = getattr(module, "_resource_sharer", None)
    return getattr(sharer, "_thread", None)


@contextmanager
def unannounced() -> Iterator[None]:
    """Have this thread fork without a word: there is nobody who could do anything about it."""
    before, _announcing.silent = _announcing.silent, True
    try:
        yield
    finally:
        _announcing.silent = before


def announce_fork() -> Callable[[], int]:
    """Warn if other threads are alive; return what is to be called in place of ``os.fork``, so that the interpreter does not warn again.

    That takes no change to the filters of warnings, which are the whole process's: one that another thread sets meanwhile would be lost.

    Raises:
        DeprecationWarning: if the program has made an error of it. Then nothing has been started.
    """
    if threading.active_count() == 1 and not _runtime.unseen_threads:
        return os.fork
    if not _announcing.silent:
        _announce()
    if os.fork is not posix.fork or sys.is_finalizing():
        return _fork_of_others
    from shoal import _native  # noqa: PLC0415 - only once something is started

    return _native.fork_unannounced


def _fork_of_others() -> int:
    """Call what somebody has put in the place of ``os.fork``."""
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        return os.fork()


def _announce() -> None:
    """Warn of other threads."""
    me = threading.current_thread()
    others = [
        thread
        for thread in threading.enumerate()
        if thread is not me and thread not in _harmless and thread is not _sharer_of_descriptors()
    ]
    if not others:
        return
    shown = ", ".join(repr(thread.name) for thread in others[:SHOWN])
    if len(others) > SHOWN:
        shown += f" and {len(others) - SHOWN} more"
    warnings.warn(
        f"forking a process while {len(others)} other thread{'s are' if len(others) > 1 else ' is'} alive ({shown}): whatever they hold "
        "stays held in the child, which may then deadlock. Start processes before threads, or use get_context('forkserver') or 'spawn'.",
        DeprecationWarning,
        stacklevel=level_of_caller(),
    )


def level_of_caller() -> int:
    """Count the frames, seen from the caller of this function, to the first one that is neither shoal's nor the standard package's."""
    level, frame = 0, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _OWN:
        level, frame = level + 1, frame.f_back
    return level + 1


_OWN = {"shoal", "multiprocessing", "_standard_multiprocessing"}
