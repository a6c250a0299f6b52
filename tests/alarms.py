"""Signal handlers that raise, as often as wanted, in shoal's calls and not in the midst of a test's own."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import shoal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

__all__ = ["SHOAL", "AlarmError", "alarms", "handled"]

SHOAL = str(Path(shoal.__file__).parent)


class AlarmError(Exception):
    """What a program's own signal handler raises."""


def ring(_number: int, frame: FrameType | None) -> None:
    """Raise, if it is a call of shoal's that has been interrupted."""
    while frame is not None:
        if frame.f_code.co_filename.startswith(SHOAL):
            raise AlarmError
        frame = frame.f_back


@contextmanager
def alarms(seconds: float) -> Iterator[None]:
    """Let one ring in this thread every so many seconds."""
    with handled(ring, seconds, seconds):
        yield


@contextmanager
def handled(handler: Callable[..., object], after: float, again: float = 0) -> Iterator[None]:
    """Let an alarm ring in this thread after so many seconds, and then every so many, and this handler answer it."""
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, after, again)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
