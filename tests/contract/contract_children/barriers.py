"""Actions of barriers, run in whichever process comes last."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.connection import Connection


class Tell:
    """Says that it was called."""

    def __init__(self, to: Connection) -> None:
        self.to = to

    def __call__(self) -> None:
        self.to.send("action")


def fail() -> None:
    raise LookupError("action")
