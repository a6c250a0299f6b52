"""The interpreter's own tests of multiprocessing pass on shoal, but for those on the list; and the list, and what holds it, are shown to bite."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT))

from tests.compat import runs, verdict  # noqa: E402 - found by the line above

# Tests of the interpreter, three processes at a time: a minute and a half on two free cores.
LIMIT = 1800
SKIPPED = 77


@pytest.mark.limit(LIMIT)
@pytest.mark.parametrize("work", ["multiprocessing", "concurrent.futures"])
def test_the_interpreters_own_tests_pass_on_shoal(work, tmp_path):
    methods = ["concurrent.futures"] if work == "concurrent.futures" else ["fork", "spawn", "forkserver"]
    report = tmp_path / "report.json"
    line = [sys.executable, "-m", "tests.compat", "--json", str(report), "--method", *methods]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == SKIPPED:
        pytest.skip(done.stdout.splitlines()[-2])
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(report.read_text(encoding="utf-8"))["rows"]
    assert {row["method"] for row in rows} == set(methods)
    assert all(row.get("passed", 0) > 0 for row in rows if row["flavour"] != "threads")


# --- the list ------------------------------------------------------------------------------------------------------------

LIST = """
[[reason]]
kind = "internals"
why = "looks at a free list"
tests = ["Heap.test_free", "Heap.test_gone"]

[[reason]]
kind = "internals"
why = "is decided by timing"
tests = ["Wait.test_race"]
methods = ["spawn"]
versions = ["3.11"]
race = true

[[isolated]]
why = "-E"
tests = ["Flags.test_flags"]

[[leftover]]
what = "Dangling processes: .*QueueProcess"
why = "a server runs until the end"
tests = "^Manager"
versions = ["3.11"]
"""


@pytest.fixture
def lists(tmp_path: Path) -> verdict.Lists:
    path = tmp_path / "exclusions.toml"
    path.write_text(LIST, encoding="utf-8")
    return verdict.Lists.read(path)


def judged(lists: verdict.Lists, method: str, *outcomes: tuple[str, str]) -> tuple[dict[str, int], list[str]]:
    found = verdict.judge("3.11", method, [runs.Outcome(test, outcome) for test, outcome in outcomes], lists)
    (row,) = found.rows.values()
    return dict(row.counts), [headline for headline, _ in found.complaints]


def test_a_failure_is_complained_of(lists):
    assert judged(lists, "fork", ("Pool.test_map", "failed")) == ({"failed": 1}, ["Pool.test_map (3.11, fork)"])


def test_an_excluded_test_may_fail_or_be_skipped(lists):
    assert judged(lists, "fork", ("Heap.test_free", "failed")) == ({"excluded": 1}, [])
    assert judged(lists, "fork", ("Heap.test_free", "skipped")) == ({"skipped": 1}, [])


def test_an_excluded_test_that_passes_is_complained_of(lists):
    counts, (complaint,) = judged(lists, "fork", ("Heap.test_free", "passed"))
    assert counts == {"excluded": 1}
    assert "take it off the list" in complaint


def test_what_timing_decides_may_pass_where_it_is_excluded_and_must_pass_elsewhere(lists):
    assert judged(lists, "spawn", ("Wait.test_race", "passed")) == ({"excluded": 1}, [])
    assert judged(lists, "fork", ("Wait.test_race", "failed"))[1] == ["Wait.test_race (3.11, fork)"]


def test_a_test_that_no_interpreter_has_is_complained_of(lists):
    (complaint,) = lists.nowhere({"Heap.test_free", "Wait.test_race", "Flags.test_flags"})
    assert complaint.startswith("Heap.test_gone")


@pytest.mark.parametrize(
    ("version", "test", "text", "complaints"),
    [
        ("3.11", "Manager.test_a", "Dangling processes: {<QueueProcess>}", 0),
        ("3.11", "Manager.test_a", "Dangling threads: {<Thread>}", 1),
        ("3.11", "Pool.test_a", "Dangling processes: {<QueueProcess>}", 1),
        ("3.12", "Manager.test_a", "Dangling processes: {<QueueProcess>}", 1),
    ],
)
def test_what_is_left_over_is_complained_of_unless_it_is_known(lists, version, test, text, complaints):
    assert len(verdict.unexplained(version, "fork", [(test, text)], lists)) == complaints


@pytest.mark.parametrize("line", ['kind = "annoying"', 'kind = "internals"\nmethod = ["fork"]'])
def test_a_list_that_says_something_else_is_refused(line, tmp_path):
    path = tmp_path / "exclusions.toml"
    path.write_text(f'[[reason]]\nwhy = "x"\ntests = ["T.t"]\n{line}\n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"exclusions\.toml"):
        verdict.Lists.read(path)


# --- the processes -------------------------------------------------------------------------------------------------------

PROGRAM = """
import json, os, sys, time
pipe = int(os.environ["COMPAT_REPORT"])
def tell(**what):
    os.write(pipe, json.dumps(what).encode() + b"\\n")
for test in open(sys.argv[2]).read().split():
    tell(event="begun", test=test)
    if "hangs" in test:
        os.fork() or time.sleep(1000)
        time.sleep(1000)
    if "dies" in test:
        os._exit(3)
    tell(event="ended", test=test, outcome="passed", text="", seconds=0)
    if "leaves" in test:
        tell(event="left", test=test, text="Dangling threads: {<Thread>}")
tell(event="done")
"""


def test_a_test_that_hangs_or_dies_costs_itself_only(tmp_path, monkeypatch):
    program = tmp_path / "suite.py"
    program.write_text(PROGRAM, encoding="utf-8")
    monkeypatch.setattr(runs, "SUITE", program)
    interpreter = runs.Interpreter(sys.executable)
    tests = ["T.a", "T.hangs", "T.b", "T.dies", "T.leaves", "T.c"]
    done = runs.run(interpreter, "fork", tests, patience=5.0, plain=True)
    outcomes = {name: one.outcome for process in done for name, one in process.outcomes.items()}
    assert outcomes == {
        "T.a": "passed",
        "T.hangs": "failed",
        "T.b": "passed",
        "T.dies": "failed",
        "T.leaves": "passed",
        "T.c": "passed",
    }
    assert done[2].leftovers == [("T.leaves", "Dangling threads: {<Thread>}")]
    assert "nothing happened for 5 s" in done[0].outcomes["T.hangs"].text
    assert "status 3" in done[1].outcomes["T.dies"].text
