"""How a new connection becomes one that may be used, step by step and without waiting, so that many can be under way at once.

A channel moves the bytes: `Plain` here, `shoal._connection.tls.Encrypted` for TLS. It offers

* ``begin()``: prepare, as far as possible; true when messages may go over it;
* ``read(size)``: up to so many bytes, None if there are none yet, ``b""`` at the end of file;
* ``write(data)`` and ``flush()``, which is true when all that was written has gone to the kernel;
* ``heard``: whether anything has come from the other side; ``silent``: whether nothing can be there that the descriptor does not show;
* ``tell_the_silent()``: what to say to, and of, a client that says nothing;
* ``connection()``: what the user gets in the end; ``close()``; ``fileno()``.

Not a byte is read beyond the last message of the conversation. Until then the other side can make this one hold 260 bytes, and no more.
"""

from __future__ import annotations

import select
import socket
import time
from contextlib import suppress

from shoal._connection.authentication import LONGEST_MESSAGE, WELCOME, AuthenticationError
from shoal._connection.stream import Connection, frame, seconds_to_poll
from shoal.errors import AuthenticationInterruptedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from shoal._connection.authentication import Conversation

__all__ = ["PATIENCE", "TLS_ALERT", "Admission", "Plain", "admit"]

PATIENCE = 5.0  # seconds that the whole conversation may take
SHORTEST = 4 + len(
    WELCOME
)  # bytes of the message that a conversation ends with: so many may be asked for without reading beyond it

TLS_ALERT = b"\x15\x03"  # how a record begins that says what is wrong; no length of a message does


