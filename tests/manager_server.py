"""A manager's server, as seen from outside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["threads_of"]


def threads_of(manager: Any) -> int:
    """How many threads the server has."""
    return len(list(Path(f"/proc/{manager._process.pid}/task").iterdir()))
