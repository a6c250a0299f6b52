"""The fork server, as its clients see it.

One server serves a tree: a process that finds none starts it, and its children inherit the socket by which to ask. A server that was killed is replaced by the
first process that notices, when it next starts a child; the children of the old one live on. See ``shoal._forkserver`` for the other side.

How an exit code becomes known, given that only the server can wait for its children: the child leaves it in its slot of the arena before a clean exit; the
server sends what ``waitpid`` said, through a socket of its own for each child; and the kernel (from Linux 6.15 on) keeps it behind the pidfd. The first two do not
need each other: a clean exit is known though the server be dead, and without it a signal is known on newer kernels. Otherwise the code is 255, as in the
standard library.

Relies on ``shoal.spawn`` for what a child is told.
"""

from __future__ import annotations

import os
import pickle
import socket
import threading
from contextlib import suppress

from shoal import _alias, _native, _runtime, _standard, spawn
from shoal._forkserver import protocol
from shoal._pickling import payload
from shoal._runtime import interrupts, programs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["connect_to_new_process", "ensure_running", "get_inherited_fds", "set_forkserver_preload"]

REAPING_SECONDS = 1.0  # to wait for the end of a server that does not answer
ON_ERROR = ("ignore", "warn", "fail")  # what may be done about modules that cannot be preloaded


class ForkServer:
    """This process's line to the fork server of its tree."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._forkserver_pid: int | None = None
        self._preload_modules: list[str] = []
        self._preload_on_error = "ignore"
        _runtime.in_forked_child(self._forget_thread_state)

    def _forget_thread_state(self) -> None:
        self._lock = threading.Lock()
        self._forkserver_pid = None  # it is the parent's child, not this process's

    def set_forkserver_preload(self, modules_names: list[str], *, on_error: str = "ignore") -> None:
        """Name modules to import in a server started from now on, besides those that the main module imports.

        ``__main__`` among them has the main module run in the server, once, and not again in each child.

        Args:
            modules_names: of the modules.
            on_error: what is done about one that cannot be imported. ``"ignore"``: nothing, the import will fail where the program makes it;
                ``"warn"``: the server writes an ``ImportWarning`` to standard error; ``"fail"``: it writes the traceback, and starting a
                process raises ``ForkServerError``, which is an ``EOFError``. (Python 3.15.)

        Raises:
            TypeError: if a name is no string.
            ValueError: if ``on_error`` is something else.
        """
        if not all(type(name) is str for name in modules_names):
            raise TypeError("module_names must be a list of strings")
        if on_error not in ON_ERROR:
            raise ValueError(f"on_error must be 'ignore', 'warn' or 'fail', not {on_error!r}")
        self._preload_modules = modules_names
        self._preload_on_error = on_error

    def get_inherited_fds(self) -> list[int] | None:
        """Return the descriptors that came with this process, None if no fork server started it."""
        return spawn.inherited_fds

    def connect_to_new_process(self, fds: list[int]) -> tuple[int, int]:
        """Not offered: what goes between server and client is shoal's own. This asks the standard library's fork server."""
        return _standard.forkserver.connect_to_new_process(fds)  # type: ignore[no-any-return]

    def ensure_running(self) -> int:
        """See to it that this process has a server to ask; return the socket to ask by."""
        with self._lock:
            if _runtime.server_fd < 0:
                _runtime.server_fd = self._start()
            return _runtime.server_fd

    def ask(self, request: socket.socket, *, dependent: bool) -> bool:
        """Hand the server the end of a child's socket pair; False if it is dead. `dependent`: the child is to end with this process."""
        with self._lock:
            if _runtime.server_fd < 0:
                return False
            common = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, fileno=_runtime.server_fd)
            try:
                protocol.send(common, protocol.DEPENDENT if dependent else protocol.LASTING, [request.fileno()])
            except OSError:
                return False
            finally:
                common.detach()
            return True

    def give_up(self, server: int, *, ending: bool = False) -> int | None:
        """The server behind this socket is dead, or has said that it ends: the next request goes to a new one.

        Returns:
            Its exit code; None if that is not known, because another process started it, or another thread has given it up.
        """
        with self._lock:
            return self._drop(None if ending else REAPING_SECONDS) if _runtime.server_fd == server else None

    def _stop(self) -> None:
        """Give up the server; if this process started it and nobody else uses it, it ends, and is waited for. For tests."""
        with self._lock:
            self._drop(None)

    def _drop(self, patience: float | None) -> int | None:
        if _runtime.server_fd >= 0:
            os.close(_runtime.server_fd)
            _runtime.server_fd = -1
        pid, self._forkserver_pid = self._forkserver_pid, None
        if pid is None:
            return None
        if patience is None or _has_ended(pid, patience):
            with suppress(ChildProcessError):
                return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return None

    def _start(self) -> int:
        data = spawn.get_preparation_data("ignore")
        known = {"init_main_from_name", "init_main_from_path", "sys_path", "sys_argv"}
        plan = {
            "data": {key: value for key, value in data.items() if key in known},
            "preload": self._preload_modules,
            "on_error": self._preload_on_error,
            "left_out": [],
            "careful": False,
            "alias": _alias.active(),
        }
        ours, theirs = protocol.socket_pair()
        file = payload.write([pickle.dumps(plan)])
        try:
            program = protocol.server_program(theirs.fileno(), file)
            with interrupts.hold_back():  # the server ignores them, once it is there
                server = programs.run(spawn.interpreter(program), {theirs.fileno(), file})
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(file)
        self._forkserver_pid = server
        return ours.detach()


def _has_ended(pid: int, seconds: float) -> bool:
    """Whether a child of this process has ended, or does so before these seconds are over: its sockets are closed a little earlier."""
    sentinel = _runtime.pidfd_of(pid)
    if sentinel < 0:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    try:
        return _native.has_ended(sentinel, seconds)
    finally:
        os.close(sentinel)


def __getattr__(name: str) -> Any:
    """What the standard server and its clients say to each other: ``main``, ``read_signed``, …."""
    return getattr(_standard.forkserver, name)


_forkserver = ForkServer()
connect_to_new_process = _forkserver.connect_to_new_process
ensure_running = _forkserver.ensure_running
get_inherited_fds = _forkserver.get_inherited_fds
set_forkserver_preload = _forkserver.set_forkserver_preload
