"""Start by spawn: the child is a fresh interpreter.

It gets four descriptors: what was pickled for it (a file, so that nobody waits for anybody), the arena, the parent's pidfd, and those that the
pickled objects asked for (``duplicate_for_child``). The references in what was pickled keep their objects alive through the child's reserved slot.

Relies on ``shoal.spawn``. Promises that what cannot be pickled raises in `start`, and leaves nothing behind.
"""

from __future__ import annotations

import fcntl
import os

from shoal import _alias, _native, _runtime, _standard, popen_fork, spawn
from shoal._pickling import payload
from shoal._runtime import programs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

__all__ = ["Popen"]


class _DupFd:
    """Stands for a descriptor that the child inherits under the same number."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def detach(self) -> int:
        return self.fd


class Popen(popen_fork.Popen):
    """A process started as a fresh interpreter."""

    method = "spawn"
    DupFd: Any = _DupFd

    def __init__(self, process_obj: Any) -> None:
        self._fds: list[int] = []
        self._copies: list[int] = []
        try:
            super().__init__(process_obj)
        finally:
            for fd in self._copies:
                os.close(fd)

    def duplicate_for_child(self, fd: int) -> int:
        """Let the child inherit a descriptor; return its number there."""
        if fd in programs.STANDARD and not os.get_inheritable(fd):
            # It was opened after the program had closed its own. Under this number the child has nothing, either.
            fd = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, len(programs.STANDARD))
            self._copies.append(fd)
        self._fds.append(fd)
        return fd

    def _launch(self, process_obj: Any) -> None:
        with Reserved(process_obj) as slot:
            self._token = slot.token
            parts = slot.pickled(process_obj, self)
            self._start_interpreter(slot, parts)

    def _forked_unnoticed(self) -> int:
        return 0  # a program that was just started is ended by `programs.run`

    def _start_interpreter(self, slot: Reserved, parts: list[Any]) -> None:
        """Run an interpreter that takes the slot, with these descriptors and this payload."""
        file = payload.write(parts)
        temporary = [file]
        try:
            parent = _runtime.own_pidfd()
            if parent < 0:
                parent, held = _runtime.pipe()
                temporary.append(parent)
                self._descriptors += (held,)
            tracker, server = running_tracker(), _runtime.server_fd
            shared = {
                "tracker_fd": None if tracker is None else self.duplicate_for_child(tracker),
                "pipe_handle": file,
                "parent_sentinel": parent,
                "arena": slot.arena,
                "token": slot.token,
                "server_fd": -1 if server < 0 else self.duplicate_for_child(server),
                "alias": int(_alias.active()),
            }
            inherited = {
                fd for name, fd in shared.items() if name not in {"token", "alias"} and fd is not None and fd >= 0
            }
            ended = None
            if _runtime.own_pidfd() < 0:
                ended, writer = _runtime.pipe()
                temporary.append(writer)
                inherited.add(writer)
                self._descriptors += (ended,)
            self.pid = programs.run(spawn.get_command_line(**shared), inherited.union(self._fds))
            slot.given_to(self.pid)
            if ended is None:
                ended = _runtime.pidfd_of(self.pid)
                self._descriptors += (ended,)
            self.sentinel = ended
        finally:
            for fd in temporary:
                os.close(fd)


class Reserved:
    """A slot for a child that is about to be made; given back if that fails."""

    def __init__(self, process_obj: Any) -> None:
        self.arena = _runtime.ensure()
        _runtime.start_watcher()
        daemon, die_with_parent = process_obj.daemon, getattr(process_obj, "_die_with_parent", False)
        self.dependent = daemon or die_with_parent
        self.token = _native.slot_reserve(daemon, die_with_parent)
        self._given = False

    def pickled(self, process_obj: Any, popen: Any) -> list[Any]:
        """Pickle for the child; descriptors go through `popen`, references are kept for the slot."""
        taken = 0
        _native.references_begin()
        _standard.context.set_spawning_popen(popen)
        try:
            parts = spawn.pickled(process_obj)
            taken = self.token
        finally:
            _standard.context.set_spawning_popen(None)
            _native.references_end(taken)
        return parts

    def given_to(self, pid: int) -> None:
        """The child is there: the slot is its own now."""
        self._given = True
        if pid:
            _native.slot_set_pid(self.token, pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._given:
            _native.slot_cancel(self.token)


def running_tracker() -> int | None:
    """The standard library's resource tracker, if this process uses one: a child that shares standard objects shares it too."""
    fd: int | None = _standard.resource_tracker._resource_tracker._fd
    return fd
