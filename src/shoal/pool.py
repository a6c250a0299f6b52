"""Pools of worker processes: the standard library's ``multiprocessing.pool``, whose calls never wait for a worker that is dead.

The parts are in ``shoal._pool``; this module is what programs import.
"""

from __future__ import annotations

import operator
import warnings
import weakref
from contextlib import nullcontext, suppress
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Self

from shoal import _native, _runtime, _standard
from shoal._pool import lineage
from shoal._pool import worker as _worker
from shoal._pool.calls import PoolCalls, mapstar, starmapstar  # noqa: F401 - the standard module has the latter two
from shoal._pool.collector import Collector
from shoal._pool.crew import Crew
from shoal._pool.functions import Functions
from shoal._pool.iterators import IMapIterator, IMapUnorderedIterator  # noqa: F401 - programs know them by this module
from shoal._pool.results import ApplyResult, AsyncResult, MapResult, job_counter  # noqa: F401 - the same
from shoal._pool.task_queue import TaskQueue
from shoal._pool.thread_transport import SharedFunctions, ThreadEnd, ThreadQueues, ThreadWorkerEnd
from shoal._pool.transport import TableEnd, TableWorkerEnd
from shoal._runtime import default_context, interrupts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

    from shoal.errors import MainGuardError

__all__ = ["Pool", "ThreadPool"]

INIT = "INIT"
RUN = "RUN"
CLOSE = "CLOSE"
TERMINATE = "TERMINATE"

IMPORTING = {"spawn", "forkserver"}  # start methods by which a worker imports the main module

_util: Any = _standard.util
RemoteTraceback = _standard.pool.RemoteTraceback
ExceptionWithTraceback = _standard.pool.ExceptionWithTraceback
MaybeEncodingError = _standard.pool.MaybeEncodingError
rebuild_exc = _standard.pool.rebuild_exc
_helper_reraises_exception = _standard.pool._helper_reraises_exception


def worker(
    inqueue: Any,
    outqueue: Any,
    initializer: Callable[..., object] | None = None,
    initargs: tuple[Any, ...] = (),
    maxtasks: int | None = None,
    wrap_exception: bool = False,
    *,
    verify_results: bool = False,
) -> None:
    """Run tasks, in a worker process, until there are no more.

    Args:
        inqueue: where tasks come from: ``pool._inqueue``.
        outqueue: where outcomes go: ``pool._outqueue``.
        initializer: called first.
        initargs: what it is called with.
        maxtasks: tasks to run before leaving; None for no limit.
        wrap_exception: whether the traceback goes along with an exception.
        verify_results: whether outcomes are loaded in trial before they go.
    """
    limit: Any = maxtasks
    if limit is not None and not (isinstance(limit, int) and limit >= 1):
        raise AssertionError(f"Maxtasks {maxtasks!r} is not valid")
    end: Any
    if verify_results:
        from shoal._pool.verifying import VerifyingEnd  # noqa: PLC0415 - only for who asks for it

        end = VerifyingEnd(inqueue)
    elif isinstance(inqueue, _native.TaskTable):
        end = TableWorkerEnd(inqueue)
    elif isinstance(inqueue, ThreadQueues):
        end = ThreadWorkerEnd(inqueue)
    else:
        from shoal._pool.queue_transport import QueueWorkerEnd  # noqa: PLC0415 - rarely needed

        end = QueueWorkerEnd(inqueue, outqueue)
    serve = partial(_worker.serve, end, initializer, initargs, maxtasks, wrap_exception=wrap_exception)
    if isinstance(inqueue, ThreadQueues):
        _worker.be_thread(serve)
        return
    current: Any = _standard.process.current_process()
    current._may_have_children = True  # pools within pools
    forks = lineage.forks
    try:
        serve()
    finally:
        if lineage.forks != forks:
            lineage.disown_children()


