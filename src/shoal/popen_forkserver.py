"""Start by fork server: the child is a copy of a server that has imported what the program imports.

Everything the child needs is sent before anything is waited for, so a start costs two messages and a fork. The sentinel is a pidfd that the server opened
while the child was certainly its own, and sent along. See ``shoal.forkserver`` for how the exit code becomes known.

Relies on ``shoal.forkserver``, and on ``popen_spawn_posix`` where the server cannot fork. Promises that `wait` returns once the child is dead, whatever has become of
the server.
"""

from __future__ import annotations

import itertools
import os
import signal
import socket
import time
import warnings
from contextlib import suppress

from shoal import _native, _runtime, popen_spawn_posix, spawn
from shoal._forkserver import protocol
from shoal._pickling import payload
from shoal._runtime import interrupts
from shoal._runtime.exits import FROM_OUTSIDE, status_behind
from shoal._runtime.threads import level_of_caller
from shoal.errors import ForkServerError, ForkServerWarning, describe_exit
from shoal.forkserver import _forkserver as forkserver
from shoal.popen_fork import UNKNOWN
from shoal.popen_spawn_posix import Reserved, running_tracker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Popen"]

RESTART_SECONDS = 10.0  # for which new servers are asked if somebody kills them
PATIENCE = 2.0  # seconds to wait for the server to report an end that the sentinel has already told

_warned = False


class _DupFd:
    """Stands for a descriptor of the parent, which the child got under another number."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def detach(self) -> int:
        return spawn.received.get(self.fd, self.fd)


class Popen(popen_spawn_posix.Popen):
    """A process started by the fork server."""

    method = "forkserver"
    DupFd: Any = _DupFd
    _line = -1  # the socket through which the server speaks of this child

    def _launch(self, process_obj: Any) -> None:
        with Reserved(process_obj) as slot:
            self._token = slot.token
            parts = slot.pickled(process_obj, self)
            threads = self._ask(slot, parts)
            if threads:
                _warn_of(threads)
                self._start_interpreter(slot, parts)

    def _ask(self, slot: Reserved, parts: list[Any]) -> int:
        """Have the server start the child; the number of its threads if it cannot."""
        temporary = [payload.write(parts)]
        try:
            parent = _runtime.own_pidfd()
            if parent < 0:
                parent, held = _runtime.pipe()
                temporary.append(parent)
                self._descriptors = (held,)
            tracker = running_tracker()
            flags = (tracker is not None) * protocol.TRACKER | interrupts.are_held_back() * protocol.QUIET
            until = time.monotonic() + RESTART_SECONDS
            for attempt in itertools.count(1):
                server = forkserver.ensure_running()
                fixed = [temporary[0], slot.arena, parent, server, *([] if tracker is None else [tracker])]
                line, request = protocol.socket_pair()
                try:
                    with request:
                        protocol.send_head(line, slot.token, fixed + self._fds, flags)
                        sent = forkserver.ask(request, dependent=slot.dependent)
                    answer, descriptors = protocol.receive_last(line) if sent else (b"", [])
                    if answer and protocol.ANSWER.unpack(answer)[0] != protocol.FAILED:
                        return self._take(slot, line, answer, descriptors)
                except BaseException:
                    line.close()
                    raise
                if answer:
                    line.close()
                    forkserver.give_up(server, ending=True)
                    raise ForkServerError(
                        "the fork server could not import what set_forkserver_preload(..., on_error='fail') names; "
                        "its traceback is on standard error"
                    )
                code = forkserver.give_up(server)
                if sent and self._take_unannounced(slot, line):
                    return 0
                line.close()
                own_doing = code is not None and code not in FROM_OUTSIDE  # the next will do the same
                if attempt > 1 and (own_doing or time.monotonic() > until):
                    break
        finally:
            for fd in temporary:
                os.close(fd)
        raise ForkServerError(
            f"{attempt} fork servers in a row ended without starting the process (the last: {describe_exit(code)}); "
            "their messages are on standard error"
        )

    def _take(self, slot: Reserved, line: socket.socket, answer: bytes, descriptors: list[int]) -> int:
        kind, number = protocol.ANSWER.unpack(answer)
        if kind == protocol.THREADS:
            line.close()
            return int(number)
        self._descriptors += (*descriptors, line.fileno())
        self._line = line.detach()
        self.sentinel = descriptors[0] if descriptors else self._line
        self.pid = number
        slot.given_to(number)
        return 0

    def _take_unannounced(self, slot: Reserved, line: socket.socket) -> bool:
        """Take the child that the server had made before it was killed, if it had: the slot says so (see `protocol`)."""
        if _native.slot_state(slot.token) == "reserved":
            return False
        pid = _native.slot_claimed_by(slot.token)
        if pid == 0:
            line.close()
            raise ForkServerError(
                "the fork server was killed while it was starting the process, and so was the process: it may or may not have begun to run"
            )
        self.pid = pid
        slot.given_to(0)
        self._line = line.detach()
        self.sentinel = self._line  # readable for ever: right for a child that has ended
        self._descriptors += (self._line,)
        # A number is used again only after its process has died, and then the slot says so: it was alive, and this is its descriptor.
        sentinel = _runtime.pidfd_of(pid)
        if sentinel >= 0:
            self._descriptors += (sentinel,)
            if _native.slot_state(slot.token) == "live":
                self.sentinel = sentinel
        return True

    def _end_child(self) -> None:
        if self.pid and self._line < 0:  # a fresh interpreter
            super()._end_child()
            return
        token = self._token
        if not token:
            return
        # From here on either the child has its slot, or it will find that it has none, and leave.
        _native.slot_cancel(token)
        while (pid := _native.slot_claimed_by(token)) == 0 and _native.slot_state(token) == "live":
            time.sleep(0.001)
        if pid == 0:
            return
        sentinel = _runtime.pidfd_of(pid)
        # As above: while its slot is live, the number is that of the child.
        if _native.slot_state(token) == "live":
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL) if sentinel < 0 else signal.pidfd_send_signal(sentinel, signal.SIGKILL)
        if sentinel >= 0:
            _native.has_ended(sentinel, PATIENCE)
            os.close(sentinel)

    def _take_status(self, flag: int) -> int | None:
        if self._line < 0:  # a fresh interpreter after all: this process's own child
            return super()._take_status(flag)
        if not _native.has_ended(self.sentinel, None if flag == 0 else 0):
            return None
        code = _native.slot_exit_code(self._token)
        if code is None:
            code = self._reported()
        if code is None:
            code = status_behind(self.sentinel)
        return self._settle(UNKNOWN if code is None else code)

    def _reported(self) -> int | None:
        """What the server says of the child's end; None if it is dead itself."""
        line = protocol.Socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, self._line)
        try:
            while _native.has_ended(self._line, PATIENCE):
                answer, _ = protocol.receive_last(line)
                if not answer:
                    return None
                kind, number = protocol.ANSWER.unpack(answer)
                if kind == protocol.ENDED:
                    return int(number)
        finally:
            line.detach()
        return None


def _warn_of(threads: int) -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            f"the fork server has {threads} threads, started by something it imported, and cannot fork beside them: processes are "
            "started as fresh interpreters instead. Import that module inside functions, or use get_context('spawn').",
            ForkServerWarning,
            stacklevel=level_of_caller(),
        )
