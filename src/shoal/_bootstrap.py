"""What a process does from the moment it is there until its end: it becomes the current process, runs, and cleans up.

All start methods end here. It is written for forked children, though. After a fork every page that the child writes to is copied, at some two microseconds
each, and Python code writes wherever it goes: a reference to an object is a write to the object's page. So what a child needs is made before the fork
where that is possible (`Prepared`), objects of other modules are named here once instead of being looked up through those modules, nothing is freed that
may as well stay until the process ends, and functions that would find nothing to do are not called. Together that is a fifth of the pages that the
standard library's child writes to for the same purpose.

Relies on the standard ``multiprocessing.process`` and ``util``, whose state it shares.
"""

from __future__ import annotations

import atexit
import itertools
import os
import signal
import sys
import threading

from shoal import _native, _runtime, _standard
from shoal._runtime import default_context, fork_hook, interrupts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

__all__ = [
    "RUNS_ATEXIT",
    "Prepared",
    "after_fork",
    "clear_exit_functions",
    "finalize",
    "live",
    "prepare",
    "prepare_fork",
    "run_exit_functions",
    "use_null_input",
]

_state: Any = _standard.process
_util: Any = _standard.util

# From this version on, a child that was forked runs what is registered with atexit.
RUNS_ATEXIT = sys.version_info >= (3, 13)

_names_of_state: dict[str, Any] = vars(_state)
_names_of_util: dict[str, Any] = vars(_util)
_names_of_threading: dict[str, Any] = vars(threading)
_names_of_sys: dict[str, Any] = vars(sys)
_become = _names_of_state.update
_finalizers: dict[Any, Any] = _util._finalizer_registry
_after_forkers: dict[Any, Any] = _util._afterfork_registry.data
OWN = 1  # of the after-fork hooks: that of `_runtime.leaving`, for children that others fork
_put_in_force = default_context.put_in_force
_get_native_id = threading.get_native_id
_set_mask = interrupts.set_mask
_SET = signal.SIG_SETMASK
_set_wakeup_fd = signal.set_wakeup_fd
_set_exit_code = _native.set_exit_code
_STANDARD_EXIT = _util._exit_function
_STANDARD_PARENT = _state._ParentProcess


class Prepared:
    """What a child becomes, made by its parent before the fork (and once for all children), or else by itself.

    The standard input of a child is the null device: one stream, opened once, serves all children. The interpreter's own stream stays as it is
    behind it (``sys.__stdin__``); one that the program has put in its place is closed in the child, as it always was.

    Attributes:
        owner: the pid of the parent.
        sentinel: readable when the parent has ended: its pidfd; -1 where there are none.
        parent: what `parent_process` returns.
        stdin: the standard input.
        state: what the child puts into the state of the standard module.
        before: what it replaces by that, which is not to be freed in the child.
        kind: the type of the last process that was started.
    """

    __slots__ = ("before", "kind", "owner", "parent", "sentinel", "state", "stdin")

    def __init__(self, owner: int, sentinel: int | None, name: str, stdin: Any) -> None:
        self.owner = owner
        self.sentinel = sentinel
        self.parent = _STANDARD_PARENT(name, owner, sentinel)
        self.stdin = stdin
        self.state = {"_process_counter": itertools.count(1), "_children": set(), "_parent_process": self.parent}
        self.before: tuple[Any, ...] = ()
        self.kind: type | None = None


_null: Any = None
_prepared: Prepared | None = None


def use_null_input() -> None:
    """Give up this process's standard input, for its children too: a fork server does."""
    _util._close_stdin()
    sys.stdin = _null_input()


def prepare_fork(pid: int, process: Any) -> Prepared:
    """Make ready what a child takes over, in the process with this pid. Called before each fork."""
    global _prepared
    ready = _prepared
    if ready is None or ready.owner != pid:
        _prepared = ready = Prepared(pid, _runtime.own_pidfd(), process._parent_name, _null_input())
        fork_hook.install()
    kind = type(process)
    if kind is not ready.kind:
        ready.kind = kind
        process.run, process._after_fork  # noqa: B018 - what the interpreter notes down about them, it notes down here, not in each child
    ready.parent._name = process._parent_name
    names = _names_of_state
    # A set that has children in it is not kept: what they hold is to be freed in the child, as it always was.
    ready.before = (
        names["_process_counter"],
        names["_current_process"],
        names["_parent_process"],
        names["_children"] or None,
    )
    return ready


def prepare(process: Any, parent_sentinel: int | None) -> Prepared:
    """Return what `process` becomes, in the child: what its parent has prepared, if it has."""
    ready = _prepared
    if ready is None or ready.owner != process._parent_pid or ready.sentinel != parent_sentinel:
        if _null is None or sys.stdin is not _null:
            _util._close_stdin()
        return Prepared(process._parent_pid, parent_sentinel, process._parent_name, sys.stdin)
    return ready


