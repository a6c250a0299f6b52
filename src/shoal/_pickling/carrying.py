"""Shared objects on their way to a process that shoal did not start, and that knows nothing of the arena.

A child that the standard library starts (or loky, or whoever else calls ``set_spawning_popen``) is given it: the first shared object that is pickled for it
reserves a slot and has the arena's descriptor inherited, by the popen's own ``duplicate_for_child``; what is needed to attach goes before each reference, once
in a pickle. The objects are kept alive through the slot until the child has ended. If the child takes longer than a minute to begin, the slot is given up, and
it takes another one: then only what the parent still holds is there.

One that gets its first shared object later, by a standard queue or pipe, looks for the arena where the sender has it, among the sender's descriptors. Nothing
but the sender keeps the object alive on that way. One that has made something of its own before is of the sender's tree if they are parent and child (see ``relatives``).
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from shoal import _native, _runtime
from shoal._runtime import relatives

if TYPE_CHECKING:
    from shoal._native import Reference

__all__ = ["carry", "direct"]


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


class _Whereabouts:
    """Where the arena is to be found: among the descriptors of this process, and where it has found the arena itself; as long as one of the two lives."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        descriptor = _runtime.ensure()
        found = os.fstat(descriptor)
        self.file = found.st_dev, found.st_ino
        self.places = [(self.pid, descriptor), *relatives.source]

    def __reduce__(self) -> tuple[Any, ...]:
        return _look, (self.places, self.file)


_here: _Whereabouts | None = None


class _Carried(tuple[int, int, int, int]):  # noqa: SLOT001 - a tuple of this kind has room for none
    """A reference that attaches the process which loads it."""

    place: _Place | _Whereabouts

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


def direct(reference: Reference) -> Reference:
    """Make a reference that tells where the arena is, for a message that any process may load.

    Args:
        reference: the shared object's; nothing keeps it alive but whoever has it now.
    """
    global _here
    if _here is None or _here.pid != os.getpid():
        _here = _Whereabouts()
    directed = _Carried(reference)
    directed.place = _here
    return directed


# --- where it is loaded -------------------------------------------------------------------------------------------------


def _take(arena: Any, token: int) -> None:
    """Attach this process to the arena; once, however many pickles say so."""
    relatives.attach(arena.detach(), token)


def _look(places: list[tuple[int, int]], file: tuple[int, int]) -> None:
    """Attach this process to the arena, if it is in one of these places. If not, the reference will be found to be stale."""
    for pid, descriptor in places:
        if _native.arena_descriptor() >= 0:
            return
        with suppress(OSError):  # it has gone, or belongs to somebody else
            found = relatives.open_arena(f"/proc/{pid}/fd/{descriptor}")
            status = os.fstat(found)
            if (status.st_dev, status.st_ino) == file:
                relatives.attach_found(found, places[-1])  # of those who had it before, the first: it will live longest
            else:
                os.close(found)


def _arrived(_place: None, reference: Reference) -> Reference:
    return reference
