"""``Process`` objects: what all start methods have in common.

A process is described by the standard library's ``BaseProcess``; the class here derives from it, and shares the state of its module: who the current
process is, who its children are. So ``multiprocessing.current_process()`` tells the truth in a shoal child, and a program may mix both packages. What is
new: ``die_with_parent``, ``interrupt`` on every version, and a child that loses no time between the fork and ``run``.

How a child is made, waited for and ended is the business of ``popen_fork``, ``popen_spawn_posix`` and ``popen_forkserver``.

Relies on the standard ``multiprocessing.process`` and ``util``. Promises that a replaced ``BaseProcess._bootstrap``, there or here, runs in every child.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading

from shoal import _runtime, _standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

__all__ = ["BaseProcess", "active_children", "current_process", "parent_process"]

_state: Any = _standard.process
_util: Any = _standard.util

current_process = _standard.process.current_process
active_children = _standard.process.active_children
parent_process = _standard.process.parent_process
AuthenticationString = _state.AuthenticationString


def __getattr__(name: str) -> Any:
    """Names that the standard module has, among them what changes: ``_children``, ``_current_process``, ``_dangling``, …."""
    return getattr(_state, name)


class BaseProcess(_standard.process.BaseProcess):
    """An activity that runs in a process of its own, as ``threading.Thread`` is one in a thread.

    Args:
        group: None, for compatibility with ``threading.Thread``.
        target: called by `run` in the child.
        name: None makes one (``Process-1``).
        args: positional arguments for `target`.
        kwargs: keyword arguments for `target`.
        daemon: whether the child is terminated when this process exits; None takes over this process's own flag.
        die_with_parent: whether a child that is no daemon is killed, too, when this process is killed. A daemon always is. Only such children may
            a daemon have: they cannot outlive it.
    """

    _die_with_parent = False

    def __init__(
        self,
        group: None = None,
        target: Callable[..., object] | None = None,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] = {},
        *,
        daemon: bool | None = None,
        die_with_parent: bool = False,
    ) -> None:
        super().__init__(group, target, name, args, kwargs, daemon=daemon)
        if die_with_parent:
            self._die_with_parent = True

    def start(self) -> None:
        """Start the process; once at most, and by the process that made the object.

        Raises:
            AssertionError: at the second start, in another process, or in a daemon, unless the child is to die with it.
        """
        process: Any = self
        if not self._die_with_parent or not _state._current_process._config.get("daemon"):
            super().start()
            return
        process._check_closed()
        if process._popen is not None:
            raise AssertionError("cannot start a process twice")
        if process._parent_pid != os.getpid():
            raise AssertionError("can only start a process object created by current process")
        _state._cleanup()
        process._popen = process._Popen(process)
        process._sentinel = process._popen.sentinel
        del process._target, process._args, process._kwargs  # as after any start: they may refer to the process
        _state._children.add(process)

    if sys.version_info < (3, 14):

        def interrupt(self) -> None:
            """Send SIGINT to the process: in most programs that raises KeyboardInterrupt in its main thread."""
            self._check_closed()  # type: ignore[attr-defined]
            self._popen.interrupt()  # type: ignore[attr-defined]

    def _bootstrap(self, parent_sentinel: int | None = None) -> int:
        """Become the current process, run, and clean up; return the exit code."""
        theirs: Any = _standard.process.BaseProcess._bootstrap  # type: ignore[attr-defined]
        if theirs is not _STANDARD_BOOTSTRAP:
            return int(theirs(self, parent_sentinel))
        process: Any = self
        exitcode = 1
        try:
            _become(process, parent_sentinel)
            if _util._logger is not None:
                _util.info("child process calling self.run()")
            try:
                process.run()
                exitcode = 0
            finally:
                if not RUNS_ATEXIT:
                    _finalize()
        except SystemExit as leaving:
            exitcode = _exitcode_of(leaving)
        except BaseException:  # noqa: BLE001 - the last frame of the process: it tells, and leaves
            exitcode = 1
            import traceback  # noqa: PLC0415 - after a failure only

            sys.stderr.write(f"Process {process.name}:\n")
            traceback.print_exc()
        finally:
            _end_threads()
            if _util._logger is not None:
                _util.info("process exiting with exitcode %d", exitcode)
            _util._flush_std_streams()
        return exitcode

    @staticmethod
    def _after_fork() -> None:
        _util._finalizer_registry.clear()
        if _util._afterfork_registry.data:
            _util._run_after_forkers()


_STANDARD_BOOTSTRAP = _standard.process.BaseProcess._bootstrap  # type: ignore[attr-defined]

# From this version on, a child that was forked runs what is registered with atexit.
RUNS_ATEXIT = sys.version_info >= (3, 13)


# --- between the fork and run -------------------------------------------------------------------------------------------
#
# After a fork every page that the child writes to is copied, at some two microseconds each, and running Python code writes reference counts wherever
# it goes. So what the child needs is made before the fork where that is possible (`Prepared`), and functions that would find nothing to do are
# not called. Together that is half of what the standard library's child does before and after `run`.


class Prepared:
    """What forked children become, made once by their parent, which changes none of it.

    The standard input of a child is the null device: one stream, opened once, serves all children. The interpreter's own stream stays as it is
    behind it (``sys.__stdin__``); one that the program has put in its place is closed in the child, as it always was.

    Attributes:
        owner: the pid of the parent.
        sentinel: the parent's pidfd; -1 where there are none.
    """

    def __init__(self, owner: int) -> None:
        self.owner = owner
        self.sentinel = _runtime.own_pidfd()
        self.counter = itertools.count(1)
        self.children: set[Any] = set()
        self.parent = _state._ParentProcess(_state._current_process.name, owner, self.sentinel)
        self.stdin = _null_input()


_null: Any = None
_prepared: Prepared | None = None


def use_null_input() -> None:
    """Give up this process's standard input, for its children too: a fork server does."""
    _util._close_stdin()
    sys.stdin = _null_input()


