"""Contexts: the whole interface of shoal, bound to a start method.

A context derives from the standard library's ``BaseContext``; what it makes are shoal's objects, imported when first asked for. The default context is the
module's own state: which start method is in force, if one has been chosen. Unless one is, it is the interpreter's default (``fork`` until Python 3.13,
``forkserver`` from 3.14 on).

Relies on every module below. Promises the standard signatures, and that a context's ``Process`` may be replaced by a subclass.
"""

from __future__ import annotations

import sys
from importlib import import_module

from shoal import _main_module, _standard, process, reduction
from shoal._runtime import default_context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

__all__: tuple[str, ...] = ()

ProcessError = _standard.context.ProcessError
BufferTooShort = _standard.context.BufferTooShort
TimeoutError = _standard.context.TimeoutError  # noqa: A001 - the standard name
AuthenticationError = _standard.context.AuthenticationError
get_spawning_popen = _standard.context.get_spawning_popen
_tls = _standard.context._tls  # type: ignore[attr-defined]
set_spawning_popen = _standard.context.set_spawning_popen
assert_spawning = _standard.context.assert_spawning


class BaseContext(_standard.context.BaseContext):
    """What all contexts offer."""

    def cpu_count(self) -> int:
        """Return the number of processors this process may use: by affinity and cgroup quota, not what the machine has."""
        from shoal._runtime.cpus import usable_cpus  # noqa: PLC0415 - rarely needed

        return usable_cpus()

    def Manager(self) -> Any:  # noqa: N802
        """Return a manager with a running server process, started by this context."""
        manager = _made_in("managers", "SyncManager")(ctx=self.get_context())
        manager.start()
        return manager

    def Pipe(self, duplex: bool = True) -> Any:  # noqa: N802
        """Return the two ends of a pipe, as connections."""
        return _made_in("connection", "Pipe")(duplex)

    def Lock(self) -> Any:  # noqa: N802
        """Return a lock."""
        return _made_in("synchronize", "Lock")(ctx=self.get_context())

    def RLock(self) -> Any:  # noqa: N802
        """Return a lock that its owner may take again."""
        return _made_in("synchronize", "RLock")(ctx=self.get_context())

    def Condition(self, lock: Any = None) -> Any:  # noqa: N802
        """Return a condition, with a lock of its own unless one is given."""
        return _made_in("synchronize", "Condition")(lock, ctx=self.get_context())

    def Semaphore(self, value: int = 1) -> Any:  # noqa: N802
        """Return a semaphore."""
        return _made_in("synchronize", "Semaphore")(value, ctx=self.get_context())

    def BoundedSemaphore(self, value: int = 1) -> Any:  # noqa: N802
        """Return a semaphore that cannot be released above its first value."""
        return _made_in("synchronize", "BoundedSemaphore")(value, ctx=self.get_context())

    def Event(self) -> Any:  # noqa: N802
        """Return an event."""
        return _made_in("synchronize", "Event")(ctx=self.get_context())

    def Barrier(self, parties: int, action: Any = None, timeout: float | None = None) -> Any:  # noqa: N802
        """Return a barrier for so many parties; the timeout is in seconds."""
        return _made_in("synchronize", "Barrier")(parties, action, timeout, ctx=self.get_context())

    def Queue(self, maxsize: int = 0) -> Any:  # noqa: N802
        """Return a queue; a size of 0 has no limit."""
        return _made_in("queues", "Queue")(maxsize, ctx=self.get_context())

    def JoinableQueue(self, maxsize: int = 0) -> Any:  # noqa: N802
        """Return a queue with `task_done` and `join`."""
        return _made_in("queues", "JoinableQueue")(maxsize, ctx=self.get_context())

    def SimpleQueue(self) -> Any:  # noqa: N802
        """Return a queue with nothing but `put`, `get` and `empty`."""
        return _made_in("queues", "SimpleQueue")(ctx=self.get_context())

    def Pool(  # noqa: N802
        self,
        processes: int | None = None,
        initializer: Any = None,
        initargs: Any = (),
        maxtasksperchild: int | None = None,
        *,
        initializer_timeout: float | None = None,
        verify_results: bool = False,
    ) -> Any:
        """Return a pool of worker processes: see :class:`shoal.pool.Pool`."""
        extras: dict[str, Any] = {}  # only what is asked for: a program may have put a class of its own there
        if initializer_timeout is not None:
            extras["initializer_timeout"] = initializer_timeout
        if verify_results is not False:
            extras["verify_results"] = verify_results
        return _made_in("pool", "Pool")(
            processes, initializer, initargs, maxtasksperchild, context=self.get_context(), **extras
        )

    def parmap(
        self,
        f: Callable[..., Any],
        xs: Iterable[Any],
        *more: Iterable[Any],
        processes: int | None = None,
        chunksize: int | None = None,
    ) -> list[Any]:
        """Return ``list(map(f, xs, *more))``, computed by several processes that are there for this call only.

        Args:
            f: any callable: a lambda, a closure, a bound method as well. Each worker has one copy of it for all its items.
            xs: the items, read to their end before the first call.
            more: further iterables, each for one more argument; as with `map`, the shortest ends the list.
            processes: how many workers, at most one for each item. As many as there are CPUs to use if None.
            chunksize: items that make a task. If None, tasks are made to take about 10 ms.

        Raises:
            TypeError: if `f` cannot be called, or (by spawn and forkserver) cannot be pickled: a note says where it cannot.
            ValueError: if `processes` or `chunksize` is not positive.
            WorkerLostError: if a worker was killed in a call.
            BaseException: what a call raised, with the traceback in the worker as its cause. Items that were not begun by then are left out.
        """
        results: list[Any] = _made_in("_parmap", "parmap")(
            f, xs, *more, processes=processes, chunksize=chunksize, context=self.get_context()
        )
        return results

    def RawValue(self, typecode_or_type: Any, *args: Any) -> Any:  # noqa: N802
        """Return a shared ctypes object."""
        return _made_in("sharedctypes", "RawValue")(typecode_or_type, *args)

    def RawArray(self, typecode_or_type: Any, size_or_initializer: Any) -> Any:  # noqa: N802
        """Return a shared ctypes array."""
        return _made_in("sharedctypes", "RawArray")(typecode_or_type, size_or_initializer)

    def Value(self, typecode_or_type: Any, *args: Any, lock: Any = True) -> Any:  # noqa: N802
        """Return a shared object with a lock."""
        return _made_in("sharedctypes", "Value")(typecode_or_type, *args, lock=lock, ctx=self.get_context())

    def Array(self, typecode_or_type: Any, size_or_initializer: Any, *, lock: Any = True) -> Any:  # noqa: N802
        """Return a shared array with a lock."""
        return _made_in("sharedctypes", "Array")(
            typecode_or_type, size_or_initializer, lock=lock, ctx=self.get_context()
        )

    def freeze_support(self) -> None:
        """In a frozen executable that was started as a child: run the child, and exit. Elsewhere do nothing."""
        if getattr(sys, "frozen", False):
            from shoal import spawn  # noqa: PLC0415 - only for this start method

            spawn.freeze_support()

    def allow_connection_pickling(self) -> None:
        """Do nothing, for old programs: connections and sockets can always be sent."""

    def set_executable(self, executable: Any) -> None:
        """Set the interpreter that runs spawned children and the fork server, instead of ``sys.executable``."""
        from shoal import spawn  # noqa: PLC0415 - only for this start method

        spawn.set_executable(executable)

    def set_forkserver_preload(self, module_names: list[str], *, on_error: str = "ignore") -> None:
        """Name modules that the fork server imports before its first fork, besides those that the main module imports.

        Args:
            module_names: of the modules.
            on_error: ``"ignore"``, ``"warn"`` or ``"fail"``: what is done about one that cannot be imported.
        """
        from shoal.forkserver import set_forkserver_preload  # noqa: PLC0415 - only for this start method

        set_forkserver_preload(module_names, on_error=on_error)

    def get_context(self, method: str | None = None) -> Any:
        """Return the context of a start method; without one, of that in force.

        Raises:
            ValueError: if there is no such start method.
        """
        if method is None:
            return self
        try:
            context = _concrete_contexts[method]
        except KeyError:
            raise ValueError(f"cannot find context for {method!r}") from None
        context._check_available()
        return context

    @property
    def reducer(self) -> Any:
        """The module (or class) that turns objects into bytes for a child; ``shoal.reduction`` unless it is replaced."""
        return reduction if reduction.reducer is None else reduction.reducer

    @reducer.setter
    def reducer(self, replacement: Any) -> None:
        reduction.reducer = None if replacement is reduction else replacement


