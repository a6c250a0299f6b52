"""Shared objects on their way to a child that the standard library starts (or loky, or whoever else calls ``set_spawning_popen``).

Such a child knows nothing of the arena. So the first shared object that is pickled for it reserves a slot and has the arena's descriptor inherited, by the
popen's own ``duplicate_for_child``; what is needed to attach goes before each reference, once in a pickle. The objects are kept alive through the
slot until the child has ended. If the child takes longer than a minute to begin, the slot is given up, and it takes another one: then only what the
parent still holds is there.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from shoal import _native, _runtime
from shoal._runtime import leaving

if TYPE_CHECKING:
    from shoal._native import Reference

__all__ = ["carry"]


class _Place:
    """A child's place in the tree.

    Args:
        popen: what starts the child.
    """

    def __init__(self, popen: Any) -> None:
        arena = _runtime.ensure()
        _runtime.start_watcher()
        self.arena = popen.DupFd(popen.duplicate_for_child(arena))
        # The watcher leaves it alone when its parent dies: a standard daemon is its parent's business.
        self.token = _native.slot_reserve(False, False)

    def __reduce__(self) -> tuple[Any, ...]:
        return _take, (self.arena, self.token)


class _Carried(tuple[int, int, int, int]):  # noqa: SLOT001 - a tuple of this kind has room for none
    """A reference that attaches the process which loads it."""

    place: _Place

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (self.place, tuple(self))


def carry(handle: _native.Handle, reference: Reference, popen: Any) -> Reference:
    """Make a reference that brings the arena along.

    Args:
        handle: the shared object; it is kept alive for the child.
        reference: its reference.
        popen: what starts the child.
    """
    place = getattr(popen, "_shoal_place", None)
    if place is None:
        place = popen._shoal_place = _Place(popen)
    _native.references_begin()
    try:
        handle._reference()
    finally:
        _native.references_end(place.token)
    carried = _Carried(reference)
    carried.place = place
    return carried


# --- in the child -------------------------------------------------------------------------------------------------------


def _take(arena: Any, token: int) -> None:
    """Attach this process to the arena; once, however many pickles say so."""
    descriptor = arena.detach()
    if _runtime.descriptor() >= 0:
        if descriptor != _runtime.descriptor():
            os.close(descriptor)
        return
    _runtime.attach(descriptor, token)
    leaving.prepare()


def _arrived(_place: None, reference: Reference) -> Reference:
    return reference
