"""How many processors this process may use: the least of what the machine has, the affinity mask allows, and the cgroup's quota pays for.

A quota of two and a half processors counts as three: what is begun is there to be used. An explicit ``-X cpu_count`` or ``PYTHON_CPU_COUNT``, new in Python 3.13,
wins over all of them, on every version.
"""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["usable_cpus"]

ROOT = Path("/sys/fs/cgroup")


def usable_cpus() -> int:
    """Count them; at least 1.

    Raises:
        NotImplementedError: if nothing tells.
    """
    told = _told()
    if told is not None:
        return told
    count = len(os.sched_getaffinity(0)) or os.cpu_count()
    if count is None:
        raise NotImplementedError("cannot determine number of cpus")
    quota = cgroup_quota()
    return count if quota is None else max(1, min(count, math.ceil(quota)))


def _told() -> int | None:
    """What the user has told the interpreter, on any version."""
    if getattr(sys.flags, "cpu_count", -1) > 0:
        return os.cpu_count()
    option = sys._xoptions.get("cpu_count") or (
        "" if sys.flags.ignore_environment else os.environ.get("PYTHON_CPU_COUNT", "")
    )
    return int(option) if isinstance(option, str) and option.isdecimal() and int(option) > 0 else None


def cgroup_quota(root: Path = ROOT, membership: Path = Path("/proc/self/cgroup")) -> float | None:
    """The processors that the CPU quotas of this process's cgroup and of those above it add up to at most; None if there is no limit."""
    try:
        lines = membership.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    quotas: list[float] = []
    for line in lines:
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not number.isdecimal():
            continue
        if not controllers:
            quotas += _along(root, path, _quota_v2)
        elif "cpu" in controllers.split(","):
            quotas += _along(root / "cpu", path, _quota_v1) or _along(root / controllers, path, _quota_v1)
    return min(quotas, default=None)


def _along(mount: Path, path: str, read: Callable[[Path], float | None]) -> list[float]:
    """Quotas from the group at `path` up to the mount; in a container the path may be that of the host, and only the mount is there."""
    inner = mount / path.strip("/")
    groups = [inner, *[parent for parent in inner.parents if parent.is_relative_to(mount)]]
    return [quota for group in groups if (quota := read(group)) is not None]


def _quota_v2(group: Path) -> float | None:
    try:
        quota, period = (group / "cpu.max").read_text(encoding="ascii").split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_v1(group: Path) -> float | None:
    try:
        quota, period = (
            int((group / name).read_text(encoding="ascii")) for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        )
        return quota / period if quota > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
