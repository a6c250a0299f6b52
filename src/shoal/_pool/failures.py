"""How an exception travels from a worker to the application.

The exception is pickled on its own, inside the failure: one that cannot be pickled, or cannot be loaded on the other side, still arrives as
a failure with a reason and the remote traceback. The classes that programs know (``RemoteTraceback``, ``MaybeEncodingError``) are the
standard library's own.
"""

from __future__ import annotations

import pickle
import threading
import traceback
from typing import TYPE_CHECKING, Any

from shoal import _standard
from shoal._pool.functions import CALL, FRESH, ONE, STAR
from shoal.reduction import ForkingPickler

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "FAILURES",
    "Bounce",
    "Failure",
    "NotRun",
    "UnloadableError",
    "encoding_error",
    "is_outcome",
    "name_culprit",
    "unsendable",
]

RemoteTraceback = _standard.pool.RemoteTraceback
MaybeEncodingError = _standard.pool.MaybeEncodingError


def encoding_error(reason: BaseException, value: object) -> BaseException:
    """Make the error for what could not be pickled, or not be loaded.

    Args:
        reason: what the pickler raised.
        value: the object itself, or a description of it.
    """
    try:
        error: BaseException = MaybeEncodingError(reason, _Shown(value))
    except BaseException as broken_repr:  # noqa: BLE001 - a repr may raise anything
        error = MaybeEncodingError(
            reason, f"<{type(value).__name__}, whose repr() raised {type(broken_repr).__name__}>"
        )
    return error


class _Shown:
    """Something whose representation is that of an object, but not longer than can be read, or sent where memory is short."""

    MOST = 2000  # characters

    def __init__(self, value: object) -> None:
        if isinstance(value, (str, bytes, bytearray)) and len(value) > self.MOST:
            value = value[: self.MOST]  # that of all of it would take four times its memory
        text = repr(value)
        self._text = text if len(text) <= self.MOST else f"{text[: self.MOST]}…"

    def __repr__(self) -> str:
        return self._text


def name_culprit(error: BaseException, mode: int | None) -> None:
    """Say in a note on a pickling error where the culprit is in terms of the call, not of the message.

    Args:
        error: what pickling a task, or a function, raised.
        mode: of the task; None for a function.
    """
    notes = getattr(error, "__notes__", None)
    if not notes:
        return
    if mode is None:
        names = {"object": "func"}
    elif mode % FRESH == CALL:
        names = {"object[2][0]": "args", "object[2][1]": "kwds"}
    elif mode % FRESH == STAR:
        names = {"object[2]": "args"}
    else:
        names = {"object[2]": "item" if mode % FRESH == ONE else "items"}
    for place, note in enumerate(notes):
        for prefix, name in names.items():
            if isinstance(note, str) and note.startswith(prefix):
                notes[place] = name + note.removeprefix(prefix)
                break


def is_outcome(error: BaseException) -> bool:
    """Whether what foreign code raised (an iterator, a pickler) is its outcome, or interrupts the program itself.

    A KeyboardInterrupt in the main thread may be Ctrl-C, and a SystemExit that of a signal handler. In any other thread they can only come from that code, and there is nobody whom they could end.
    """
    return isinstance(error, Exception) or threading.current_thread() is not threading.main_thread()


class Failure:
    """The outcome of a task that raised.

    Attributes:
        exception: what ``get()`` is going to raise.
        remote: whether a traceback of the worker is to be sent along.
    """

    __slots__ = ("exception", "remote")

    def __init__(self, exception: BaseException, *, remote: bool = False) -> None:
        self.exception = exception
        self.remote = remote

    @staticmethod
    def stand_in(reason: BaseException, value: object) -> BaseException:
        """Make what is raised in place of an exception that cannot be pickled, or not be loaded."""
        return encoding_error(reason, value)

    def __reduce__(self) -> tuple[Any, ...]:
        error = self.exception
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__)) if self.remote else None
        try:
            data = bytes(ForkingPickler.dumps(error))
        except BaseException as reason:  # noqa: BLE001 - pickling runs foreign code
            data = bytes(ForkingPickler.dumps(self.stand_in(reason, error)))
        return _load_failure, (type(self), data, text, f"{type(error).__module__}.{type(error).__qualname__}")


class NotRun(Failure):
    """The outcome of a task that could not be loaded: nothing of it has been run."""

    __slots__ = ()


def _load_failure(kind: type[Failure], data: bytes, text: str | None, name: str) -> Failure:
    """Rebuild a failure in the application; never raises for an exception that cannot be loaded."""
    try:
        error = pickle.loads(data)
        if not isinstance(error, BaseException):
            raise TypeError(f"loading gave a {type(error).__name__}, not an exception")  # noqa: TRY301 - the same answer
    except Exception as reason:  # noqa: BLE001 - unpickling runs foreign code
        error = kind.stand_in(reason, f"the exception {name}")
    if text is not None:
        error.__cause__ = RemoteTraceback(f'\n"""\n{text}"""')
    return kind(error)


class UnloadableError(Exception):
    """An outcome was pickled, but could not be loaded again in trial.

    Attributes:
        reason: what loading it raised.
    """

    def __init__(self, reason: BaseException) -> None:
        super().__init__(reason)
        self.reason = reason


def unsendable(error: BaseException, value: object, check: Callable[[object], object]) -> Failure:
    """Make the outcome that takes the place of one that could not be published.

    Args:
        error: what publishing it raised.
        value: the outcome, or several in a list.
        check: raises what publishing something would raise.
    """
    if not isinstance(error, UnloadableError):
        return Failure(encoding_error(error, value))
    failure = Failure(error.reason, remote=True)
    try:
        check(failure)
    except BaseException:  # noqa: BLE001 - the reason cannot be loaded either
        failure = Failure(encoding_error(error.reason, value.exception if isinstance(value, Failure) else value))
    return failure


class Bounce:
    """A worker's answer to a task whose function it has not got: send it again, with the function. Nothing has been run."""

    __slots__ = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return Bounce, ()


# The classes of payloads that stand for an exception; each has an attribute `exception`. A transport adds its own.
FAILURES: set[Any] = {Failure, NotRun}