def run_forked(process: Any, ready: Prepared, context: Any, replaced: bool, mask: set[int]) -> NoReturn:
    """Be `process` in a child that has just been forked, and leave; if `replaced`, in the way that somebody has put in the place of `live`.

    The child blocks SIGINT, and SIGTERM perhaps; `mask` is what it is to block once a KeyboardInterrupt is the target's.
    """
    exitcode = 1
    try:
        _set_wakeup_fd(-1)  # else the parent's event loop would be told of this process's signals
        if RUNS_ATEXIT:
            clear_exit_functions()
        if replaced:
            # A KeyboardInterrupt may be all that there is. What is the parent's is not to be ended by it.
            _names_of_state["_children"] = set()
            _finalizers.clear()
            _set_mask(_SET, mask)
            exitcode = process._bootstrap(parent_sentinel=ready.sentinel)
        else:
            exitcode = live(process, ready, context, mask)
    finally:
        leave(exitcode)


def leave(exitcode: int) -> NoReturn:
    """End this forked process at once, having called its exit functions and left its exit code in its slot."""
    try:
        if RUNS_ATEXIT:
            run_exit_functions()
        _set_exit_code(exitcode & 0xFF)
    finally:
        os._exit(exitcode)


# Straight on, since each function that is called costs a forked child some pages.
def live(process: Any, ready: Prepared, context: Any, mask: set[int] | None = None) -> int:  # noqa: C901, PLR0912
    """Be `process`, from here to its end; return the exit code. A `context` that is not None becomes the default, and a `mask` that of this thread's signals."""
    exitcode = 1
    try:
        if context is not None:
            _put_in_force(context)
        _become(ready.state)
        _names_of_state["_current_process"] = process
        current_input = _names_of_sys.get("stdin")
        if current_input is not ready.stdin:
            if current_input is not None and current_input is _names_of_sys["__stdin__"]:
                _names_of_sys["stdin"] = ready.stdin
            else:
                _util._close_stdin()
        _names_of_threading["_main_thread"]._native_id = _get_native_id()
        process._after_fork()
        if _names_of_util["_logger"] is not None:
            _util.info("child process calling self.run()")
        try:
            if mask is not None:
                _set_mask(_SET, mask)
            process.run()
            exitcode = 0
        finally:
            if not RUNS_ATEXIT:
                finalize()
    except SystemExit as leaving:
        exitcode = exitcode_of(leaving)
    except BaseException:  # noqa: BLE001 - the last frame of the process: it tells, and leaves
        exitcode = 1
        _tell_of_failure(process)
    finally:
        # From 3.13 on the interpreter itself knows the threads, and only it can say that there are none.
        if _names_of_threading["_threading_atexits"] or _names_of_threading.get("_shutdown_locks", True):
            threading._shutdown()  # type: ignore[attr-defined]
        if _names_of_util["_logger"] is not None:
            _util.info("process exiting with exitcode %d", exitcode)
        stream: Any
        for stream in (_names_of_sys.get("stdout"), _names_of_sys.get("stderr")):
            try:  # noqa: SIM105 - a context manager is more for a child to make
                stream.flush()
            except (AttributeError, ValueError):
                pass
    return exitcode


def after_fork() -> None:
    """Forget what belonged to the parent, and call what was registered for this moment."""
    if _finalizers:
        _finalizers.clear()
    if len(_after_forkers) > OWN:
        _util._run_after_forkers()


def finalize() -> None:
    """Run the finalizers, and end the children of this process."""
    if (
        not _finalizers
        and not _names_of_state["_children"]
        and _names_of_util["_logger"] is None
        and _names_of_util["_exit_function"] is _STANDARD_EXIT
    ):
        _names_of_util["_exiting"] = True
    else:
        _util._exit_function()


def clear_exit_functions() -> None:
    """In a forked child: forget what the parent has registered with ``atexit``."""
    if RUNS_ATEXIT:
        atexit._clear()


def run_exit_functions() -> None:
    """In a forked child that is about to leave: call what it has registered with ``atexit`` itself, and then the finalizers."""
    if RUNS_ATEXIT:
        try:
            atexit._run_exitfuncs()
        finally:
            finalize()


def _null_input() -> Any:
    global _null
    if _null is None or _null.closed:
        _null = open(os.open(os.devnull, os.O_RDONLY), encoding="utf-8", closefd=False)  # noqa: SIM115 - stays open
    return _null


def _tell_of_failure(process: Any) -> None:
    import traceback  # noqa: PLC0415 - after a failure only

    sys.stderr.write(f"Process {process.name}:\n")
    traceback.print_exc()


def exitcode_of(leaving: SystemExit) -> int:
    """What ``sys.exit(code)`` means, as the interpreter itself has it."""
    if leaving.code is None:
        return 0
    if isinstance(leaving.code, int):
        return leaving.code
    sys.stderr.write(f"{leaving.code}\n")
    return 1
