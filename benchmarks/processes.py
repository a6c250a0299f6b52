"""Rows about ``Process``: what ``start()`` and ``join()`` of a child that does nothing cost, by each start method.

What is timed runs in a program of its own (``programs/``): for spawn and forkserver it matters what the main module is and
what it imports.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.backend import Backend, Feature
from benchmarks.row import Measurement, Target, row

if TYPE_CHECKING:
    from benchmarks.pace import Pace

PROGRAMS = Path(__file__).parent / "programs"


def _seconds_per_start(backend: Backend, program: str, method: str, starts: int) -> Measurement:
    """Run the program with this backend, and read the median that it prints."""
    command = [sys.executable, str(PROGRAMS / program), backend.module, method, str(starts)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return Measurement(float(done.stdout))


@row("start fork", unit="s", better="lower", needs=Feature.PROCESS, target=Target(ratio=1.3))
def start_fork(backend: Backend, pace: Pace) -> Measurement:
    """`start()` and `join()` by fork, in a small program."""
    return _seconds_per_start(backend, "start_plain.py", "fork", pace.choose(full=200, quick=3))


@row("start spawn", unit="s", better="lower", needs=Feature.PROCESS, target=Target(ratio=1))
def start_spawn(backend: Backend, pace: Pace) -> Measurement:
    """`start()` and `join()` by spawn, in a small program."""
    return _seconds_per_start(backend, "start_plain.py", "spawn", pace.choose(full=10, quick=1))


@row(
    "start forkserver, NumPy", unit="s", better="lower", needs=Feature.PROCESS, packages=("numpy",),
    target=Target(ratio=20),
)  # fmt: skip
def start_forkserver(backend: Backend, pace: Pace) -> Measurement:
    """`start()` and `join()` by forkserver, in a program whose main module imports NumPy; the server is up before the clock."""
    return _seconds_per_start(backend, "start_with_numpy.py", "forkserver", pace.choose(full=12, quick=1))
