"""A process that does what it is told, step by step, so that a test decides what happens before what."""

from __future__ import annotations

import contextlib
from operator import attrgetter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from contract_children.waiting import LONG

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from multiprocessing.context import BaseContext


class Partner:
    """A child that holds the given things. ``partner.ask("lock.acquire", timeout=0)`` calls a method of one of them over there,
    ``partner.ask(function, ...)`` calls the function with all of them and the arguments.
    """

    def __init__(self, mp: BaseContext, **things: Any) -> None:
        self.connection, theirs = mp.Pipe()
        self.process = mp.Process(target=_serve, args=(theirs, things), daemon=True)
        self.process.start()
        theirs.close()

    def tell(self, what: str | Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Let it begin; ``answer`` gives the outcome."""
        self.connection.send((what, args, kwargs))

    def answer(self, seconds: float = LONG) -> Any:
        """What came of the first thing told and not yet answered: its value, or its exception, raised here."""
        if not self.answered(seconds):
            raise TimeoutError(f"no answer within {seconds} s from {self.process}")
        succeeded, value = self.connection.recv()
        if succeeded:
            return value
        raise value

    def ask(self, what: str | Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.tell(what, *args, **kwargs)
        return self.answer()

    def answered(self, seconds: float = 0) -> bool:
        return self.connection.poll(seconds)

    def leave(self) -> None:
        """Ends it: kindly if it can still listen."""
        if self.process.is_alive():
            with contextlib.suppress(BrokenPipeError):
                self.connection.send(None)
            self.process.join(LONG / 4)
        if self.process.is_alive():
            self.process.kill()
        self.process.join()
        self.connection.close()


def _serve(orders: Connection, things: dict[str, Any]) -> None:
    held = SimpleNamespace(**things)
    while (order := orders.recv()) is not None:
        what, args, kwargs = order
        try:
            value = attrgetter(what)(held)(*args, **kwargs) if isinstance(what, str) else what(held, *args, **kwargs)
            outcome = True, value
        except Exception as error:  # noqa: BLE001 - whatever it is, the test is told
            outcome = False, error
        orders.send(outcome)
