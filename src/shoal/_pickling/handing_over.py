"""Pickles whose loading hands something over, and how to tell them from the others.

A connection or a descriptor goes to whoever loads the pickle, and to nobody after him. A shared object is no copy: what is done with it in the loading is done to it. So
such a pickle cannot be loaded in trial. Whether one is of that kind shows while it is made, by one of three signs:

* a reference to an object in shared memory was noted, for the message to keep it alive;
* a descriptor was deposited, to be fetched once: every connection, socket and end of a pipe does that;
* a reducing function was called that somebody else has registered with ``ForkingPickler``: by these libraries pass what a copy would not do for, as
  PyTorch its tensors in shared memory. What they do cannot be known, so it counts.

The core counts them, for each thread. What a type's own ``__reduce__`` has loaded shows no sign.

Relies on `shoal.reduction`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shoal import _native, _standard, reduction
from shoal._pickling.kinds import Kinds

if TYPE_CHECKING:
    from collections.abc import Callable

    Reducer = Callable[[Any], Any]

__all__ = ["watch"]

# Whose registered functions hand nothing over, or show it by another sign.
KNOWN = ("shoal.", _standard.reduction.__name__, f"{_standard.package.__name__}.managers")


def _watched(reduce: Reducer) -> Reducer:
    """Make of a registered function one whose calls count."""
    if str(getattr(reduce, "__module__", None)).startswith(KNOWN):
        return reduce

    def counted(obj: Any) -> Any:
        _native.hand_over()
        return reduce(obj)

    return counted


def watch() -> None:
    """Begin to see the signs, and types that are new, in this process; what it pickles for others is the same as before."""
    reduction.pickle_by(_watched, Kinds)
