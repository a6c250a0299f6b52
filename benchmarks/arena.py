"""What shoal's native core says about itself, for the rows that look inside; nothing where shoal is not what is measured."""

from __future__ import annotations

import sys
from typing import Any


def _native() -> Any:
    """The native module, if this interpreter has loaded it."""
    return sys.modules.get("shoal._native")


def statistics() -> dict[str, int]:
    """What is in use in the arena, by name; empty without shoal."""
    native = _native()
    return {} if native is None else dict(native.arena_statistics())


def watcher() -> int | None:
    """The process id of the tree's watcher, if there is one."""
    native = _native()
    return (native.watcher_pid() or None) if native is not None else None
