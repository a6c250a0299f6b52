"""``parmap``: a parallel map in one line, with no pool to make and to close.

The function is handed to each worker once, when it starts, not with the tasks. A forked worker has it by inheritance, so there it need not be picklable: what it
closes over may be anything. To others it is pickled, by value if it has no name to be imported by.

Relies on the context that it is given for workers (``context.Pool``) and for the word that one has failed (``context.Event``).
"""

from __future__ import annotations

from collections.abc import Sized
from typing import TYPE_CHECKING, Any

from shoal.errors import WorkerLostError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["parmap"]

_function: Callable[..., Any]  # in a worker: what it is to call,
_starred: bool  # whether with an item or with all that is in it,
_failed: Any  # and the event that says that a call has failed somewhere


def parmap(
    f: Callable[..., Any],
    xs: Iterable[Any],
    *more: Iterable[Any],
    processes: int | None = None,
    chunksize: int | None = None,
    context: Any,
) -> list[Any]:
    """See ``shoal.context.BaseContext.parmap``, which gives its context."""
    if not callable(f):
        raise TypeError(f"{type(f).__name__!r} object is not callable")
    if chunksize is not None and chunksize < 1:
        raise ValueError(f"Chunksize must be 1+, not {chunksize!r}")
    workers = context.cpu_count() if processes is None else processes
    if workers < 1:
        raise ValueError("Number of processes must be at least 1")
    items = list(zip(xs, *more)) if more else xs if isinstance(xs, Sized) else list(xs)  # noqa: B905 - as map() does
    if not len(items):
        return []
    with context.Pool(min(workers, len(items)), _start, (f, bool(more), context.Event())) as pool:
        try:
            results: list[Any] = pool.map(_call, items, chunksize)
        except WorkerLostError as error:
            error.name_function(_call.__name__, getattr(f, "__name__", type(f).__name__))
            raise
        # Workers leave by themselves, so what they have still to say, and to do at their exit, is said and done.
        pool.close()
        pool.join()
    return results


def _start(function: Callable[..., Any], starred: bool, failed: Any) -> None:
    global _function, _starred, _failed
    _function, _starred, _failed = function, starred, failed


def _call(item: Any) -> Any:
    if _failed.is_set():
        return None  # nobody will see it: the map ends with an exception
    try:
        return _function(*item) if _starred else _function(item)
    except BaseException:
        _failed.set()
        raise
