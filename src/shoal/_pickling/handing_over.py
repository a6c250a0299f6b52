"""Pickles whose loading hands something over, and how to tell them from the others.

A connection or a descriptor goes to whoever loads the pickle, and to nobody after him. A shared object is no copy: what is done with it in the loading is done to it. So
such a pickle cannot be loaded in trial. Whether one is of that kind shows while it is made, by one of three signs:

* a reference to an object in shared memory was noted, for the message to keep it alive;
* a descriptor was deposited, to be fetched once: every connection, socket and end of a pipe does that;
* a reducing function was called that somebody else has registered with ``ForkingPickler``: by these libraries pass what a copy would not do for, as
  PyTorch its tensors in shared memory. What they do cannot be known, so it counts.

Each sign is a number that only grows. Another thread's pickles may be taken for one's own, never the other way round. What a type's own ``__reduce__`` has loaded
shows no sign: that it may be loaded twice is for the program to know.

Relies on `shoal.reduction` and `shoal.resource_sharer`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shoal import _native, _standard, reduction, resource_sharer

if TYPE_CHECKING:
    import pickle
    from collections.abc import Callable, Sequence

    Reducer = Callable[[Any], Any]

__all__ = ["dumps", "watch"]

# Whose registered functions hand nothing over, or show it by another sign.
KNOWN = ("shoal.", _standard.reduction.__name__, f"{_standard.package.__name__}.managers")

_calls = 0  # of registered functions of others


def _watched(reduce: Reducer) -> Reducer:
    """Make of a registered function one that counts its calls."""
    if str(getattr(reduce, "__module__", None)).startswith(KNOWN):
        return reduce

    def counted(obj: Any) -> Any:
        global _calls
        _calls += 1
        return reduce(obj)

    return counted


def watch() -> None:
    """Begin to see the signs, in this process; what it pickles for others is the same as before."""
    reduction.wrap_registered(_watched)


def _signs() -> tuple[int, int, int]:
    return _native.references_noted(), resource_sharer.deposits(), _calls


def dumps(obj: Any) -> tuple[bytes, Sequence[pickle.PickleBuffer], bool]:
    """Pickle an object, between ``references_begin`` and ``references_end`` or for a message of the core.

    Returns:
        What `reduction.dumps` returns, and whether loading it hands something over.

    Raises:
        Exception: whatever pickling raises.
    """
    before = _signs()
    data, buffers = reduction.dumps(obj)
    return data, buffers, _signs() != before