def prepare_fork(pid: int) -> Prepared:
    """Make ready what children take over, in the process with this pid. Called before each fork."""
    global _prepared
    ready = _prepared
    if ready is None or ready.owner != pid:
        _prepared = ready = Prepared(pid)
    return ready


def _null_input() -> Any:
    global _null
    if _null is None or _null.closed:
        _null = open(os.open(os.devnull, os.O_RDONLY), encoding="utf-8", closefd=False)  # noqa: SIM115 - stays open
    return _null


def _become(process: Any, parent_sentinel: int | None) -> None:
    """Make `process` the current process of a child that has just been made."""
    global _prepared
    ready, _prepared = _prepared, None
    if ready is None or ready.owner != process._parent_pid or ready.sentinel != parent_sentinel or ready.sentinel < 0:
        _state._process_counter = itertools.count(1)
        _state._children = set()
        if _null is None or sys.stdin is not _null:
            _util._close_stdin()
        parent = _state._ParentProcess(process._parent_name, process._parent_pid, parent_sentinel)
    else:
        _state._process_counter, _state._children, parent = ready.counter, ready.children, ready.parent
        parent._name = process._parent_name
        if sys.stdin is sys.__stdin__ and sys.stdin is not None:
            sys.stdin = ready.stdin
        elif sys.stdin is not ready.stdin:
            _util._close_stdin()
    before = _state._current_process  # is finalized only after the after-fork hooks have run
    _state._current_process = process
    _state._parent_process = parent
    threading.main_thread()._set_native_id()  # type: ignore[attr-defined]
    try:
        process._after_fork()
    finally:
        del before


def _finalize() -> None:
    """Run the finalizers, and end the children of this process."""
    if (
        _util._logger is None
        and not _util._finalizer_registry
        and not _state._children
        and _util._exit_function is _STANDARD_EXIT
    ):
        _util._exiting = True
    else:
        _util._exit_function()


_STANDARD_EXIT = _util._exit_function


def _end_threads() -> None:
    """Wait for threads that are no daemons, and call what is registered for that moment."""
    # From 3.13 on the interpreter itself knows the threads, and only it can say that there are none.
    if threading._threading_atexits or getattr(threading, "_shutdown_locks", True):  # type: ignore[attr-defined]
        threading._shutdown()  # type: ignore[attr-defined]


def _exitcode_of(leaving: SystemExit) -> int:
    """What ``sys.exit(code)`` means, as the interpreter itself has it."""
    if leaving.code is None:
        return 0
    if isinstance(leaving.code, int):
        return leaving.code
    sys.stderr.write(f"{leaving.code}\n")
    return 1
