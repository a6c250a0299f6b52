"""How much processor time this process and all that descend from it have taken, to the microsecond where the kernel tells it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

PROC = Path("/proc")


def of_tree(also: int | None = None, *, own: bool = True) -> float:
    """Seconds taken so far by this process (unless ``own`` is false), its descendants, and the process ``also`` with its descendants.

    Processes that have ended count for nothing; of those that run, every thread counts.
    """
    parents = _parents()
    wanted = {os.getpid()} | ({also} if also is not None else set())
    found: set[int] = set()
    while wanted - found:
        found |= wanted
        wanted = {pid for pid, parent in parents.items() if parent in found}
    return sum(map(_of_process, found if own else found - {os.getpid()}))


def _parents() -> dict[int, int]:
    """For every process its parent's id."""
    parents = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                # The name, in brackets, may hold anything; the state and the parent's id follow it.
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    return parents


def _of_process(pid: int) -> float:
    """Seconds taken by the threads of one process; 0 if it has gone."""
    try:
        threads = list((PROC / str(pid) / "task").iterdir())
    except OSError:
        return 0.0
    return sum(map(_of_thread, threads))


def _of_thread(thread: Path) -> float:
    """Seconds taken by one thread: ``schedstat`` counts nanoseconds, ``stat`` (for kernels without it) clock ticks."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int((thread / "schedstat").read_text().split()[0]) / 1e9
    with contextlib.suppress(OSError):
        fields = (thread / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0
