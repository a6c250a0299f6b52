"""The command line: ``python -m tests.compat``.

Runs the interpreter's own tests of multiprocessing and of ``concurrent.futures`` on shoal, and prints a table. Interpreters are named by ``--python`` (the one
that runs this unless told), each with shoal installed; start methods run side by side, in processes of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

from tests.compat import runs
from tests.compat.verdict import FLAVOURS, Lists, Row, Verdict, flavour_of, judge, table, unexplained

EXECUTORS = "concurrent.futures"
METHODS = ("fork", "spawn", "forkserver")
ALL_VERSIONS = {"3.11", "3.12", "3.13"}
SKIPPED = 77  # the exit status when no interpreter had anything to run
PATIENCE_EXCLUDED = 30.0  # seconds for a test that is expected to fail, perhaps by hanging


def main(arguments: list[str] | None = None) -> int:
    """Run what the arguments ask for; 0 if all is as it should be, 77 if there was nothing to run."""
    options = _parser().parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _give_up)
    lists = Lists.read()
    interpreters = [runs.Interpreter(path) for path in options.python or [sys.executable]]
    jobs = [(interpreter, work) for interpreter in interpreters for work in options.method]
    with ThreadPoolExecutor(options.jobs) as side_by_side:
        done = list(side_by_side.map(lambda job: _one(*job, options, lists), jobs))
    verdicts = [verdict for verdict, _, _ in done if verdict is not None]
    existing = set().union(*(tests for _, tests, _ in done))
    complaints = [complaint for verdict in verdicts for complaint in verdict.complaints]
    if {one.version for one in interpreters} >= ALL_VERSIONS and set(METHODS) <= set(options.method):
        complaints += [(headline, "") for headline in lists.nowhere(existing)]
    _print(interpreters, verdicts, complaints, list(dict.fromkeys(note for _, _, note in done if note)))
    if options.json is not None:
        _write(options.json, verdicts, complaints)
    if complaints:
        return 1
    return 0 if verdicts else SKIPPED


def _give_up(number: int, _frame: object) -> None:
    """Leave nothing running."""
    runs.end_all()
    os._exit(128 + number)


def _one(
    interpreter: runs.Interpreter, work: str, options: argparse.Namespace, lists: Lists
) -> tuple[Verdict | None, set[str], str]:
    """Run one start method, or the executors, in one interpreter: the verdict, the tests that there are, and a remark."""
    version = interpreter.version
    try:
        existing = runs.existing(interpreter, work)
    except runs.NoTestsError:
        return None, set(), _missing(version, work)
    wanted = [
        test
        for test in existing
        if flavour_of(test) in options.flavour and re.search(options.match, test) and _concerns_processes(test, work)
    ]
    excluded = lists.excluded(version, work)
    processes = runs.run(interpreter, work, [test for test in wanted if test not in excluded])
    apart = [test for test in wanted if test in excluded]
    outcomes = list(chain.from_iterable(process.outcomes.values() for process in processes))
    for process in runs.run(interpreter, work, apart, patience=PATIENCE_EXCLUDED):
        outcomes += process.outcomes.values()
    if options.logs is not None:
        options.logs.mkdir(parents=True, exist_ok=True)
        text = "\n".join(process.log for process in processes)
        (options.logs / f"{version}-{work}.log").write_text(text, encoding="utf-8")
    verdict = judge(version, work, outcomes, lists, tuple(options.flavour))
    # What the tests' own books say is left over: a stopped thread or process to which something still refers, an object in a manager.
    leftovers = [left for process in processes for left in process.leftovers]
    verdict.complaints += unexplained(version, work, leftovers, lists)
    return verdict, set(existing), ""


def _concerns_processes(test: str, work: str) -> bool:
    """Of the tests of executors, those of thread pools are not about shoal."""
    return work != EXECUTORS or "ProcessPool" in test


def _missing(version: str, work: str) -> str:
    if work == EXECUTORS:
        return f"Python {version} comes without test.test_concurrent_futures: not run"
    return (
        f"Python {version} comes without test._test_multiprocessing: not run "
        f"(on Debian and Ubuntu the package libpython{version}-testsuite has it)"
    )


def _print(
    interpreters: list[runs.Interpreter],
    verdicts: list[Verdict],
    complaints: list[tuple[str, str]],
    notes: list[str],
) -> None:
    for headline, text in complaints:
        print(f"== {headline}\n{text.rstrip()}\n")
    rows: list[Row] = [row for verdict in verdicts for row in verdict.rows.values()]
    if rows:
        print(table(rows))
        isolated = sum(row.counts["isolated"] for row in rows)
        if isolated:
            print(f"{isolated} of the passed start interpreters with -E and say nothing about shoal.")
    for one in interpreters:
        print(f"Python {one.version}: managers are {'shoal' if one.managers == 'shoal' else 'the standard library'}'s.")
    for note in notes:
        print(note)
    print(
        f"{len(complaints)} complaint{'' if len(complaints) == 1 else 's'}."
        if complaints
        else "Nothing to complain of."
    )


def _write(path: Path, verdicts: list[Verdict], complaints: list[tuple[str, str]]) -> None:
    rows = [
        {"version": row.version, "method": row.method, "flavour": row.flavour, **row.counts}
        for verdict in verdicts
        for row in verdict.rows.values()
    ]
    document = {"rows": rows, "complaints": [{"what": what, "text": text} for what, text in complaints]}
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.compat", description=__doc__)
    parser.add_argument("--python", action="append", metavar="PATH", help="an interpreter with shoal (repeatable)")
    everything = (*METHODS, EXECUTORS)
    parser.add_argument("--method", nargs="+", choices=everything, default=everything, help="what to run")
    parser.add_argument("--flavour", nargs="+", choices=FLAVOURS, default=FLAVOURS, help="flavours to run")
    parser.add_argument("--match", default="", metavar="PATTERN", help="only tests whose Class.name this matches")
    jobs = (os.cpu_count() or 1) + 1  # many tests wait for a clock
    parser.add_argument("--jobs", type=int, default=jobs, help="how many run side by side (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table there as well")
    parser.add_argument("--logs", type=Path, metavar="DIRECTORY", help="write what the tests print there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
