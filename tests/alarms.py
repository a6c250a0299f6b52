"""Signal handlers that raise, as often as wanted, in shoal's calls and not in the midst of a test's own."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import shoal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

__all__ = ["AlarmError", "alarms"]

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
    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
