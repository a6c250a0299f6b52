"""What ``apply_async`` and ``map_async`` return.

They are jobs of the ledger: outcomes come in by ``one``, ``many`` and ``gap``, in the thread that leads at that time. Settling an outcome twice does no harm (see ``ledger``).
"""

from __future__ import annotations

import itertools
import types
from typing import TYPE_CHECKING, Any, NoReturn

from shoal import _standard
from shoal._pool.failures import FAILURES, Failure
from shoal._pool.waiting import Awaited

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shoal._pool.collector import Collector
    from shoal._pool.functions import Function
    from shoal._pool.ledger import Progress, Resend

__all__ = ["ApplyResult", "AsyncResult", "MapResult", "job_counter"]

TimeoutError = _standard.context.TimeoutError  # noqa: A001 - the standard library's name for it

job_counter = itertools.count()


class ApplyResult(Awaited):
    """The result of ``apply_async``; its own row in the ledger.

    Args:
        pool: the pool, kept alive until the result is there.
        callback: called with the value.
        error_callback: called with the exception.
    """

    def __init__(
        self,
        pool: Any,
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:
        super().__init__()
        self._done = False
        self._success = True
        self._value: Any = None
        self._concluding = False
        self._function: Function | None = None  # for messages
        self._pool = pool
        self._collector: Collector = pool._collector
        self._job = next(job_counter)
        self._cache: dict[int, Any] = pool._cache
        self._callback = callback
        self._error_callback = error_callback
        self.open: set[int] = set()
        self._cache[self._job] = self

    def ready(self) -> bool:
        """Whether the result is there."""
        if not self._done:
            self._collector.glance()
        return self._done

    def successful(self) -> bool:
        """Whether the call returned without an exception.

        Raises:
            ValueError: if the result is not there yet.
        """
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self._success

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the result is there.

        Args:
            timeout: seconds to wait at most.
        """
        self._collector.wait(self, timeout)

    def get(self, timeout: float | None = None) -> Any:
        """Wait for the result and return it.

        Args:
            timeout: seconds to wait at most.

        Raises:
            multiprocessing.TimeoutError: if it has not arrived by then.
            BaseException: what the call raised.
        """
        if not self._done and not self._collector.wait(self, timeout):
            raise TimeoutError
        if self._success:
            return self._value
        try:
            raise self._value
        finally:
            del (
                self
            )  # the exception refers to this frame, by its traceback: in a circle, that would keep all callers' objects

    # --- the ledger's side ---

    def settle(self, _task: int, _last: bool, payload: Any) -> None:
        """Take the message of the one task."""
        self.one(0, payload)

    def lose(self, _task: int, error: Callable[[str], BaseException], _progress: Progress | None) -> Sequence[Resend]:
        """Learn that the worker died in the task."""
        self.one(0, Failure(error(self._function.name if self._function is not None else "the task")))
        return ()

    def one(self, _index: int, payload: Any) -> None:
        """Take the outcome."""
        if self._concluding:
            return
        if payload.__class__ in FAILURES:
            self._success = False
            self._value = payload.exception
        else:
            self._value = payload
        self._conclude()

    def closed(self, _task: int) -> None:
        """Learn that the task is over."""

    def fail(self, error: BaseException) -> None:
        """Make an exception the result, whatever is still under way."""
        if not self._concluding:
            self._success = False
            self._value = error
            self._conclude()

    def drop(self, error: BaseException) -> None:
        """Make an exception the result at once, without a callback: the pool is being terminated."""
        self._success = False
        self._value = error
        self._complete()
        self._concluding = True

    def _conclude(self) -> None:
        """The outcome is known: call back, then let waiting threads see it."""
        if self._callback if self._success else self._error_callback:
            self._collector.call_back(self)
        else:
            self._complete()
        self._concluding = True  # only now: whoever settles this again after an interruption does all of it again

    def _call_back(self) -> None:
        """Run the callback, in the collector's thread."""
        if self._success:
            if self._callback:
                self._callback(self._value)
        elif self._error_callback:
            self._error_callback(self._value)

    def _complete(self) -> None:
        self._done = True
        self._cache.pop(self._job, None)
        self._collector.finished(self)
        self._pool = None
        self._source = None
        if self._bells:
            self._wake()

    def _set(self, i: int, obj: tuple[bool, Any]) -> None:
        """Take an outcome as the standard library's pool hands it over: ``(success, value)``."""
        success, value = obj
        self.one(i, value if success else Failure(value))

    __class_getitem__: Any = classmethod(types.GenericAlias)


AsyncResult = ApplyResult


class MapResult(ApplyResult):
    """The result of ``map_async`` and ``starmap_async``.

    Args:
        pool: the pool.
        chunksize: items of a chunk, nominally.
        length: number of items.
        callback: called with the list.
        error_callback: called with the first exception.
    """

    def __init__(
        self,
        pool: Any,
        chunksize: int,
        length: int,
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:
        super().__init__(pool, callback, error_callback)
        self._value = [None] * length
        self._chunksize = chunksize
        self._error: BaseException | None = None
        if chunksize <= 0:
            self._concluding = True
            self._complete()

    @property
    def _number_left(self) -> int:
        """Chunks that have not arrived."""
        if self._done:
            return 0
        source = self._source
        return len(self.open) + (-(-source.remaining // max(1, self._chunksize)) if source is not None else 0)

    def settle(self, _task: int, _last: bool, _payload: Any) -> NoReturn:
        """Not a row."""
        raise TypeError("a map has many tasks")

    def one(self, index: int, payload: Any) -> None:
        """Take the outcome of one item."""
        if payload.__class__ in FAILURES:
            if self._error is None:
                self._error = payload.exception
        elif not (self._done or self._concluding):
            self._value[index] = payload

    def many(self, start: int, payloads: Sequence[Any]) -> None:
        """Take values of consecutive items (never failures)."""
        if not (self._done or self._concluding):
            self._value[start : start + len(payloads)] = payloads

    def gap(self, start: int, _count: int, failure: Any) -> None:
        """Take a failure of a whole chunk."""
        self.one(start, failure)

    def closed(self, _task: int) -> None:
        """Learn that a task is over."""
        if not self.open and (self._source is None or self._source.exhausted) and not self._concluding:
            if self._error is not None:
                self._success = False
                self._value = self._error
            self._conclude()

    def fail(self, error: BaseException) -> None:
        """Make an exception the result at once, whatever is still under way."""
        if not self._concluding:
            self._error = error
        super().fail(error)

    def spoil(self, error: BaseException) -> None:
        """Make an exception the result, to be told when everything under way is over."""
        if self._error is None:
            self._error = error

    def _set(self, i: int, obj: tuple[bool, Any]) -> None:
        """Take the outcome of a chunk as the standard library's pool hands it over."""
        success, value = obj
        if success:
            self.many(i * self._chunksize, value)
        else:
            self.one(i, Failure(value))
