"""A signal handler that raises anywhere in `accept`: the client that was being let in is let in later or hung up on, and the listener goes on."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from alarms import SHOAL, AlarmError

from shoal.connection import Client, Listener

if TYPE_CHECKING:
    from types import FrameType
    from typing import Self

KEY = b"the key"
LONG = 20.0
# A descriptor that has no owner yet is lost, as in the standard library: between the system's accept and the socket object, between that and the connection.
OWNERLESS = {"take", "connection", "__init__"}


class AlarmAtLine:
    """Raises at the so-and-so-manieth line of shoal's that this thread runs in the with statement."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __enter__(self) -> Self:
        sys.settrace(self.call)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def call(self, frame: FrameType, *_: object) -> Any:
        ours = frame.f_code.co_filename.startswith(SHOAL) and frame.f_code.co_name not in OWNERLESS
        return self.line if ours else None

    def line(self, _frame: FrameType, event: str, _: object) -> Any:
        if event == "line":
            self.left -= 1
            if self.left == 0:
                raise AlarmError
        return self.line


def call_in(address: Any) -> str:
    """What becomes of a client: answered, or hung up on."""
    try:
        with Client(address, authkey=KEY) as client:
            client.send("hello")
            assert client.poll(LONG)
            assert client.recv() == "answer"
    except (EOFError, ConnectionError):
        return "hung up"
    return "answered"


def answer(listener: Listener) -> None:
    with suppress(EOFError, ConnectionError), listener.accept() as accepted:
        assert accepted.recv() == "hello"
        accepted.send("answer")


# A socket that the exception has taken from its frame is closed by who collects it, and says so.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_listener_goes_on_after_an_exception_at_any_line_of_accept():
    number, raised = 0, True
    with ThreadPoolExecutor(2) as threads, Listener(authkey=KEY, backlog=8) as listener:
        listener._listener._socket.settimeout(0.02)  # when all have been answered
        while raised:
            number += 1
            first = threads.submit(call_in, listener.address)
            raised = False
            try:
                with AlarmAtLine(number):
                    accepted = listener.accept()
            except AlarmError:
                raised = True
            else:
                with accepted:
                    assert accepted.recv() == "hello"
                    accepted.send("answer")
            second = threads.submit(call_in, listener.address)
            while not (first.done() and second.done()):
                with suppress(TimeoutError):
                    answer(listener)
            assert first.result() == "answered" or raised
            assert second.result() == "answered"
    assert number > 100
