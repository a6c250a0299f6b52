"""What threads of this process hand to the one that collects outcomes.

That one may be interrupted by Ctrl-C between any two bytecodes; so outcomes leave in one C call, as they do from the native table.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from itertools import count, repeat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shoal._pool.ledger import Message

__all__ = ["Outcomes"]


class Outcomes:
    """Messages about tasks, from many threads to one."""

    __slots__ = ("_bell", "_messages", "_numbers", "_woken", "asleep")

    def __init__(self) -> None:
        self._messages: dict[int, Message] = {}  # in the order of their arrival
        self._numbers = count()
        self._woken = False
        self.asleep = False  # somebody waits for messages, or is about to
        self._bell = threading.Lock()
        self._bell.acquire()

    def put(self, message: Message) -> None:
        """Hand a message over."""
        self._messages[next(self._numbers)] = message
        if self.asleep:
            self._ring()

    def collect(self, timeout: float | None) -> Iterable[Message]:
        """Wait for messages; none after `timeout` seconds, or when woken."""
        messages = self._messages
        if not messages and not self._woken and timeout != 0.0:
            self.asleep = True
            if not messages and not self._woken:  # first say so, then look again
                self._bell.acquire(timeout=-1.0 if timeout is None else min(max(timeout, 0.0), threading.TIMEOUT_MAX))
            self.asleep = False
        self._woken = False
        # Only the one who collects takes away; but a signal handler may collect, too, before this is read.
        return filter(None, map(messages.pop, list(messages), repeat(None)))

    def wake(self) -> None:
        """Make ``collect`` return, the present one or else the next."""
        self._woken = True
        self._ring()

    def _ring(self) -> None:
        """Wake whoever waits. May be called again and again; who is woken in vain looks and goes on."""
        self.asleep = False
        with suppress(RuntimeError):  # it rings already
            self._bell.release()
