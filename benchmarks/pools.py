"""Rows about ``Pool(2)``: trivial tasks, a real computation, and doing nothing."""

from __future__ import annotations

import importlib
import time
from collections import deque
from itertools import repeat
from typing import TYPE_CHECKING, Any

from benchmarks import arena, processor_time
from benchmarks.backend import Backend, Feature
from benchmarks.pace import Pace, seconds_per_operation
from benchmarks.row import Measurement, Target, row

if TYPE_CHECKING:
    from collections.abc import Callable

WORKERS = 2


def trivial(value: int) -> int:
    """A task of no length."""
    return value


def fib(n: int) -> int:
    """A Fibonacci number, the slow way."""
    return n if n < 2 else fib(n - 1) + fib(n - 2)


@row("apply", unit="s", better="lower", needs=Feature.APPLY, target=Target(ratio=20))
def apply(backend: Backend, pace: Pace) -> Measurement:
    """`apply` of a trivial function: there and back."""
    return _seconds_per_apply(backend.context().Pool, pace)


def _seconds_per_apply(make: Callable[[int], Any], pace: Pace) -> Measurement:
    """Call `apply` again and again."""
    with make(WORKERS) as pool:

        def phase(count: int) -> float:
            begin = time.perf_counter()
            for _ in repeat(None, count):
                pool.apply(trivial, (12345,))
            return time.perf_counter() - begin

        return Measurement(seconds_per_operation(phase, pace, first=20))


def _tasks_per_second(
    make: Callable[[int], Any], pace: Pace, drive: Callable[[Any, range], object], *, tasks: int
) -> Measurement:
    """Hand over so many tasks in one call, once or as often as fills the time."""
    items = range(pace.choose(full=tasks, quick=tasks // 100))

    with make(WORKERS) as pool:

        def phase(count: int) -> float:
            begin = time.perf_counter()
            for _ in repeat(None, count):
                drive(pool, items)
            return time.perf_counter() - begin

        drive(pool, items[: len(items) // 10])
        return Measurement(len(items) / seconds_per_operation(phase, pace, first=1))


def _map_one_by_one(pool: Any, items: range) -> None:
    pool.map(trivial, items, chunksize=1)


def _drain_unordered(pool: Any, items: range) -> None:
    deque(pool.imap_unordered(trivial, items), maxlen=0)


def _threads(backend: Backend) -> Callable[[int], Any]:
    """What makes a pool of threads."""
    make: Callable[[int], Any] = importlib.import_module(f"{backend.module}.pool").ThreadPool
    return make


@row("map chunksize 1", unit="tasks/s", better="higher", needs=Feature.MAP, target=Target(ratio=10))
def map_chunksize_1(backend: Backend, pace: Pace) -> Measurement:
    """`map` of a trivial function over 10,000 ints, `chunksize=1`."""
    return _tasks_per_second(backend.context().Pool, pace, _map_one_by_one, tasks=10_000)


@row("map", unit="tasks/s", better="higher", needs=Feature.CHUNKED_MAP, target=Target(ratio=1))
def map_default(backend: Backend, pace: Pace) -> Measurement:
    """`map` of a trivial function over 100,000 ints, chunks left to the pool."""
    return _tasks_per_second(backend.context().Pool, pace, lambda pool, items: pool.map(trivial, items), tasks=100_000)


@row("imap_unordered", unit="tasks/s", better="higher", needs=Feature.IMAP_UNORDERED, target=Target(ratio=1))
def imap_unordered(backend: Backend, pace: Pace) -> Measurement:
    """`imap_unordered` of a trivial function over 10,000 ints, chunksize 1 (the default)."""
    return _tasks_per_second(backend.context().Pool, pace, _drain_unordered, tasks=10_000)


@row("thread pool apply", unit="s", better="lower", needs=Feature.THREADS, target=Target(ratio=1))
def thread_pool_apply(backend: Backend, pace: Pace) -> Measurement:
    """`ThreadPool(2).apply` of a trivial function: there and back."""
    return _seconds_per_apply(_threads(backend), pace)


@row("thread pool map chunksize 1", unit="tasks/s", better="higher", needs=Feature.THREADS, target=Target(ratio=1))
def thread_pool_map(backend: Backend, pace: Pace) -> Measurement:
    """`ThreadPool(2).map` of a trivial function over 10,000 ints, `chunksize=1`."""
    return _tasks_per_second(_threads(backend), pace, _map_one_by_one, tasks=10_000)


@row("thread pool imap_unordered", unit="tasks/s", better="higher", needs=Feature.THREADS, target=Target(ratio=1))
def thread_pool_imap_unordered(backend: Backend, pace: Pace) -> Measurement:
    """`ThreadPool(2).imap_unordered` of a trivial function over 10,000 ints, chunksize 1 (the default)."""
    return _tasks_per_second(_threads(backend), pace, _drain_unordered, tasks=10_000)


@row("parmap", unit="s", better="lower", needs=Feature.PARMAP, target=Target(ratio=1))
def parmap(backend: Backend, pace: Pace) -> Measurement:
    """`parmap` of a trivial function over 1000 items, workers started and ended; without it, `with Pool(2) as pool: pool.map(…)`."""
    context = backend.context()
    items = range(1000)
    in_one_line = getattr(context, "parmap", None)

    def phase(count: int) -> float:
        begin = time.perf_counter()
        for _ in repeat(None, count):
            if in_one_line is not None:
                in_one_line(trivial, items, processes=WORKERS)
            else:
                with context.Pool(WORKERS) as pool:
                    pool.map(trivial, items)
        return time.perf_counter() - begin

    return Measurement(seconds_per_operation(phase, pace, first=2))


@row(
    "fib(35) twice", unit="x", better="higher", needs=Feature.APPLY | Feature.CHUNKED_MAP,
    target=Target(at_least=1.97), most_rounds=3,
)  # fmt: skip
def fib_twice(backend: Backend, pace: Pace) -> Measurement:
    """The seed program: `fib(35)` twice by `Pool(2).map`, pool made and ended inside the clock, against one after the other."""
    context = backend.context()
    n = pace.choose(full=35, quick=18)
    begin = time.perf_counter()
    alone = [fib(n), fib(n)]
    middle = time.perf_counter()
    with context.Pool(WORKERS) as pool:
        together = pool.map(fib, [n, n])
    end = time.perf_counter()
    if together != alone:
        raise ValueError(f"the pool computed {together}, not {alone}")
    return Measurement((middle - begin) / (end - middle), {"pool s": end - middle})


@row(
    "idle pool", unit="ms", better="lower", needs=Feature.APPLY | Feature.CHUNKED_MAP, target=Target(at_most=1.0),
    most_rounds=3,
)  # fmt: skip
def idle_pool(backend: Backend, pace: Pace) -> Measurement:
    """Processor time that a pool of two, its parent and whatever else they started take in 2 s without a task."""
    seconds = pace.choose(full=2.0, quick=0.1)
    with backend.context().Pool(WORKERS) as pool:
        pool.map(trivial, range(100))
        time.sleep(pace.choose(full=0.3, quick=0.01))
        # Reading /proc takes this process some milliseconds, so its own share is taken inside of that.
        others = processor_time.of_tree(arena.watcher(), own=False)
        own = time.process_time()
        time.sleep(seconds)
        own = time.process_time() - own
        used = own + processor_time.of_tree(arena.watcher(), own=False) - others
    return Measurement(1000 * used * 2.0 / seconds)