class Pool(PoolCalls):
    """A pool of worker processes, to which calls are handed over.

    Args:
        processes: number of workers; as many as there are CPUs to use if None.
        initializer: called in each worker when it starts. If it raises, the pool is broken: every call fails with that cause.
        initargs: what it is called with.
        maxtasksperchild: tasks that a worker runs before it is replaced by a fresh one; None for no limit.
        context: the context whose ``Process`` the workers are.
        initializer_timeout: seconds that the initializer may take; beyond it the pool is broken. None for ever.
        verify_results: whether a worker loads each result, and exception, that needs a pickle once in trial before it goes to the application. What raises
            in the trial is the failure of that one item, with the traceback; what kills the worker is its ``WorkerLostError``, where it would kill the
            application else. Results that hand something over by being loaded are not tried: shared objects, connections, sockets, and what
            reducing functions of others make that are registered with ``ForkingPickler``. It costs what loading costs, and a message for each such result.

    Raises:
        ValueError: if `processes` or `maxtasksperchild` is not positive, or `verify_results` is asked of a subclass that brings queues of its own.
        TypeError: if `initializer` cannot be called, or `verify_results` is not a bool.
        OSError: if the workers cannot be started.
    """

    _wrap_exception = True

    @staticmethod
    def Process(ctx: Any, *args: Any, **kwds: Any) -> Any:  # noqa: N802 - programs override it by this name
        """Make a worker's process; a subclass may make another kind."""
        return ctx.Process(*args, **kwds)

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: Any = None,
        *,
        initializer_timeout: float | None = None,
        verify_results: bool = False,
    ) -> None:
        self._pool: list[Any] = []
        self._state = INIT
        if not isinstance(verify_results, bool):
            raise TypeError(f"verify_results must be a bool, not {type(verify_results).__name__}")
        self._ctx = context or default_context.get()
        self._setup_queues()
        self._verify_results = verify_results
        if verify_results and not isinstance(self._inqueue, _native.TaskTable):
            raise ValueError("verify_results: not over queues of one's own, which have a pickler of their own")
        self._cache: dict[int, Any] = {}
        self._maxtasksperchild = maxtasksperchild
        self._initializer = initializer
        self._initargs = initargs
        if processes is None:
            processes = self._ctx.cpu_count()
        if processes < 1:
            raise ValueError("Number of processes must be at least 1")
        limit: Any = maxtasksperchild
        if limit is not None and (not isinstance(limit, int) or limit <= 0):
            raise ValueError("maxtasksperchild must be a positive int or None")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._processes = operator.index(processes)
        self._functions = self._name_functions()
        method = getattr(self._ctx, "get_start_method", lambda: None)()
        crew = Crew(self._pool, processes, self._starter(), _no_main_guard() if method in IMPORTING else None)
        try:
            self._repopulate_pool()
            crew.adopt(replacements=False)
            end = self._application_end()
            self._collector = Collector(end, crew, self._cache, initializer_timeout, forked=method == "fork")
            self._taskqueue = TaskQueue(self._collector, self._cache, self._functions.get)
            self._terminate = _standard.util.Finalize(self, _terminate_pool, args=(self._collector,), exitpriority=15)
        except BaseException as error:  # a Ctrl-C, too: the workers that are there would outlive it
            if isinstance(error, Exception):
                self._end_workers()
            else:
                crew.terminate()
            with suppress(Exception):
                self._application_end().shut_down()  # for threads, which leave by themselves
            raise
        _pools.add(self)
        self._state = RUN

    def _end_workers(self) -> None:
        """End those that were started, with no more than the methods that the standard library asks for: a context may make any kind of process."""
        processes = [process for process in self._pool if hasattr(process, "terminate")]  # threads leave by themselves
        for process in processes:
            if process.exitcode is None:
                process.terminate()
        for process in processes:
            process.join()

    def __del__(self, _warn: Callable[..., None] = warnings.warn, RUN: str = RUN) -> None:  # noqa: N803 - as in the standard library
        if self._state == RUN:
            _warn(f"unclosed running multiprocessing pool {self!r}", ResourceWarning, source=self)

    def __repr__(self) -> str:
        cls = self.__class__
        return f"<{cls.__module__}.{cls.__qualname__} state={self._state} pool_size={len(self._pool)}>"

    def __reduce__(self) -> str:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    def __enter__(self) -> Self:
        self._check_running()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self.terminate()

    # --- what subclasses override, and programs rely on ---

    def _setup_queues(self) -> None:
        self._inqueue: Any = _native.TaskTable()
        self._outqueue: Any = self._inqueue

    def _application_end(self) -> Any:
        if isinstance(self._inqueue, _native.TaskTable):
            return TableEnd(self._inqueue)
        from shoal._pool.queue_transport import QueueEnd  # noqa: PLC0415 - rarely needed

        return QueueEnd(self._inqueue, self._outqueue, self._quick_put, self._quick_get)

    @staticmethod
    def _name_functions() -> Any:
        return Functions()

    _quick_put: Any = None
    _quick_get: Any = None

    def _starter(self) -> Callable[[], Any]:
        """Make what starts one worker; it must not hold the pool."""
        ctx, process_of, wrap = self._ctx, self.Process, self._wrap_exception
        args = (self._inqueue, self._outqueue, self._initializer, self._initargs, self._maxtasksperchild, wrap)
        options = {"kwargs": {"verify_results": True}} if self._verify_results else {}

        def start() -> Any:
            process = process_of(ctx, target=worker, args=args, **options)
            process.name = process.name.replace("Process", "PoolWorker")
            process.daemon = True
            process._die_with_parent = (
                True  # whatever a subclass makes of `daemon`; and so a worker may have a pool of its own
            )
            process._tells_of_main_guard = True
            try:
                # A Ctrl-C that comes while the child is not yet the worker waits until it is, and then says nothing there.
                with interrupts.hold_back():
                    process.start()
                _standard.util.debug("added worker")
            except BaseException:  # that Ctrl-C, for one, now that it may come
                if getattr(process, "pid", None) is not None and hasattr(process, "kill"):
                    process.kill()
                    process.join()
                raise
            return process

        return start

    def _repopulate_pool(self) -> None:
        """Start workers until there are as many as ``_processes`` says, which programs change."""
        if self._state != INIT:
            self._collector.repopulate(self._processes)
            return
        start = self._starter()
        while len(self._pool) < self._processes:
            self._pool.append(start())

    @staticmethod
    def _get_tasks(func: Any, it: Iterable[Any], size: int) -> Iterator[tuple[Any, tuple[Any, ...]]]:
        iterator = iter(it)
        while items := tuple(islice(iterator, size)):
            yield (func, items)

    def _guarded_task_generation(
        self, result_job: int, func: Any, iterable: Iterable[Any]
    ) -> Iterator[tuple[Any, ...]]:
        index = -1
        try:
            for index, item in enumerate(iterable):
                yield (result_job, index, func, (item,), {})
        except Exception as error:  # noqa: BLE001 - the user's iterable: its error is an outcome
            yield (result_job, index + 1, _helper_reraises_exception, (error,), {})

    def _check_running(self) -> None:
        if self._state != RUN:
            raise ValueError("Pool not running")
        if self._collector.broken is not None:
            self._collector.check()

    def _forked(self) -> None:
        """In a forked child this pool has no workers, and no thread."""
        self._state = TERMINATE
        self._collector.abandon()

    # --- the end ---

    def close(self) -> None:
        """Take no more calls; workers leave when all there are have been answered."""
        _standard.util.debug("closing pool")
        if self._state == RUN:
            self._state = CLOSE
            self._collector.close()

    def terminate(self) -> None:
        """End the workers at once. Calls without an answer fail with ``PoolTerminatedError``."""
        _standard.util.debug("terminating pool")
        self._state = TERMINATE
        self._terminate()

    def join(self) -> None:
        """Wait until the workers have left; ``close()`` or ``terminate()`` comes first.

        Raises:
            ValueError: if the pool is still running.
        """
        _standard.util.debug("joining pool")
        if self._state == RUN:
            raise ValueError("Pool is still running")
        if self._state not in (CLOSE, TERMINATE):
            raise ValueError("In unknown state")
        self._collector.join()
        for process in list(self._pool):
            process.join()


