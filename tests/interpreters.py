"""The other CPythons of this machine, for tests of what goes between versions.

Looked for by name on PATH, and where pyenv keeps its versions. One that does not run, or lacks a standard module, is not found.
"""

from __future__ import annotations

import functools
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

VERSIONS = ("3.11", "3.12", "3.13", "3.14")
PROBE = "import multiprocessing.connection, multiprocessing.managers, ssl, sys; print('%d.%d' % sys.version_info[:2])"


def running() -> str:
    return ".".join(platform.python_version_tuple()[:2])


def candidates(version: str) -> list[str]:
    name = f"python{version}"
    found = [sys.executable] if version == running() else []
    if on_path := shutil.which(name):
        found.append(on_path)
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found += [str(path) for path in sorted(root.glob(f"versions/{version}*/bin/{name}"), reverse=True)]
    return found


@functools.cache
def interpreter(version: str) -> str | None:
    """An interpreter of that version (``3.12``), or None."""
    for candidate in candidates(version):
        try:
            done = subprocess.run(
                [candidate, "-I", "-c", PROBE], capture_output=True, text=True, timeout=30, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.stdout.strip() == version:
            return candidate
    return None