def _made_in(module: str, name: str) -> Any:
    """A class of shoal's, or the standard library's where shoal has no such module."""
    try:
        found = import_module(f"shoal.{module}")
    except ModuleNotFoundError as error:
        if error.name != f"shoal.{module}":
            raise
        found = getattr(_standard, module)
    return getattr(found, name)


_popen_by_fork: Any = None


# --- one context for each start method ----------------------------------------------------------------------------------


class Process(process.BaseProcess):
    """A process, started by the method in force when `start` is called."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802
        return _default_context.get_context().Process._Popen(process_obj)

    @staticmethod
    def _after_fork() -> None:
        _default_context.get_context().Process._after_fork()


class ForkProcess(process.BaseProcess):
    """A process started by fork."""

    _start_method = "fork"

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802
        global _popen_by_fork
        if _popen_by_fork is None:  # an import statement would cost microseconds with every start
            from shoal.popen_fork import Popen  # noqa: PLC0415 - only for this start method

            _popen_by_fork = Popen
        return _popen_by_fork(process_obj)


class SpawnProcess(process.BaseProcess):
    """A process started as a fresh interpreter."""

    _start_method = "spawn"

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802
        from shoal.popen_spawn_posix import Popen  # noqa: PLC0415 - only for this start method

        return Popen(process_obj)

    @staticmethod
    def _after_fork() -> None:
        """Do nothing: nothing was inherited that would have to be cleaned."""


class ForkServerProcess(process.BaseProcess):
    """A process started by the fork server."""

    _start_method = "forkserver"

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802
        from shoal.popen_forkserver import Popen  # noqa: PLC0415 - only for this start method

        return Popen(process_obj)


class DefaultContext(BaseContext):
    """The context behind the functions of the package: its start method can be chosen once."""

    Process = Process

    def __init__(self, context: BaseContext) -> None:
        self._default_context = context
        self._actual_context: BaseContext | None = None
        self._chosen_at: tuple[str, int] | None = None  # file and line of the main module

    def get_context(self, method: str | None = None) -> Any:
        """Return the context of a start method; without one, of that in force, which is then settled."""
        if method is not None:
            return super().get_context(method)
        if self._actual_context is None:
            self._actual_context = self._default_context
        return self._actual_context

    def set_start_method(self, method: str | None, force: bool = False) -> None:
        """Choose the start method; None, with `force`, gives the choice back.

        Raises:
            RuntimeError: if it has been chosen before and `force` is not set. In a child that comes by here when it imports the main module, it is
                a MainGuardError.
            ValueError: if there is no such start method.
        """
        if self._actual_context is not None and not force:
            raise _already_set()
        self._chosen_at = None if force else _main_module.place_in("__main__")
        if method is None and force:
            self._actual_context = None
            return
        self._actual_context = self.get_context(method)

    def get_start_method(self, allow_none: bool = False) -> Any:
        """Return the start method in force, which is settled by this; None if none was chosen and `allow_none` is set."""
        if self._actual_context is None:
            if allow_none:
                return None
            self._actual_context = self._default_context
        return str(self._actual_context._name)  # type: ignore[attr-defined]

    def get_all_start_methods(self) -> list[str]:
        """Return the start methods that there are, the default first."""
        default = str(self._default_context._name)  # type: ignore[attr-defined]
        return [default, *[method for method in _concrete_contexts if method != default]]


def _already_set() -> RuntimeError:
    if getattr(process.current_process(), "_inheriting", False) and _main_module.place_in("__mp_main__") is not None:
        from shoal.spawn import CHOOSING, no_main_guard  # noqa: PLC0415 - only in such a child, which has it already

        return no_main_guard("__mp_main__", CHOOSING)
    return RuntimeError("context has already been set")


class ForkContext(BaseContext):
    """Processes are copies of the caller."""

    _name = "fork"
    Process = ForkProcess


class SpawnContext(BaseContext):
    """Processes are fresh interpreters."""

    _name = "spawn"
    Process = SpawnProcess


class ForkServerContext(BaseContext):
    """Processes are copies of a server that has imported what the program imports."""

    _name = "forkserver"
    Process = ForkServerProcess

    def _check_available(self) -> None:
        if not reduction.HAVE_SEND_HANDLE:
            raise ValueError("forkserver start method not available")


_concrete_contexts: dict[str, Any] = {"fork": ForkContext(), "spawn": SpawnContext(), "forkserver": ForkServerContext()}
_interpreters_default: str = _standard.context._default_context._default_context._name  # type: ignore[attr-defined]
_default_context = DefaultContext(_concrete_contexts[_interpreters_default])


default_context.settle(_default_context, _concrete_contexts)
_force_start_method = default_context.force_start_method
