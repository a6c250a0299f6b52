"""The arena of a process that shoal did not start, and that is about to use it: that of its relatives, if they have one.

A child that the standard library starts is of its parent's tree, though neither knew of shoal when it began. What one of them makes by itself, and hands to the other by a standard queue or
pipe, has to be in an arena that both have. So before a process makes one of its own it looks among the descriptors of the process that started it, and of the standard children that it has started.
Two children whose parent has none are not found by each other: there each has its own.

Relies on /proc; where that shows nothing, a process is of a tree of its own.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress

from shoal import _native, _runtime, _standard
from shoal._runtime import leaving

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["attach", "attach_found", "join", "open_arena", "source"]

ARENA = "/memfd:shoal (deleted)"  # what a link to its descriptor says; see arena::create

source: list[tuple[int, int]] = []  # the process where this one has found the arena, and its descriptor

_attaching = threading.Lock()
_runtime.in_forked_child(_attaching._at_fork_reinit)  # type: ignore[attr-defined]


def join() -> None:
    """Attach this process to the arena of a relative, if one has any. The core calls it before it makes one."""
    for pid in _relatives():
        with suppress(OSError):  # it has gone, or is somebody else's
            for entry in os.scandir(f"/proc/{pid}/fd"):
                if _target(entry.path) == ARENA:
                    attach_found(open_arena(entry.path), (pid, int(entry.name)))
                    return


def _target(link: str) -> str:
    try:
        return os.readlink(link)  # noqa: PTH115 - pathlib takes long to import
    except OSError:  # this one has been closed meanwhile
        return ""


def _relatives() -> Iterator[int]:
    process = _standard.process
    parent = process.parent_process()
    if parent is not None and parent.pid is not None and parent.is_alive():  # else its number may be another's by now
        yield parent.pid
    for child in list(process._children):  # type: ignore[attr-defined]
        popen = getattr(child, "_popen", None)
        if popen is not None:
            yield popen.pid


def open_arena(path: str) -> int:
    """Open what may be an arena, under /proc; returns the descriptor."""
    return _runtime.above_standard(os.open(path, os.O_RDWR | os.O_CLOEXEC))


def attach_found(descriptor: int, place: tuple[int, int]) -> None:
    """Attach this process, for which no slot is reserved, to an arena that was found at others'.

    Args:
        descriptor: of the arena, as for `attach`.
        place: the process that has it, and its descriptor there; where those look to whom this one sends.
    """
    attach(descriptor, 0)
    source[:] = [place]
    _runtime.start_watcher()


def attach(descriptor: int, token: int) -> None:
    """Attach this process to the arena behind a descriptor, which it now owns, unless another thread has done so.

    Args:
        descriptor: of the arena.
        token: of the slot that is reserved for this process; 0: it takes any.

    Raises:
        OSError: if it is no arena, or there is no slot; the descriptor is closed then.
    """
    with _attaching:
        if _native.arena_descriptor() < 0:
            try:
                _runtime.attach(descriptor, token)
            except BaseException:
                if _native.arena_descriptor() < 0:
                    os.close(descriptor)
                raise
            leaving.prepare()
        elif descriptor != _native.arena_descriptor():
            os.close(descriptor)
