"""``Process`` objects: what all start methods have in common.

A process is described by the standard library's ``BaseProcess``; the class here derives from it, and shares the state of its module: who the current
process is, who its children are. So ``multiprocessing.current_process()`` tells the truth in a shoal child, and a program may mix both packages. What is
new: ``die_with_parent``, ``interrupt`` on every version, and a child that loses no time between the fork and ``run``.

How a child is made, waited for and ended is the business of ``popen_fork``, ``popen_spawn_posix`` and ``popen_forkserver``.

Relies on the standard ``multiprocessing.process`` and ``util``. Promises that a replaced ``BaseProcess._bootstrap``, there or here, runs in every child.
"""

from __future__ import annotations

import os
import sys

from shoal import _bootstrap, _standard
from shoal._runtime import default_context, leaving

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

__all__ = ["BaseProcess", "active_children", "current_process", "parent_process"]

_state: Any = _standard.process

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
    _tells_of_main_guard = False  # by its exit code, to a pool
    _start_method: str | None = None  # what a child is told that it was started by
    _may_have_children = False  # although it is a daemon
    _after_fork = staticmethod(_bootstrap.after_fork)

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
            AssertionError: at the second start, in another process, or in a daemon, unless the child is to die with it. A pool's worker, daemonic as it is, may have
                children: they are daemonic too, and end with it.
        """
        process: Any = self
        process._check_closed()
        if process._popen is not None:
            raise AssertionError("cannot start a process twice")
        if process._parent_pid != os.getpid():
            raise AssertionError("can only start a process object created by current process")
        current = _state._current_process
        may = self._die_with_parent or getattr(current, "_may_have_children", False)
        if not may and current._config.get("daemon"):
            raise AssertionError("daemonic processes are not allowed to have children")
        _state._cleanup()
        try:
            process._popen = process._Popen(process)
            process._sentinel = process._popen.sentinel
            _state._children.add(process)
        except BaseException:
            # What a signal handler raises comes anywhere: a child that was made by then would run on, and nobody would know of it.
            popen: Any = process._popen
            process._popen = None
            _state._children.discard(process)
            if hasattr(popen, "take_back"):
                popen.take_back()
            raise
        del process._target, process._args, process._kwargs  # as after any start: they may refer to the process

    if sys.version_info < (3, 14):

        def interrupt(self) -> None:
            """Send SIGINT to the process: in most programs that raises KeyboardInterrupt in its main thread."""
            self._check_closed()  # type: ignore[attr-defined]
            self._popen.interrupt()  # type: ignore[attr-defined]

    def _bootstrap(self, parent_sentinel: int | None = None) -> int:
        """Become the current process, run, and clean up; return the exit code."""
        theirs: Any = _StandardProcess._bootstrap
        if theirs is _STANDARD_BOOTSTRAP:
            context = default_context.unless_in_force(self._start_method)
            return _bootstrap.live(self, _bootstrap.prepare(self, parent_sentinel), context)
        if self._start_method is not None:
            default_context.force_start_method(self._start_method)
        return int(theirs(self, parent_sentinel))


_StandardProcess: Any = _standard.process.BaseProcess
_STANDARD_BOOTSTRAP = _StandardProcess._bootstrap
_BOOTSTRAP = BaseProcess._bootstrap

leaving.prepare_forked_children()


def replaces_bootstrap(process: Any) -> bool:
    """Tell whether a child has to go through `_bootstrap` because somebody has put something else in its place."""
    ours = getattr(process._bootstrap, "__func__", None) is _BOOTSTRAP
    return not ours or _StandardProcess._bootstrap is not _STANDARD_BOOTSTRAP
