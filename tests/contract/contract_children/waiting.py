"""How long the tests wait, in seconds, and how they wait for what can only be looked at."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# What must happen happens within this time, on a busy machine too.
LONG = 20.0
# How long to look at something that must not happen, or to let a timeout run out.
SHORT = 0.05


def eventually(condition: Callable[[], object], seconds: float = LONG) -> bool:
    """Whether the condition comes true in time: for states that can be looked at but not waited for."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True
