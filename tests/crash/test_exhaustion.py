"""Killed anywhere in an operation of the core, a process leaves the others nothing to wait for and nothing to lose.

A sample of what `make exhaust` does in full; what it proves is in `native/tests/exhaust/README.md`.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FAILING_SECONDS = 15
SECONDS = 60  # for the sample; on a busy machine somewhat more
LIMIT = 180
SKIPPED = 77  # the program's exit status when it cannot single-step here


def built() -> Path | None:
    """The program as `make test` names it, else the newest that `make dev` or `make test` has built."""
    if named := os.environ.get("SHOAL_EXHAUST_PROGRAM"):
        return Path(named)
    found = ROOT.glob("build/*/native/tests/shoal-exhaust")
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


@pytest.fixture(scope="module")
def program() -> Path:
    path = built()
    if path is None:
        pytest.skip("shoal-exhaust is not built: run `make dev` or `make test`")
    return path


def run(program: Path, *options: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([program, *options], stdout=subprocess.PIPE, text=True, timeout=LIMIT - 20, check=False)
    if done.returncode == SKIPPED:
        pytest.skip(done.stdout.strip())
    return done


@pytest.mark.limit(LIMIT)
def test_an_operation_killed_anywhere_hangs_nobody_and_leaks_nothing(program: Path) -> None:
    done = run(program, "--seconds", str(SECONDS))
    assert done.returncode == 0, done.stdout


@pytest.mark.limit(LIMIT)
def test_a_system_call_that_fails_is_an_error_or_none_and_leaves_nothing_locked(program: Path) -> None:
    done = run(program, "--fail", "--seconds", str(FAILING_SECONDS))
    assert done.returncode == 0, done.stdout


def test_a_point_can_be_killed_again(program: Path) -> None:
    done = run(program, "--operation", "lock.release", "--point", "1")
    assert done.returncode == 0, done.stdout
    assert "  1 after a store" in done.stdout


def test_operations_are_listed(program: Path) -> None:
    names = run(program, "--list").stdout.split()
    assert {"lock.acquire", "channel.put", "blob.allocate", "task.publish", "recovery.get"} <= set(names)
    assert run(program, "--operation", "nothing").returncode == 2
