"""Whether this is still the process that has claimed a task. A task may fork, and the child may come back from it into the worker's loop.

That child is no worker: the task's outcome is its parent's, who has claimed it. So whoever runs a task compares `forks` before and after, and where it differs publishes nothing: what
the task has raised in the child is raised on, and ends the child as it ends any process; what it has returned is dropped, and the child ends. (Chunks of processes are run by the core,
which has a counter of its own.)
"""

from __future__ import annotations

import os
import sys
from threading import get_ident
from typing import TYPE_CHECKING, Any

from shoal import _runtime, _standard

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["disown_children", "forks", "under_way"]

forks = 0  # that lie between the process which has imported this and the present one

# What is left of a chunk that is run in C, by the thread that runs it. It must have `__setstate__`, as the builtin sequences' iterators have.
under_way: dict[int, Iterator[Any]] = {}


def disown_children() -> None:
    """In a forked child that ends as a process does: it must not end the children of its parent."""
    state: Any = _standard.process
    children = state._children
    children.difference_update([child for child in children if child._parent_pid != os.getpid()])


def _in_forked_child() -> None:
    global forks
    forks += 1
    if under_way:
        items: Any = under_way.pop(get_ident(), None)
        under_way.clear()
        if items is not None:  # the other items are the parent's
            items.__setstate__(sys.maxsize)


_runtime.in_forked_child(_in_forked_child)
