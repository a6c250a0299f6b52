"""How a callable travels to the workers: once, not with every task.

A task names its function by a *key*. A short pickle is its own key: it goes with each task, and a worker that has seen it before does not
load it again. So a worker that was started later needs nothing special. A long one has a number for a key; its pickle goes with the first
tasks, and a worker that has not got it sends the task back (:class:`shoal._pool.failures.Bounce`) to get it with the function.

A worker keeps plain functions and classes as objects. Everything else that can be called (bound methods, partials, instances) may bear
state: of these it keeps the pickle, and each task gets a copy of its own, as with the standard library.
"""

from __future__ import annotations

import itertools
import pickle
import sys
import types
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from shoal import reduction
from shoal.reduction import ForkingPickler

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "CALL",
    "EACH",
    "FRESH",
    "ITEMS",
    "NOT_HERE",
    "ONE",
    "STAR",
    "STARRED",
    "Function",
    "Functions",
    "LearnedFunctions",
]

# How a task's argument meets its function.
ONE = 0  # function(argument)
STAR = 1  # function(*argument)
CALL = 2  # function(*argument[0], **argument[1])
ITEMS = 4  # each item of a chunk; STARRED and EACH are added to it
STARRED = 1  # items are argument tuples
EACH = 2  # an item that raises does not end the chunk
FRESH = 16  # added when each task is to get its own copy of the callable

SHORT = 512  # bytes of pickle up to which a function goes with each task
REMEMBERED = 64  # functions whose pickles a pool remembers, and long functions that a worker remembers

STATELESS = (types.FunctionType, types.BuiltinFunctionType, type)

_numbers = itertools.count(1)


class Function:
    """A callable, ready to be named in tasks.

    Attributes:
        key: a short pickle, or the number of a long one (or, where nothing is pickled, what holds the callable itself).
        data: the long pickle, else None.
        fresh: 0, or :data:`FRESH`, to be added to a task's mode.
        original: the callable itself: as long as a job holds it, what its pickle refers to stays alive.
    """

    __slots__ = ("data", "fresh", "key", "original")

    def __init__(self, original: Callable[..., Any]) -> None:
        data = bytes(ForkingPickler.dumps(original))
        self.original = original
        self.fresh = 0 if type(original) in STATELESS else FRESH
        self.key: Any = data if len(data) <= SHORT else next(_numbers)
        self.data: bytes | None = None if len(data) <= SHORT else data

    @property
    def name(self) -> str:
        """What to call it in messages."""
        return str(getattr(self.original, "__name__", None) or type(self.original).__name__)


def _goes_by_name(function: Any) -> bool:
    """Whether a pickle of it is but its name, so that it is the same at all times."""
    if function.__module__ == "__main__" and reduction._main_by_value:
        return False
    module = sys.modules.get(function.__module__ or "builtins")
    return getattr(module, function.__qualname__, None) is function


class Functions:
    """What the application knows of functions: plain ones need not be pickled again for each call."""

    def __init__(self) -> None:
        self._known: dict[Any, Function] = {}

    def get(self, function: Callable[..., Any]) -> Function:
        """Name a callable.

        Raises:
            Exception: whatever the pickler raises, if it cannot be pickled.
        """
        if type(function) not in STATELESS:
            return Function(function)
        found = self._known.get(function)
        if found is None:
            found = Function(function)
            if found.data is None and _goes_by_name(function):
                if len(self._known) >= REMEMBERED:
                    self._known.clear()
                self._known[function] = found
        return found


NOT_HERE = object()  # None may be what a program took for a function


class LearnedFunctions:
    """What a worker knows of functions."""

    def __init__(self) -> None:
        self.objects: dict[Any, Callable[..., Any]] = {}
        self.known = self.objects.get
        self._pickles: OrderedDict[int, bytes] = OrderedDict()

    def resolve(self, payload: tuple[Any, ...]) -> Any:
        """Load the function of a task.

        Args:
            payload: ``(mode, key, argument)`` or ``(mode, number, argument, 1, pickle or None)``.

        Returns:
            The callable, or `NOT_HERE` if its pickle is needed and has not come along.

        Raises:
            Exception: whatever loading it raises.
        """
        key = payload[1]
        if isinstance(key, bytes):
            data: bytes | None = key
        else:
            data = payload[4] or self._pickles.get(key)
            if data is None:
                return NOT_HERE
            self._pickles[key] = data
            self._pickles.move_to_end(key)
            if len(self._pickles) > REMEMBERED:
                forgotten, _ = self._pickles.popitem(last=False)
                self.objects.pop(forgotten, None)
        function: Callable[..., Any] = pickle.loads(data or b"")
        if payload[0] < FRESH:
            if len(self.objects) >= 4 * REMEMBERED:
                self.objects.clear()
            self.objects[key] = function
        return function
