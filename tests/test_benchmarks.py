"""The benchmarks' runner works from end to end. What it measures is not judged here: speed belongs to ``make bench``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def run_benchmarks(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.limit(180)
@pytest.mark.parametrize(("options", "candidate"), [([], "shoal"), (["--noise"], "again")])
def test_the_lock_rows_are_measured_on_both_sides_and_written_as_json(tmp_path, options, candidate):
    file = tmp_path / "results" / "lock.json"

    done = run_benchmarks("--quick", "--only", "lock", "--json", str(file), *options)

    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(file.read_text(encoding="utf-8"))
    assert {"machine", "rounds", "quick", "backends", "rows"} <= document.keys()
    assert {"machine", "kernel", "compiler", "Python", "commit"} <= document["machine"].keys()
    assert document["backends"] == ["multiprocessing", candidate]
    assert [row["name"] for row in document["rows"]] == [
        "with lock",
        "lock acquire, release",
        "lock contended",
        "make and drop Lock",
    ]
    for row in document["rows"]:
        assert {"name", "work", "unit", "better", "target", "met", "results"} <= row.keys()
        standard, other = row["results"]["multiprocessing"], row["results"][candidate]
        assert standard["failed"] is None
        assert other["failed"] is None
        assert len(standard["values"]) == len(other["values"]) == document["rounds"] == 1
        assert standard["median"] > 0
        ahead = other["median"] / standard["median"]
        assert other["ratio"] == pytest.approx(ahead if row["better"] == "higher" else 1 / ahead)
        assert row["name"] in done.stdout


def test_a_pattern_that_no_row_matches_is_said_to_be_one():
    done = run_benchmarks("--only", "no such row")

    assert done.returncode == 2
    assert "no row matches 'no such row'" in done.stderr


def test_every_row_says_what_it_does():
    done = run_benchmarks("--list")

    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) >= 20
    assert all(len(line.split()) > 4 for line in lines)
