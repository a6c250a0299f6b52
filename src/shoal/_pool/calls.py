"""The calls of a pool: ``apply``, ``map``, ``imap`` and their kin."""

from __future__ import annotations

from collections.abc import Sized
from typing import TYPE_CHECKING, Any

from shoal import _standard
from shoal._pool.chunking import Chunks
from shoal._pool.feeding import BUFFER, BUILTIN_SEQUENCES, Source, feed_in_background
from shoal._pool.functions import CALL, STAR
from shoal._pool.iterators import IMapIterator, IMapUnorderedIterator
from shoal._pool.results import ApplyResult, MapResult
from shoal._pool.submitting import submit_call, submit_or_keep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from shoal._pool.arrivals import Arrivals
    from shoal._pool.collector import Collector
    from shoal._pool.functions import Functions

__all__ = ["PoolCalls"]

mapstar = _standard.pool.mapstar
starmapstar = _standard.pool.starmapstar


class PoolCalls:
    """The base of ``Pool``: how work is handed over. What it is handed to, and who starts and ends that, is the pool's business."""

    _collector: Collector
    _functions: Functions
    _cache: dict[int, Any]
    _pool: list[Any]

    def _check_running(self) -> None:
        raise NotImplementedError

    def apply(self, func: Callable[..., Any], args: Iterable[Any] = (), kwds: Mapping[str, Any] = {}) -> Any:
        """Call ``func(*args, **kwds)`` in a worker and wait for its result.

        Args:
            func: any callable.
            args: its arguments.
            kwds: its keyword arguments.

        Raises:
            ValueError: if the pool is not running.
            WorkerLostError: if the worker died in the call.
            BaseException: what the call raised, or what pickling the arguments raised.
        """
        if self.__class__.apply_async is not PoolCalls.apply_async:
            return self.apply_async(func, args, kwds).get()
        self._check_running()
        result = ApplyResult(self, None, None)
        plain = not kwds and args.__class__ is tuple
        try:
            submit_call(
                self._collector,
                result,
                self._functions.get(func),
                STAR if plain else CALL,
                args if plain else (args, kwds),
                raises=True,
            )
            return result.get()
        except BaseException:
            self._cache.pop(result._job, None)  # interrupted, perhaps: nobody waits for it any more
            del result  # as in `ApplyResult.get`
            raise

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> ApplyResult:
        """Have ``func(*args, **kwds)`` called in a worker.

        Args:
            func: any callable.
            args: its arguments.
            kwds: its keyword arguments.
            callback: called with the value, in a thread of the pool.
            error_callback: called with the exception, in a thread of the pool.

        Returns:
            Where the result will be.

        Raises:
            ValueError: if the pool is not running.
        """
        self._check_running()
        collector = self._collector
        result = ApplyResult(self, callback, error_callback)
        collector.answer_for(result, eager=bool(callback or error_callback))
        try:
            function = self._functions.get(func)
        except Exception as error:  # noqa: BLE001 - it goes to get() and error_callback
            result.fail(error)
            return result
        if not kwds and args.__class__ is tuple:
            submit_or_keep(collector, result, function, STAR, args)
        else:
            submit_or_keep(collector, result, function, CALL, (args, kwds))
        return result

    def map(self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None) -> list[Any]:
        """Apply `func` to each item; returns the list of results.

        Args:
            func: any callable.
            iterable: the items.
            chunksize: items that make a task. If None, tasks are made to take about 10 ms.

        Raises:
            ValueError: if the pool is not running.
            BaseException: the first exception of an item, once all others are done.
        """
        return self._map(func, iterable, chunksize, mapper=mapstar)

    def starmap(
        self, func: Callable[..., Any], iterable: Iterable[Iterable[Any]], chunksize: int | None = None
    ) -> list[Any]:
        """Like :meth:`map`, with items that are tuples of arguments: ``func(*item)``."""
        return self._map(func, iterable, chunksize, mapper=starmapstar)

    def map_async(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> MapResult:
        """Like :meth:`map`, without waiting.

        Args:
            func: any callable.
            iterable: the items.
            chunksize: items that make a task. If None, tasks are made to take about 10 ms.
            callback: called with the list of results, in a thread of the pool.
            error_callback: called with the first exception, in a thread of the pool.

        Returns:
            Where the list will be.
        """
        return self._map_async(func, iterable, mapstar, chunksize, callback, error_callback)

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> MapResult:
        """Like :meth:`map_async`, with items that are tuples of arguments."""
        return self._map_async(func, iterable, starmapstar, chunksize, callback, error_callback)

    def imap(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int = 1,
        *,
        buffersize: int | None = None,
    ) -> IMapIterator:
        """Apply `func` to each item; returns an iterator of the results, in the order of the items.

        Args:
            func: any callable.
            iterable: the items; read in a thread of the pool.
            chunksize: items that make a task.
            buffersize: tasks handed in whose results have not been taken yet, at most: so much of `iterable` is read ahead. When ``join()`` is
                called, or nobody has the iterator any more, no more of it is read. If None, about 4,096 items are read ahead; ``join()`` waits
                until all of them have been worked on, and so they are if nobody has the iterator any more.

        Raises:
            ValueError: if the pool is not running, or `chunksize` or `buffersize` is less than 1.
            TypeError: if `buffersize` is not an integer.
        """
        self._check_running()
        _check_sizes(chunksize, buffersize)
        result = IMapIterator(self)
        self._stream(result._arrivals, func, iterable, chunksize, buffersize)
        return result

    def imap_unordered(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int = 1,
        *,
        buffersize: int | None = None,
    ) -> IMapUnorderedIterator:
        """Like :meth:`imap`; the results come in the order in which they are ready."""
        self._check_running()
        _check_sizes(chunksize, buffersize)
        result = IMapUnorderedIterator(self)
        self._stream(result._arrivals, func, iterable, chunksize, buffersize)
        return result

    def _prepare_map(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        mapper: Any,
        chunksize: int | None,
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> tuple[MapResult, Source | None]:
        """Make the result of a map and, unless it is empty or cannot be, what feeds it."""
        if not isinstance(iterable, Sized):
            iterable = list(iterable)
        length = len(iterable)
        chunks = Chunks(length, len(self._pool), chunksize)
        result = MapResult(self, chunks.nominal if length else 0, length, callback, error_callback)
        if not length:
            return result, None
        try:
            self._check_running()  # it may have been closed, or terminated, while the items were read; from now on that waits for this job, or drops it
        except BaseException:
            self._cache.pop(result._job, None)
            raise
        if chunksize is not None and chunksize < 1:
            self._cache.pop(result._job, None)
            raise ValueError(f"Chunksize must be 1+, not {chunksize!r}")
        try:
            result._source = Source(
                self._collector,
                result,
                iterable,
                length,
                self._functions.get(func),
                starred=mapper is starmapstar,
                chunks=None if chunksize == 1 else chunks,
            )
        except BaseException:
            self._cache.pop(result._job, None)
            raise
        return result, result._source

    def _map(self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int | None, mapper: Any) -> list[Any]:
        if self.__class__._map_async is not PoolCalls._map_async:
            values: list[Any] = self._map_async(func, iterable, mapper, chunksize).get()
            return values
        self._check_running()
        result, source = self._prepare_map(func, iterable, mapper, chunksize, None, None)
        if source is None:
            return []
        source.driven = True
        try:
            source.feed()
            values = result.get()
        except BaseException:
            source.abandon()
            result._source = None  # which refers to it
            self._cache.pop(result._job, None)
            del result, source  # as in `ApplyResult.get`
            raise
        return values

    def _map_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        mapper: Any,
        chunksize: int | None = None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> MapResult:
        self._check_running()
        collector = self._collector
        try:
            result, source = self._prepare_map(func, iterable, mapper, chunksize, callback, error_callback)
        except Exception as error:
            if not isinstance(iterable, Sized) or (chunksize is not None and chunksize < 1):
                raise
            result = MapResult(self, 1, 1, callback, error_callback)
            collector.answer_for(result, eager=True)
            result.fail(error)
            return result
        if source is not None:
            collector.answer_for(result, eager=bool(callback or error_callback))
            feed_in_background(
                collector, source, may_block=type(iterable) not in BUILTIN_SEQUENCES and isinstance(iterable, Sized)
            )
        return result

    def _stream(
        self,
        result: Arrivals,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int,
        buffersize: int | None,
    ) -> None:
        """Start an ``imap``."""
        collector = self._collector
        builtin = type(iterable) in BUILTIN_SEQUENCES
        length = len(iterable) if builtin and isinstance(iterable, Sized) else None
        try:
            source = Source(
                collector,
                result,
                iterable,
                length,
                self._functions.get(func),
                starred=False,
                chunks=None if chunksize == 1 else Chunks(length or 0, len(self._pool), chunksize),
                buffersize=max(BUFFER, chunksize) if buffersize is None else buffersize * chunksize,
                stream=True,
                leavable=buffersize is not None,
            )
        except Exception as error:  # noqa: BLE001 - as in the standard library, it is the first outcome
            result._set(0, (False, error))
            result._set_length(1)
            return
        result._source = source
        collector.answer_for(result, eager=False)
        try:
            feed_in_background(collector, source, may_block=not builtin)
        except BaseException:  # a Ctrl-C: nobody is going to have the iterator
            source.abandon()
            result._complete()
            raise


def _check_sizes(chunksize: int, buffersize: Any) -> None:
    if chunksize < 1:
        raise ValueError(f"Chunksize must be 1+, not {chunksize!r}")
    if buffersize is None:
        return
    if not isinstance(buffersize, int):
        raise TypeError(f"buffersize must be an integer or None, not {type(buffersize).__name__}")
    if buffersize < 1:
        raise ValueError(f"buffersize must be 1+ or None, not {buffersize!r}")
