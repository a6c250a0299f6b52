"""The fork server: a small loop in one thread, in an interpreter of its own.

It is executed afresh, so it holds nothing of the process that started it but one socket. It imports what the main module imports, and then forks
whenever it is asked to. It waits for its children, because it is their parent, and passes their exit codes on. It ends when no process is left that
could ask.

A start does not wait for a fork: when nothing is asked for, the server has a child in reserve (see `spare`), and the next request is given to that one.

A fork beside another thread is never done here. Threads that an import has started, and that end for the time of a fork (OpenBLAS does so), are sent
away by a trial fork; if there are others, clients are told, and start fresh interpreters.
"""

from __future__ import annotations

import gc
import os
import pickle
import select
import signal
import socket
import sys
import warnings
from contextlib import suppress

from shoal import _alias, _bootstrap, _native, _runtime, _standard, spawn
from shoal._forkserver import protocol
from shoal._forkserver.preload import MainModule, import_one
from shoal._forkserver.spare import Spare, wait_for_request
from shoal._pickling import payload
from shoal._runtime import fork_hook, programs
from shoal._runtime.interrupts import INTERRUPT, set_mask

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any, NoReturn

__all__ = ["main"]

# What signal.signal does after it has turned its arguments and its result into enumerations: too much for a child that has just been forked.
set_signal: Any = getattr(signal.signal, "__wrapped__", signal.signal)


def main(common_fd: int, plan_fd: int) -> None:
    """Serve until no client is left.

    Args:
        common_fd: the server's end of the common socket.
        plan_fd: the file with what to import.
    """
    # Ctrl-C is the program's business. Children begin with it blocked: one that comes before they have their handler waits.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    set_mask(signal.SIG_BLOCK, INTERRUPT)
    _listen_for_ended_children()
    programs.keep_descriptors()
    plan: dict[str, Any] = pickle.loads(payload.read(plan_fd)[0])
    if plan["alias"]:
        _alias.install()
    try:
        main_module = _preload(plan, common_fd)
    except _NotPreloadedError as failure:
        sys.excepthook(*_facts(failure.__cause__))
        _refuse(common_fd)
    _bootstrap.use_null_input()
    fork_hook.install()
    gc.collect()
    gc.freeze()  # children need not look at, and hence copy, what the server has
    with socket.socket(fileno=common_fd) as common:
        _Server(common, main_module).serve()


