"""Ctrl-C while a child comes into being.

Every child that is forked has it blocked at first: what is raised while the hooks of the fork run, or before the child has its handler, would be lost. It is let through, or is
blocked as it was in the parent, when the child is about to do what it is for.

A pool's worker and a manager's server are not to answer it at all. The terminal sends the signal to the whole process group, so to a child that still imports, too, and that would answer with a traceback. So it is blocked from before
the start, and a child has what its parent blocks, by whatever start method. Once the child has said what it does about the signal, it lets it through.

So is SIGTERM blocked, if the program handles it: until the child has given up its parent's `signal.set_wakeup_fd`, the handler would write to that, and the parent's event loop (asyncio)
would take the signal for its own. Where nothing handles it, it ends the child at any moment.

Blocked is the thread that starts. If the program has others, one of them takes the signal, and the main thread raises KeyboardInterrupt all the same.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed does not know it
import signal
import threading
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["INTERRUPT", "are_held_back", "bear", "borne", "held_at_fork", "hold_back", "let_through", "set_mask"]

INTERRUPT = {signal.SIGINT}
ENDING = {signal.SIGINT, signal.SIGTERM}

# The interpreter's own function. That of `signal` turns numbers into enumerations as well: too much for a child that has just been forked.
_handler_of: Callable[[int], object] = _signal.getsignal
set_mask: Callable[[int, Iterable[int]], set[int]] = _signal.pthread_sigmask


def held_at_fork() -> set[signal.Signals]:
    """What a child is to block when it is forked."""
    return ENDING if callable(_handler_of(signal.SIGTERM)) else INTERRUPT


@contextmanager
def hold_back() -> Iterator[None]:
    """Block SIGINT in this thread, and in children that it starts; one that has come raises KeyboardInterrupt at the end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPT)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def bear() -> bool:
    """Do nothing about Ctrl-C from now on, where nobody has said what is to be done about it; returns whether that is so."""
    if (
        threading.current_thread() is not threading.main_thread()
        or _handler_of(signal.SIGINT) is not signal.default_int_handler
    ):
        return False
    signal.signal(signal.SIGINT, _do_nothing)
    return True


@contextmanager
def borne() -> Iterator[None]:
    """Bear Ctrl-C in the block. If it were blocked, another thread would take it."""
    if not bear():
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _do_nothing(_number: int, _frame: object) -> None:
    """Be quiet."""


def are_held_back() -> bool:
    """Whether this thread blocks SIGINT."""
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def let_through() -> None:
    """In the child, when it has said what it does about SIGINT."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPT)
