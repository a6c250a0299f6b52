"""The standard library's ``multiprocessing.resource_tracker``: what is to be taken away when its processes have gone.

Named shared memory (``"shared_memory"``) is kept account of in the tree's arena, and the tree's watcher unlinks what is left when the last process of the tree has
gone: without a process of Python's own, and without a word. Whoever wants the tree to answer for a block that it has not made says so with ``register``; whoever
wants one to outlive the tree, with ``unregister``, which is silent about what was never registered.

Resources of other kinds, which shoal does not make, go to the standard library's tracker. Its process starts when a program first registers one,
or calls ``ensure_running`` or ``getfd``; shoal itself never does.
"""

from __future__ import annotations

import time

from shoal import _native, _runtime, _standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_tracker: Any = _standard.resource_tracker

__all__ = ["ensure_running", "register", "unregister"]

SHARED_MEMORY = "shared_memory"
LONGEST = 255  # bytes of a name
LOOK_EVERY = 1.0  # seconds: reading /proc each time would cost as much as making a small block

_looked_at = -LOOK_EVERY


class ResourceTracker(_tracker.ResourceTracker):  # type: ignore[misc]
    """Keeps account of resources by name and kind."""

    def register(self, name: str, rtype: str) -> None:
        """Have the resource taken away when the processes that use it have gone.

        Args:
            name: for shared memory, that of the block, with or without a slash in front. There need not be such a block yet.
            rtype: the kind of resource, ``"shared_memory"`` or one of the standard library's.

        Raises:
            ValueError: if the name is too long.
            OSError: if it cannot be a name.
        """
        if rtype != SHARED_MEMORY:
            super().register(name, rtype)
            return
        if len(bare(name).encode()) > LONGEST:
            raise ValueError(f"a name of shared memory has at most {LONGEST} bytes: {name[:40]!r}…")
        _native.name_track(bare(name))
        see_to_watcher()

    def unregister(self, name: str, rtype: str) -> None:
        """Take it back: the resource will stay, or has been taken away."""
        if rtype != SHARED_MEMORY:
            super().unregister(name, rtype)
            return
        _native.name_forget(bare(name))


def bare(name: str) -> str:
    """The name of the file in /dev/shm that belongs to a name of shared memory."""
    return name.lstrip("/")


def see_to_watcher() -> None:
    """Start the tree's watcher if it has none. It is looked after once a second at most."""
    global _looked_at
    now = time.monotonic()
    if now - _looked_at >= LOOK_EVERY:
        _runtime.answer_for_names()
        _looked_at = now


_resource_tracker = ResourceTracker()
# One tracker under two names: what was registered by the standard module is known here, and spawned children are told of the one process.
_resource_tracker.__dict__ = _tracker._resource_tracker.__dict__
ensure_running = _resource_tracker.ensure_running
register = own_register = _resource_tracker.register
unregister = _resource_tracker.unregister
getfd = _resource_tracker.getfd
main = _tracker.main


def cleanup_noop(name: str) -> None:
    """Stand for the way to take away a resource of the kind that tests use; there is none."""
    raise RuntimeError(f"{name!r} is of the kind 'noop', which is registered by tests only and never taken away")


def __getattr__(name: str) -> Any:
    return getattr(_tracker, name)