def _listen_for_ended_children() -> None:
    """The program that started this one may ignore SIGCHLD, or block it, and hands that on. Then nobody could wait for a child, or would know when to."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})


class _NotPreloadedError(Exception):
    """A module that a program asked for cannot be imported, and it wants no server then. Its cause says why."""


def _preload(plan: dict[str, Any], common_fd: int) -> MainModule:
    """Import what children will need.

    A module that makes a shared object when it is imported (a lock, say) is left to the children: each of them has its own, as with the standard
    library. That it was such a module shows afterwards; then the server begins anew, looks after each import, and leaves it out.
    """
    data = plan["data"]
    sys.path[:] = data.get("sys_path", sys.path)
    sys.argv = data.get("sys_argv", sys.argv)
    main_module = MainModule(data)
    # The latter is what pool workers run: importing it would take them ten times as long as everything else about their start.
    for name in ["shoal.context", "shoal.pool", *main_module.imports, *plan["preload"]]:
        if name in plan["left_out"]:
            continue
        error = _run_main(main_module) if name == "__main__" else import_one(name)
        if error is not None and name in plan["preload"]:
            plan["left_out"].append(name)  # once is enough, should the server begin anew
            _mind(name, error, plan["on_error"])
        if plan["careful"] and _makes_shared_objects():
            _begin_anew({**plan, "left_out": [*plan["left_out"], name]}, common_fd)
    if _makes_shared_objects():
        _begin_anew({**plan, "careful": True}, common_fd)
    return main_module


def _mind(name: str, error: BaseException, on_error: str) -> None:
    """Do about a module that cannot be imported what the program has asked for."""
    if on_error == "fail":
        raise _NotPreloadedError(name) from error
    if on_error == "warn":
        with warnings.catch_warnings():
            if not sys.warnoptions:  # import warnings are hidden unless somebody asks for them: here somebody has
                warnings.simplefilter("always", ImportWarning)
            warnings.warn(f"the fork server could not preload {name!r}: {error!r}", ImportWarning, stacklevel=2)


def _facts(error: BaseException | None) -> tuple[Any, Any, Any]:
    return type(error), error, None if error is None else error.__traceback__


def _refuse(common_fd: int) -> NoReturn:
    """Tell whoever asks first that there will be no server, and end."""
    with suppress(OSError), socket.socket(fileno=common_fd) as common:
        for fd in protocol.receive(common)[1][:1]:
            _tell(fd, protocol.FAILED, 0)
    _standard.util._flush_std_streams()  # type: ignore[attr-defined]
    os._exit(1)  # whatever threads an import has started


def _run_main(main_module: MainModule) -> BaseException | None:
    current: Any = _standard.process.current_process()
    current._inheriting = True
    try:
        if main_module.code is not None:
            main_module.run()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - children will meet it themselves
        sys.modules.pop("__mp_main__", None)
        return error
    else:
        return None
    finally:
        del current._inheriting


def _makes_shared_objects() -> bool:
    """Tell whether this process has an arena by now. Only a fork shows: this one also makes libraries end their threads, if they do before forks."""
    with warnings.catch_warnings(action="ignore"):
        pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return bool(_native.fork_token())


def _begin_anew(plan: dict[str, Any], common_fd: int) -> NoReturn:
    """Become a fresh interpreter under the same process id, with the same socket."""
    file = payload.write([pickle.dumps(plan)])
    for fd in (common_fd, file):
        os.set_inheritable(fd, True)
    command = [os.fsencode(word) for word in spawn.interpreter(protocol.server_program(common_fd, file))]
    os.execv(command[0], command)


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))  # noqa: PTH208 - before every fork: the shortest way


def _tell(fd: int, kind: int, number: int, descriptors: list[int] | None = None) -> None:
    sock = protocol.Socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fd)
    try:
        protocol.send(sock, protocol.ANSWER.pack(kind, number), descriptors or [])
    except OSError:  # the client has vanished: it does not want to know
        pass
    finally:
        sock.detach()


class _Server:
    def __init__(self, common: socket.socket, main_module: MainModule) -> None:
        self.common = common
        self.main_module = main_module
        self.sockets: dict[int, int] = {}  # a living child's pid: the descriptor of its socket
        self.dependents: dict[int, int] = {}  # of those that are to end with their client: the descriptor, the pid
        self.spare: Spare | None = None
        self.needs_spare = False  # whether one is to be made as soon as there is nothing else to do
        self.bell, self.ringer = os.pipe()
        os.set_blocking(self.bell, False)
        os.set_blocking(self.ringer, False)
        self.poller = select.epoll()

    def serve(self) -> None:
        signal.signal(signal.SIGCHLD, _hear)
        signal.set_wakeup_fd(self.ringer, warn_on_full_buffer=False)
        self.poller.register(self.common, select.EPOLLIN)
        self.poller.register(self.bell, select.EPOLLIN)
        while True:
            ready = {fd for fd, _ in self.poller.poll(0 if self.needs_spare else None)}
            for fd in ready & self.dependents.keys():
                self._have_it_look(fd)
            if self.bell in ready:
                self._reap()
            if self.common.fileno() in ready and not self._answer():
                self._dismiss_spare()
                return
            if not ready:
                self._make_spare()

    def _have_it_look(self, fd: int) -> None:
        """The client has let go of a child, perhaps because it is dead: tell the child, as the kernel tells those whose parent it is (`native/process/parent.hpp`)."""
        with suppress(PermissionError):  # it has become another user's process
            os.kill(self._release(fd), signal.SIGURG)  # not waited for yet, so the number is its own

    def _release(self, fd: int) -> int:
        self.poller.unregister(fd)
        return self.dependents.pop(fd)

    def _reap(self) -> None:
        """Pass on the exit codes of children that have ended."""
        os.read(self.bell, 4096)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self.spare is not None and pid == self.spare.pid:  # somebody has killed it
                self.spare.close()
                self.spare = None
            fd = self.sockets.pop(pid, -1)
            if fd >= 0:
                if fd in self.dependents:
                    self._release(fd)
                _tell(fd, protocol.ENDED, os.waitstatus_to_exitcode(status))
                os.close(fd)

    def _answer(self) -> bool:
        """Take one request; False if there will be no more."""
        try:
            data, descriptors = protocol.receive(self.common)
        except ConnectionResetError:
            return False
        if not data:
            return False
        for fd in descriptors[:1]:
            self._start(fd, dependent=data == protocol.DEPENDENT)
        return True

    def _start(self, fd: int, *, dependent: bool) -> None:
        if self.main_module.refresh():
            self._dismiss_spare()  # it has the main module as it was
        spare, self.spare = self.spare, None
        if spare is not None and spare.take(fd):
            pid = spare.pid
        else:
            threads = _threads()
            if threads > 1:
                _tell(fd, protocol.THREADS, threads)
                os.close(fd)
                return
            pid = os.fork()
            if pid == 0:
                self._become_child(fd, None)
        self.needs_spare = True
        self.sockets[pid] = fd
        if dependent:
            self.dependents[fd] = pid
            self.poller.register(fd, 0)  # that is, for a hang-up
        pidfd = _runtime.pidfd_of(pid)
        _tell(fd, protocol.STARTED, pid, [pidfd] if pidfd >= 0 else [])
        if pidfd >= 0:
            os.close(pidfd)

    def _make_spare(self) -> None:
        """Fork a child for the next request. If that fails, the next request has its fork made for it."""
        self.needs_spare = False
        if self.spare is not None or _threads() > 1:
            return
        try:
            ours, theirs = protocol.socket_pair()
        except OSError:
            return
        with theirs:
            try:
                pid = os.fork()
            except OSError:
                ours.close()
                return
            if pid == 0:
                ours.close()
                self._become_child(-1, theirs)
        self.spare = Spare(pid, ours)

    def _dismiss_spare(self) -> None:
        if self.spare is not None:
            self.spare.dismiss()
            self.spare = None

    def _become_child(self, fd: int, line: socket.socket | None) -> NoReturn:
        """Be the child that was asked for through `fd`; or a spare one, that is told through `line`."""
        exitcode = 1
        try:
            signal.set_wakeup_fd(-1)
            set_signal(signal.SIGCHLD, signal.SIG_DFL)
            self.poller.close()
            for other in (self.common.fileno(), self.bell, self.ringer, *self.sockets.values()):
                os.close(other)
            if self.spare is not None:
                self.spare.close()
            _bootstrap.clear_exit_functions()
            _reseed()
            if line is not None:
                fd = wait_for_request(line)
            exitcode = _run(fd, self.main_module)
        except Exception:  # noqa: BLE001 - the last frame of the process
            sys.excepthook(*sys.exc_info())
            _standard.util._flush_std_streams()  # type: ignore[attr-defined]
        finally:
            _bootstrap.leave(exitcode)


def _run(fd: int, main_module: MainModule) -> int:
    """Take what the client sends, and be that process. Runs in the child."""
    sock = protocol.Socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fd)
    head = protocol.receive_head(sock)
    set_signal(signal.SIGINT, signal.default_int_handler)
    file, arena, parent_sentinel, server, *given = head.descriptors
    tracker = given.pop(0) if head.flags & protocol.TRACKER else None
    try:
        _runtime.attach(arena, head.token)
    except ProcessLookupError:
        return 1  # a Ctrl-C has interrupted its start, or ended who wanted it: nobody knows of it, nor wants to hear from it
    sock.close()  # not before: a client whose server was killed meanwhile takes it that nobody will claim the slot any more
    spawn.inherit(tracker, server)
    spawn.inherited_fds = given
    spawn.received = dict(zip(head.numbers, head.descriptors, strict=True))
    spawn.main_module = main_module
    if not head.flags & protocol.QUIET:
        set_mask(signal.SIG_UNBLOCK, INTERRUPT)
    return spawn.run(payload.read(file), parent_sentinel)


def _reseed() -> None:
    """Generators that the server has seeded would give the same numbers in every child; ``random`` sees to itself."""
    numpy_random: Any = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def _hear(_signal: int, _frame: FrameType | None) -> None:
    """Do nothing: a handler must be there for the wake-up descriptor to be written to."""
