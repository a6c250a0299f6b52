"""Rivals whose interface is not that of ``multiprocessing``, given the names that the rows use.

Each does what the package's own documentation shows for the work, with two workers that are kept between calls.
"""

# ruff: noqa: PLC0415  (one of these packages is measured in an interpreter, the others must not be imported, nor need be installed)

from __future__ import annotations

import multiprocessing
import os
import tempfile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType


class FasterFifo:
    """faster-fifo: a queue; the processes are the standard library's."""

    Process = multiprocessing.get_context("fork").Process

    def Queue(self) -> Any:  # noqa: N802  (the context's name)
        """A queue with a buffer of 4 MiB (its default of 1 MB takes no message of 1 MB)."""
        import faster_fifo
        import faster_fifo_reduction  # noqa: F401  (as its documentation asks)

        return faster_fifo.Queue(max_size_bytes=4 << 20)


class _Pool:
    """What all of them share: ``with``, and the workers stopped at its end."""

    def __enter__(self) -> Any:
        """The pool itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the workers."""
        self.stop()

    def stop(self) -> None:
        """Stop the workers."""
        raise NotImplementedError


class _LokyPool(_Pool):
    """loky's executor."""

    def __init__(self, processes: int) -> None:
        import loky

        self._executor = loky.ProcessPoolExecutor(max_workers=processes)

    def apply(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        return self._executor.submit(function, *arguments).result()

    def map(self, function: Callable[[Any], Any], items: Iterable[Any], chunksize: int) -> list[Any]:
        return list(self._executor.map(function, items, chunksize=chunksize))

    def imap_unordered(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        from concurrent.futures import as_completed

        for future in as_completed([self._executor.submit(function, item) for item in items]):
            yield future.result()

    def stop(self) -> None:
        self._executor.shutdown(kill_workers=True)


class _JoblibPool(_Pool):
    """joblib's ``Parallel`` with its default backend; used as a context manager it keeps its workers."""

    def __init__(self, processes: int) -> None:
        self._processes = processes

    def map(self, function: Callable[[Any], Any], items: Iterable[Any], chunksize: int | None = None) -> list[Any]:
        from joblib import Parallel, delayed

        parallel = Parallel(n_jobs=self._processes, batch_size="auto" if chunksize is None else chunksize)
        return list(parallel(delayed(function)(item) for item in items))

    def imap_unordered(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        from joblib import Parallel, delayed

        parallel = Parallel(n_jobs=self._processes, batch_size=1, return_as="generator_unordered")
        yield from parallel(delayed(function)(item) for item in items)

    def stop(self) -> None:
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor().shutdown(kill_workers=True)


class _MpirePool(_Pool):
    """mpire's ``WorkerPool``, forking as it does by default, told to keep its workers."""

    def __init__(self, processes: int) -> None:
        from mpire.pool import WorkerPool

        self._pool = WorkerPool(n_jobs=processes, start_method="fork", keep_alive=True)

    def apply(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        return self._pool.apply(function, arguments)

    def map(self, function: Callable[[Any], Any], items: Iterable[Any], chunksize: int | None = None) -> Any:
        return self._pool.map(function, items, chunk_size=chunksize)

    def imap_unordered(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        yield from self._pool.imap_unordered(function, items, chunk_size=1)

    def stop(self) -> None:
        self._pool.terminate()


class _PebblePool(_Pool):
    """pebble's ``ProcessPool``."""

    def __init__(self, processes: int) -> None:
        from pebble import ProcessPool

        self._pool: Any = ProcessPool(max_workers=processes, context=multiprocessing.get_context("fork"))

    def apply(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        return self._pool.schedule(function, args=arguments).result()

    def map(self, function: Callable[[Any], Any], items: Iterable[Any], chunksize: int) -> list[Any]:
        return list(self._pool.map(function, items, chunksize=chunksize).result())

    def stop(self) -> None:
        self._pool.stop()
        self._pool.join()


class _PyroShared:
    """A proxy of Pyro5's, in whatever process uses it: one that was inherited by a fork must not be used."""

    def __init__(self, uri: str) -> None:
        self._uri, self._owner, self._proxy = uri, 0, None

    def _there(self) -> Any:
        if self._owner != os.getpid():
            from Pyro5.api import Proxy

            self._owner, self._proxy = os.getpid(), Proxy(self._uri)
        return self._proxy


class _PyroDict(_PyroShared):
    """A dict behind a proxy."""

    def __getitem__(self, key: Any) -> Any:
        """Read."""
        return self._there().get(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Write."""
        self._there().put(key, value)

    def update(self, values: Any) -> None:
        self._there().update(values)


class _PyroQueue(_PyroShared):
    """A queue behind a proxy."""

    def put(self, item: Any) -> None:
        self._there().append(item)

    def get(self) -> Any:
        return self._there().take()


class _PyroNamespace(_PyroShared):
    """An attribute behind a proxy."""

    @property
    def x(self) -> Any:
        return self._there().get("x")

    @x.setter
    def x(self, value: Any) -> None:
        self._there().put("x", value)


class PyroValues:
    """What Pyro5's daemon serves: a dict and a queue in one."""

    def __init__(self) -> None:
        import queue

        self._values: dict[Any, Any] = {}
        self._items: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def get(self, key: Any) -> Any:
        """Read."""
        return self._values[key]

    def put(self, key: Any, value: Any) -> None:
        """Write."""
        self._values[key] = value

    def update(self, values: Any) -> None:
        """Write many."""
        self._values.update(values)

    def append(self, item: Any) -> None:
        """Put into the queue."""
        self._items.put(item)

    def take(self) -> Any:
        """Get from the queue."""
        return self._items.get()


def _serve_pyro(address: str, ready: Any) -> None:
    """A daemon on a socket file; says which addresses its objects have."""
    from Pyro5.api import Daemon, expose

    daemon = Daemon(unixsocket=address)
    kind = expose(PyroValues)
    ready.send([str(daemon.register(kind())) for _ in range(3)])
    daemon.requestLoop()


class _PyroManager:
    """A process with Pyro5's daemon, and an object in it for each type."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory()
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve_pyro, args=(f"{self._directory.name}/socket", theirs), daemon=True
        )
        self._process.start()
        self._uris = ours.recv()

    def dict(self) -> _PyroDict:
        return _PyroDict(self._uris[0])

    def Queue(self) -> _PyroQueue:  # noqa: N802  (the manager's name)
        return _PyroQueue(self._uris[1])

    def Namespace(self) -> _PyroNamespace:  # noqa: N802  (the same)
        return _PyroNamespace(self._uris[2])

    def __enter__(self) -> Any:
        """The manager itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the daemon."""
        self._process.kill()
        self._process.join()
        self._directory.cleanup()


class Pyro5:
    """Pyro5, as a context: a daemon on a socket file, with its default serializer; the processes are the standard library's."""

    Process = multiprocessing.get_context("fork").Process
    Manager = _PyroManager


class Loky:
    """loky, as a context."""

    Pool = _LokyPool


class Joblib:
    """joblib, as a context."""

    Pool = _JoblibPool


class Mpire:
    """mpire, as a context."""

    Pool = _MpirePool


class Pebble:
    """pebble, as a context."""

    Pool = _PebblePool