class ThreadPool(Pool):
    """A pool of worker threads of this process, with the methods of :class:`Pool`.

    Nothing is pickled: functions, arguments and results are the objects themselves. A thread cannot be killed, so ``terminate()`` drops what no
    worker has begun, fails what is under way, and leaves the threads to finish what they run; ``join()`` waits for them.

    Args:
        processes: number of threads; as many as there are CPUs to use if None.
        initializer: called in each thread when it starts. If it raises, the pool is broken: every call fails with that cause.
        initargs: what it is called with.

    Raises:
        ValueError: if `processes` is not positive.
        TypeError: if `initializer` cannot be called.
    """

    _wrap_exception = False

    @staticmethod
    def Process(ctx: Any, *args: Any, **kwds: Any) -> Any:  # noqa: N802, ARG004 - as in the base class
        """Make a worker's thread; a subclass may make another kind."""
        from shoal.dummy.process import DummyProcess  # noqa: PLC0415 - only for pools of threads

        return DummyProcess(*args, **kwds)

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
    ) -> None:
        super().__init__(processes, initializer, initargs)

    def _setup_queues(self) -> None:
        self._inqueue = self._outqueue = ThreadQueues()

    def _application_end(self) -> Any:
        return ThreadEnd(self._inqueue)

    @staticmethod
    def _name_functions() -> Any:
        return SharedFunctions()


def _no_main_guard() -> MainGuardError:
    """What to say if it turns out that workers come by here, too."""
    from shoal.spawn import no_main_guard  # noqa: PLC0415 - only for these start methods

    return no_main_guard("__main__")


_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


def _leave_pools_to_the_parent() -> None:
    for pool in list(_pools):
        pool._forked()


# Whoever forks: a child that asked for outcomes would take its parent's.
_runtime.in_forked_child(_leave_pools_to_the_parent)


def _terminate_pool(collector: Collector) -> None:
    # At the end of the program a second Ctrl-C can do no more than this does, within seconds: it is not to add a traceback, and leave the rest undone.
    with interrupts.borne() if _util._exiting else nullcontext():
        collector.terminate()


def __getattr__(name: str) -> Any:
    """Find what else programs import from the standard module."""
    return getattr(_standard.pool, name)
