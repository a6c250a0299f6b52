"""`shoal demo`: a comparison when all went well, and a failure shown as one when anything did not."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from shoal.cli import compare, demo, measure

SECONDS = 120
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")

GOOD = """
import json, multiprocessing, pathlib, sys
LIBRARY = multiprocessing.Process.__module__.partition(".")[0]
def report(result, pool_result, libraries=(LIBRARY,)):
    runs = {"alone": {"seconds": 2.0, "result": result, "libraries": [LIBRARY]},
            "pool": {"seconds": 1.0, "result": pool_result, "libraries": list(libraries)}}
    pathlib.Path(sys.argv[sys.argv.index("--report") + 1]).write_text(json.dumps({"runs": runs, "facts": {}}))
"""

# What a program may do wrong on shoal, and what the demo must say of it.
FAILURES = {
    "raises": ("raise ValueError('a reason')", "ValueError: a reason (exit status 1)"),
    "exits": ("sys.exit(3)", "exit status 3"),
    "is_killed": ("import os; os.kill(os.getpid(), 9)", "killed by SIGKILL"),
    "says_nothing": ("pass", "no readable report"),
    "writes_rubbish": ("pathlib.Path(sys.argv[-1]).write_text('rubbish')", "no readable report"),
    "hangs": ("import time; time.sleep(600)", "killed after 5 s"),
    "wrong_result": ("report(1, 2)", "the result differs"),
    "other_result": ("report(3, 3)", "the result differs"),
    "other_library": ("report(1, 1, ['multiprocessing'])", "ran on multiprocessing instead of shoal"),
}


def program(place: Path, on_shoal: str) -> measure.Part:
    """A program of the demo that is right on the standard library, and on shoal does as it is told."""
    file = place / "program.py"
    file.write_text(GOOD + f"if LIBRARY == 'shoal':\n    {on_shoal}\nelse:\n    report(1, 1)\n")
    return measure.Part("a program", file, (), {"alone": "one after the other", "pool": "with a pool"})


def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run `shoal` without a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "shoal", *arguments],
        env=dict(os.environ) | more,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def show(part: measure.Part) -> subprocess.CompletedProcess[str]:
    """Run the demo in a fresh interpreter, with one program of our own."""
    code = f"""
        import sys
        from pathlib import PosixPath
        from shoal.cli import demo, measure
        measure.LIMIT_SECONDS = 5
        sys.exit(demo.demo(work=[measure.{part!r}]))
    """
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=SECONDS, check=False
    )


@pytest.mark.limit(SECONDS)
def test_the_demo_compares_and_succeeds_without_a_terminal() -> None:
    done = run("demo", "--quick")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not CONTROL.search(done.stdout + done.stderr)
    assert len(done.stderr.splitlines()) < 30
    assert max(map(len, done.stdout.splitlines())) <= 80
    for words in ("two Processes", "Pool(2).map", "imap_unordered", "ratio", "196,418", "ran unchanged"):
        assert words in done.stdout
    assert "failed" not in done.stdout.lower()


@pytest.mark.limit(SECONDS)
def test_its_json_says_the_same_to_programs() -> None:
    done = run("demo", "--quick", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["ok"]
    fib, names = found["parts"]
    assert [row["work"] for row in fib["rows"]] == ["one after the other", "two Processes", "Pool(2).map"]
    for row in fib["rows"][1:] + names["rows"][1:]:
        assert row["ratio"] == pytest.approx(row["standard_seconds"] / row["shoal_seconds"])
    assert names["facts"]["result"]["files"] == 150
    assert not fib["errors"]
    assert not names["errors"]


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.limit(SECONDS)
def test_a_failing_part_is_shown_as_failed(tmp_path: Path, failure: str) -> None:
    does, says = FAILURES[failure]
    done = show(program(tmp_path, does))
    assert done.returncode == 1, done.stdout + done.stderr
    words = " ".join(done.stdout.split())
    assert "a program, on shoal: FAILED" in words
    assert says in words
    assert "1 of 1 programs failed" in words
    assert "ran unchanged" not in words
    assert not CONTROL.search(done.stdout)


def test_a_good_program_is_shown_with_its_ratio(tmp_path: Path) -> None:
    done = show(program(tmp_path, "report(1, 1)"))
    assert done.returncode == 0, done.stdout + done.stderr
    row = next(line for line in done.stdout.splitlines() if "with a pool" in line)
    assert row.split() == ["with", "a", "pool", "1.00", "s", "2.00", "x", "1.00", "s", "2.00", "x", "1.00", "x"]


def test_both_sides_can_fail() -> None:
    part = measure.Part("a program", Path("x"), (), {"alone": "alone", "pool": "pool"})
    result = compare.compare(part, measure.Outcome(error="one"), measure.Outcome(error="two"))
    assert result.errors == {measure.STANDARD: "one", measure.SHOAL: "two"}
    assert [(row.standard_seconds, row.shoal_seconds, row.ratio) for row in result.rows] == [(None, None, None)] * 2


def test_colours_are_for_terminals(tmp_path: Path) -> None:
    part = program(tmp_path, "sys.exit('a reason')")
    code = f"import sys; from pathlib import PosixPath; from shoal.cli import demo, measure; sys.exit(demo.demo(work=[measure.{part!r}]))"
    ours, theirs = pty.openpty()
    environment = {key: value for key, value in os.environ.items() if key not in {"NO_COLOR", "FORCE_COLOR"}} | {
        "TERM": "xterm"
    }
    child = subprocess.Popen([sys.executable, "-c", code], env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = b""
    try:
        while chunk := os.read(ours, 65536):
            seen += chunk
    except OSError:  # a terminal whose other side is closed
        pass
    os.close(ours)
    assert child.wait(SECONDS) == 1
    assert b"\x1b[1;31m" in seen
    assert b"a reason (exit status 1)" in seen


def test_every_file_of_the_standard_library_is_listed_once_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(demo.PROGRAMS))
    names = __import__("names")
    files = names.files(None)
    assert len(files) == len(set(files)) > 500
    assert any(file.endswith("/tokenize.py") for file in files)
    assert not any("-packages" in file for file in files)


def test_a_file_that_cannot_be_tokenized_counts_as_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(demo.PROGRAMS))
    names = __import__("names")
    contents = {
        "good": b"x = y + y\n",
        "open": b"x = (\n",
        "latin": b"# \xe9\n",
        "codec": b"# coding: nowhere\n",
        "dedent": b"if x:\n    y\n  z\n",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    total = names.total(names.examine(str(tmp_path / name)) for name in contents)["result"]
    assert (total["files"], total["not_tokenized"], total["names"], total["different_names"]) == (5, 4, 3, 2)
    assert (total["commonest"], total["commonest_times"]) == ("y", 2)
