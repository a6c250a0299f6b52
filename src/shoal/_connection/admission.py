"""How a new connection becomes one that may be used, step by step and without waiting, so that many can be under way at once.

A channel moves the bytes: `Plain` here, `shoal._connection.tls.Encrypted` for TLS. It offers

* ``begin()``: prepare, as far as possible; true when messages may go over it;
* ``read(size)``: up to so many bytes, None if there are none yet, ``b""`` at the end of file;
* ``write(data)`` and ``flush()``, which is true when all that was written has gone to the kernel;
* ``wait(seconds)``: have ``read`` wait, if it can; true if so; ``stop_waiting()``;
* ``heard``: whether anything has come from the other side; ``silent``: whether nothing can be there that the descriptor does not show;
* ``tell_the_silent()``: what to say to, and of, a client that says nothing;
* ``connection()``: what the user gets in the end; ``close()``; ``fileno()``.

Not a byte is read beyond the last message of the conversation. Until then the other side can make this one hold 260 bytes, and no more.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from contextlib import suppress

from shoal._connection.authentication import LONGEST_MESSAGE, WELCOME, AuthenticationError
from shoal._connection.stream import Connection, frame, poll_milliseconds
from shoal.errors import AuthenticationInterruptedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from shoal._connection.authentication import Conversation

__all__ = ["PATIENCE", "TLS_ALERT", "UNDISTURBED", "Admission", "Plain", "admit"]

PATIENCE = 5.0  # seconds that the whole conversation may take
UNDISTURBED = 0.25  # seconds for which the other side, which nearly always answers at once, is waited for with nothing else in mind
# Bytes that may be asked for without reading beyond a message: beyond the last of a conversation, beyond any other.
SHORTEST = 4 + len(WELCOME)
LONGEST = 4 + LONGEST_MESSAGE

LENGTH = struct.Struct("!i")
TIMEVAL = struct.Struct("@ll")
# (Calls are quicker with plain numbers than with enumerations.)
DONTWAIT, SOL_SOCKET, SO_RCVTIMEO = int(socket.MSG_DONTWAIT), int(socket.SOL_SOCKET), int(socket.SO_RCVTIMEO)
FOR_EVER = TIMEVAL.pack(0, 0)

TLS_ALERT = b"\x15\x03"  # how a record begins that says what is wrong; no length of a message does


class Plain:
    """A socket, as it is. It is told with every call not to wait, but for a moment at the beginning; the connection that it becomes waits."""

    silent = True

    def __init__(self, sock: socket.SocketType) -> None:
        self._socket = sock
        self._flags = DONTWAIT
        self._until = 0.0  # when it stops waiting; 0: it has not
        self._unsent = b""
        self.heard = False

    def begin(self) -> bool:
        """Nothing needs to be prepared."""
        return True

    def read(self, size: int) -> bytes | None:
        """Return what is there, up to ``size`` bytes; None: nothing yet."""
        try:
            data = self._socket.recv(size, self._flags)
        except BlockingIOError:
            self._flags = DONTWAIT
            return None
        if not self._flags and time.monotonic() > self._until:
            self._flags = DONTWAIT
        self.heard = True
        return data

    def wait(self, seconds: float) -> bool:
        """Have `read` wait, less than a second: one call of the system for each message, instead of three."""
        self._socket.setsockopt(SOL_SOCKET, SO_RCVTIMEO, TIMEVAL.pack(0, int(seconds * 1e6)))
        self._flags = 0
        self._until = time.monotonic() + seconds
        return True

    def stop_waiting(self) -> None:
        """Have `read` return at once, as before."""
        self._flags = DONTWAIT

    def write(self, data: bytes) -> None:
        """Say what is to be sent."""
        self._unsent += data

    def flush(self) -> bool:
        """Send; true when nothing is left."""
        if not self._unsent:
            return True
        try:
            while self._unsent:
                self._unsent = self._unsent[self._socket.send(self._unsent, DONTWAIT) :]
        except BlockingIOError:
            return False
        return True

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._socket.fileno()

    def connection(self) -> Connection:
        """Return the connection that takes the socket over."""
        if self._until:
            self._socket.setsockopt(SOL_SOCKET, SO_RCVTIMEO, FOR_EVER)
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
        admitted: whether `step` has returned the connection.
    """

    def __init__(self, channel: Any, conversation: Conversation, *, from_first_byte: bool = False) -> None:
        self.started = time.monotonic()
        self.deadline = float("inf") if from_first_byte else self.started + PATIENCE
        self._channel = channel
        self._conversation = conversation
        self.admitted = False
        self._stepped = self._begun = self._listening = self._over = False
        self._expected = LONGEST  # how many bytes what it listens for may have
        self._waiting = False
        self._received = b""

    def fileno(self) -> int:
        """Return the descriptor to wait on, for what `events` says."""
        return self._channel.fileno()  # type: ignore[no-any-return]

    def step(self, *, waiting: float = 0.0) -> Connection | None:
        """Go on as far as possible without waiting.

        Args:
            waiting: seconds, fewer than one, for which the other side is waited for all the same; twice as many, if it draws its answers out.

        Returns:
            The connection when the conversation is over; None: wait for the descriptor and call again.

        Raises:
            AuthenticationError: if the other side does not prove itself, or does not keep to the protocol.
            AuthenticationInterruptedError: if it hangs up.
            OSError: if the connection breaks, or TLS fails.
        """
        self._stepped = True
        self._waiting = waiting > 0 and self._channel.wait(waiting)
        try:
            connection = self._step()
        except BaseException as error:
            if isinstance(error, (EOFError, OSError, AuthenticationError)):
                with suppress(EOFError, OSError, AuthenticationError, StopIteration):
                    self._conversation.throw(error)  # it may have been listening
                with suppress(OSError):
                    self._channel.flush()  # the last word: what is wrong. (Who was interrupted does not know what it has sent.)
            self.close()
            if isinstance(error, EOFError) and not isinstance(error, AuthenticationError):
                raise AuthenticationInterruptedError from None
            raise
        if connection is not None:
            self.admitted = True
            return connection
        if self._waiting:
            self._channel.stop_waiting()
        if self._channel.heard:
            self.deadline = min(self.deadline, time.monotonic() + PATIENCE)
        return None

    @property
    def events(self) -> int:
        """What to wait for: POLLIN, or POLLOUT too if something could not be sent yet, or nobody has made the first step (it was interrupted)."""
        return select.POLLIN if self._stepped and self._channel.flush() else select.POLLIN | select.POLLOUT

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
        channel = self._channel
        while channel.flush():
            if self._over:
                if self._received:
                    raise AuthenticationError(f"more came than was to be answered: {ODD}")
                return channel.connection()  # type: ignore[no-any-return]
            heard = None
            if self._listening:
                heard = self._hear()
                if heard is None:
                    return None
            if self._goes_on(heard) and self._listening and channel.silent and not self._waiting:
                return None  # the other side cannot have answered yet
        return None

    def _goes_on(self, heard: bytes | None) -> bool:
        """Give the conversation a message, or let it go on; send what it has to say. False if it is over."""
        try:
            said = self._conversation.send(heard)
        except StopIteration:
            self._over = True
            return False
        if said:
            self._listening = False
            self._channel.write(frame(len(said)) + said)
        else:
            self._listening = True
            self._expected = LONGEST if said is None else SHORTEST
        return True

    def _hear(self) -> bytes | None:
        """Return the next message, or None if it is not there yet."""
        received, need = self._received, self._expected
        while True:
            if len(received) >= 4:  # noqa: PLR2004 - the length
                need = 4 + self._announced(received)
                if len(received) >= need:
                    self._received = received[need:]
                    return received[4:need]
            data = self._channel.read(need - len(received))
            if data is None:
                self._received = received
                return None
            if not data:
                raise EOFError
            received += data

    @staticmethod
    def _announced(received: bytes) -> int:
        """The length of the message that begins so."""
        size: int = LENGTH.unpack_from(received)[0]
        if 0 <= size <= LONGEST_MESSAGE:
            return size
        if received[:2] == TLS_ALERT:
            raise AuthenticationError("the listener speaks TLS: give Client tls=shoal.TLS(…), too")
        text = f"{size} bytes" if size >= 0 else "2 GiB or more"
        raise AuthenticationError(
            f"a message of {text} was announced, where authentication allows {LONGEST_MESSAGE}: {ODD}"
        )


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
    connection = admission.step(waiting=UNDISTURBED if until == float("inf") else 0.0)
    poller = select.poll()
    while True:
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
            poller.poll(None if wake == float("inf") else poll_milliseconds(wake - now))
        except BaseException:  # Ctrl-C
            admission.close()
            raise
        connection = admission.step()
