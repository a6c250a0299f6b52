"""``cpu_count``: what a process may use by affinity and by its cgroup's quota, unless the user has told the interpreter otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import shoal
from shoal._runtime import cpus

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECONDS = 30.0
MANY = 64

# Files of a cgroup mount by path, what /proc/self/cgroup says, and how many processors that makes.
GROUPS: dict[str, tuple[dict[str, str], str, float | None]] = {
    "no limit": ({"job/cpu.max": "max 100000"}, "0::/job", None),
    "a whole number": ({"job/cpu.max": "200000 100000"}, "0::/job", 2),
    "a fraction": ({"job/cpu.max": "150000 100000"}, "0::/job", 1.5),
    "the least from here to the top": (
        {
            "a/cpu.max": "300000 100000",
            "a/b/cpu.max": "100000 50000",
            "a/b/c/cpu.max": "max 100000",
            "x/cpu.max": "1 100000",
        },
        "0::/a/b/c",
        2,
    ),
    "a container that is told the host's path": ({"cpu.max": "400000 100000"}, "0::/docker/0123456789", 4),
    "version 1": (
        {"cpu/job/cpu.cfs_quota_us": "250000", "cpu/job/cpu.cfs_period_us": "100000"},
        "4:memory:/job\n3:cpu,cpuacct:/job\n1:name=systemd:/job",
        2.5,
    ),
    "version 1, mounted under both names": (
        {"cpu,cpuacct/cpu.cfs_quota_us": "100000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
        "3:cpu,cpuacct:/docker/0123456789",
        1,
    ),
    "version 1 without a limit": (
        {"cpu/job/cpu.cfs_quota_us": "-1", "cpu/job/cpu.cfs_period_us": "100000"},
        "3:cpu,cpuacct:/job",
        None,
    ),
    "both versions": (
        {"cpu.max": "300000 100000", "cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"},
        "3:cpu:/\n0::/",
        2,
    ),
    "what cannot be read": ({"job/cpu.max": "no numbers", "cpu.max": "1 0"}, "0::/job", None),
    "lines of another make": ({"cpu.max": "100000 100000"}, "what is this\n\n0::/", 1),
    "nothing mounted": ({}, "0::/job", None),
}


@pytest.fixture
def mount(tmp_path: Path) -> Callable[[dict[str, str], str], dict[str, Path]]:
    """Make a cgroup mount and a membership; returns where they are, by the names of `cgroup_quota`'s parameters."""

    def make(files: dict[str, str], membership: str) -> dict[str, Path]:
        root = tmp_path / "cgroup"
        root.mkdir()
        for path, text in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(f"{text}\n")
        (tmp_path / "membership").write_text(f"{membership}\n")
        return {"root": root, "membership": tmp_path / "membership"}

    return make


@pytest.mark.parametrize("case", GROUPS)
def test_a_cgroups_quota_is_found(case: str, mount: Callable[..., dict[str, Path]]):
    files, membership, quota = GROUPS[case]
    assert cpus.cgroup_quota(**mount(files, membership)) == quota


def test_without_cgroups_there_is_no_quota(tmp_path: Path):
    assert cpus.cgroup_quota(root=tmp_path, membership=tmp_path / "not-there") is None


@pytest.mark.parametrize(("quota", "count"), [(None, 8), (100, 8), (8, 8), (2.5, 3), (2, 2), (0.3, 1)])
def test_the_least_of_affinity_and_quota_counts_a_begun_processor_as_one(
    quota: float | None, count: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(cpus, "_told", lambda: None)
    monkeypatch.setattr(cpus, "cgroup_quota", lambda: quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert cpus.usable_cpus() == shoal.cpu_count() == shoal.get_context("spawn").cpu_count() == count
    monkeypatch.setattr(cpus, "_told", lambda: MANY)
    assert shoal.cpu_count() == MANY


def counted(*options: str, program: str = "import shoal; print(shoal.cpu_count())", **more: str) -> int:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHON_CPU_COUNT"} | more
    line = [sys.executable, *options, "-c", program]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return int(done.stdout)


def test_what_the_user_has_told_the_interpreter_wins_on_every_version():
    here = counted()
    assert counted("-X", f"cpu_count={MANY}") == MANY
    assert counted(PYTHON_CPU_COUNT=str(MANY)) == MANY
    assert counted("-X", "cpu_count=3", PYTHON_CPU_COUNT=str(MANY)) == 3
    assert counted("-X", "cpu_count=default", PYTHON_CPU_COUNT=str(MANY)) == here
    assert counted(PYTHON_CPU_COUNT="default") == here
    assert counted("-E", PYTHON_CPU_COUNT=str(MANY)) == here


def test_affinity_is_asked_for_each_time():
    one = "import os, shoal\nshoal.cpu_count()\nos.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\nprint(shoal.cpu_count())"
    assert counted(program=one) == 1


def test_a_pool_has_as_many_workers_as_there_are_processors_to_use(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cpus, "_told", lambda: 3)
    with shoal.get_context("fork").Pool() as pool:
        workers: list[Any] = pool._pool
        assert len(workers) == 3
