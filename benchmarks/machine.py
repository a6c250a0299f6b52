"""What the figures were measured on: without it they mean nothing elsewhere."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.backend import Backend

ROOT = Path(__file__).resolve().parent.parent


def describe(backends: Sequence[Backend]) -> dict[str, str]:
    """The machine, the tools and the versions, by name, as a person would write them."""
    packages = [f"{backend.name} {backend.version()}" for backend in backends if backend.distribution]
    return {
        "machine": f"{len(os.sched_getaffinity(0))} cores, {_processor()}, {_memory()} of memory",
        "load before": f"{os.getloadavg()[0]:.2f}",
        "kernel": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "compiler": _first_line(os.environ.get("CXX", "c++"), "--version"),
        "Python": f"{platform.python_implementation()} {platform.python_version()}, {platform.python_compiler()}",
        "commit": _commit(),
        "packages": ", ".join(packages) or "none but the standard library",
    }


def _processor() -> str:
    """The processor's model, as the kernel names it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Processor", "CPU implementer"):
                return value.strip()
    return platform.processor() or "unknown processor"


def _memory() -> str:
    """The machine's memory, in GiB."""
    return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"


def _commit() -> str:
    """The commit of this checkout, and whether files differ from it."""
    commit = _first_line("git", "rev-parse", "--short=12", "HEAD")
    changed = _first_line("git", "status", "--porcelain") not in ("", "unknown")
    return f"{commit} with changes" if changed else commit


def _first_line(*command: str) -> str:
    """The first line that a command prints, run in the project's root; "unknown" if it cannot be run or fails."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.partition("\n")[0]