class Plain:
    """A socket, as it is. It is told with every call not to wait; the connection that it becomes waits."""

    silent = True

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._unsent = b""
        self.heard = False

    def begin(self) -> bool:
        """Nothing needs to be prepared."""
        return True

    def read(self, size: int) -> bytes | None:
        """Return what is there, up to ``size`` bytes; None: nothing yet."""
        try:
            data = self._socket.recv(size, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        self.heard = True
        return data

    def write(self, data: bytes) -> None:
        """Say what is to be sent."""
        self._unsent += data

    def flush(self) -> bool:
        """Send; true when nothing is left."""
        try:
            while self._unsent:
                self._unsent = self._unsent[self._socket.send(self._unsent, socket.MSG_DONTWAIT) :]
        except BlockingIOError:
            return False
        return True

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._socket.fileno()

    def connection(self) -> Connection:
        """Return the connection that takes the socket over."""
        return Connection(self._socket.detach())

    def tell_the_silent(self) -> str:
        """Tell a client that has said nothing why it is hung up on; return what to say of it here."""
        return ""

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


class Admission:
    """One connection on its way.

    Attributes:
        started: when it began (seconds, monotonic).
        deadline: when it must be over; infinite as long as nothing was heard, if it is given so.
    """

    def __init__(self, channel: Any, conversation: Conversation, *, from_first_byte: bool = False) -> None:
        self.started = time.monotonic()
        self.deadline = float("inf") if from_first_byte else self.started + PATIENCE
        self._channel = channel
        self._conversation = conversation
        self._begun = self._listening = self._over = False
        self._received = b""

    def fileno(self) -> int:
        """Return the descriptor to wait on, for what `events` says."""
        return self._channel.fileno()  # type: ignore[no-any-return]

    def step(self) -> Connection | None:
        """Go on as far as possible without waiting.

        Returns:
            The connection when the conversation is over; None: wait for the descriptor and call again.

        Raises:
            AuthenticationError: if the other side does not prove itself, or does not keep to the protocol.
            AuthenticationInterruptedError: if it hangs up.
            OSError: if the connection breaks, or TLS fails.
        """
        try:
            connection = self._step()
        except BaseException as error:
            with suppress(OSError):
                self._channel.flush()  # the last word: what is wrong
            self.close()
            if isinstance(error, EOFError) and not isinstance(error, AuthenticationError):
                raise AuthenticationInterruptedError from None
            raise
        if self._channel.heard:
            self.deadline = min(self.deadline, time.monotonic() + PATIENCE)
        return connection

    @property
    def events(self) -> int:
        """What to wait for: POLLIN, or POLLOUT too if something could not be sent yet."""
        return select.POLLIN if self._channel.flush() else select.POLLIN | select.POLLOUT

    def expire(self, why: str) -> BaseException:
        """Give up; return what is to be raised."""
        if not self._channel.heard:
            why += self._channel.tell_the_silent()
        error: BaseException = AuthenticationError(why)
        try:
            self._conversation.throw(error)
        except BaseException as told:  # noqa: BLE001 - returned
            error = told
        self.close()
        return error

    def close(self) -> None:
        """Hang up."""
        self._conversation.close()
        self._channel.close()

    def _step(self) -> Connection | None:
        if not self._begun:
            self._begun = self._channel.begin()
            if not self._begun:
                return None
            self._say(None)
        while self._channel.flush():
            if self._over:
                return self._channel.connection()  # type: ignore[no-any-return]
            if not self._listening:
                if self._say(None) and self._channel.silent:
                    return None  # it cannot have answered yet
                continue
            try:
                message = self._hear()
            except (EOFError, OSError, AuthenticationError) as error:
                self._conversation.throw(error)
                raise
            if message is None:
                return None
            self._say(message)
        return None

    def _say(self, heard: bytes | None) -> bool:
        """Give the conversation a message, or let it go on; send what it has to say. True if it wants to hear something."""
        try:
            said = self._conversation.send(heard)
        except StopIteration:
            self._over = True
            return False
        self._listening = said is None
        if said is not None:
            self._channel.write(frame(len(said)) + said)
        return self._listening

    def _hear(self) -> bytes | None:
        """Return the next message, or None if it is not there yet."""
        while True:
            need = SHORTEST
            if len(self._received) >= 4:  # noqa: PLR2004 - the length
                size = int.from_bytes(self._received[:4], "big", signed=True)
                if self._received[:2] == TLS_ALERT:
                    raise AuthenticationError("the listener speaks TLS: give Client tls=shoal.TLS(…), too")
                if not 0 <= size <= LONGEST_MESSAGE:
                    text = f"{size} bytes" if size >= 0 else "2 GiB or more"
                    raise AuthenticationError(
                        f"a message of {text} was announced, where authentication allows {LONGEST_MESSAGE}: {ODD}"
                    )
                need = 4 + size
                if len(self._received) >= need:
                    # (More than one message came only from somebody who sends other ones than a conversation ends with.)
                    message, self._received = self._received[4:need], self._received[need:]
                    return message
            data = self._channel.read(need - len(self._received))
            if data is None:
                return None
            if not data:
                raise EOFError
            self._received += data


ODD = "the other side speaks another protocol, or has no authentication key"


def admit(admission: Admission, until: float) -> Connection:
    """Carry one conversation through, waiting.

    Args:
        admission: the connection.
        until: when to give up in any case (seconds, monotonic).

    Raises:
        TimeoutError: if that moment comes first.
        AuthenticationError: as `Admission.step`, and if the conversation takes longer than it may.
    """
    poller = select.poll()
    while True:
        connection = admission.step()
        if connection is not None:
            return connection
        now = time.monotonic()
        if now >= until:
            admission.close()
            raise TimeoutError("the other side has not accepted the connection in time")
        if now >= admission.deadline:
            raise admission.expire(f"the other side fell silent for {PATIENCE:g} s in the middle of authentication")
        poller.register(admission, admission.events)
        wake = min(until, admission.deadline)
        try:
            poller.poll(None if wake == float("inf") else seconds_to_poll(wake - now))
        except BaseException:  # Ctrl-C
            admission.close()
            raise
