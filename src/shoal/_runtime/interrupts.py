"""Ctrl-C while a child comes into being that is not to answer it: a pool's worker, a manager's server.

The terminal sends the signal to the whole process group, so to a child that still imports, too, and that would answer with a traceback. So it is blocked from before
the start, and a child has what its parent blocks, by whatever start method. Once the child has said what it does about the signal, it lets it through.

Blocked is the thread that starts. If the program has others, one of them takes the signal, and the main thread raises KeyboardInterrupt all the same.
"""

from __future__ import annotations

import signal
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["are_held_back", "hold_back", "let_through"]

INTERRUPT = {signal.SIGINT}


@contextmanager
def hold_back() -> Iterator[None]:
    """Block SIGINT in this thread, and in children that it starts; one that has come raises KeyboardInterrupt at the end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPT)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def are_held_back() -> bool:
    """Whether this thread blocks SIGINT."""
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def let_through() -> None:
    """In the child, when it has said what it does about SIGINT."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPT)
