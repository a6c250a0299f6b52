"""The command line: ``python -m benchmarks``."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from benchmarks import machine, report, runner
from benchmarks.backend import BACKENDS, RIVALS, Backend
from benchmarks.row import Row, all_rows


def main(arguments: list[str] | None = None) -> int:
    """Run what the arguments ask for; 0 if every measurement of the standard library and of shoal came to an end."""
    options = _parser().parse_args(arguments)
    rows = _chosen(options.only)
    if options.list:
        for row in rows:
            print(f"{row.name:28} {row.work}")
        return 0
    if not rows:
        print(f"no row matches {' or '.join(map(repr, options.only))}; --list shows them all", file=sys.stderr)
        return 2
    backends = [BACKENDS["multiprocessing"], BACKENDS["again" if options.noise else "shoal"]]
    if reason := backends[1].missing():
        print(f"{reason}: `make bench` builds and installs it first", file=sys.stderr)
        return 2
    if options.rivals:
        backends += [BACKENDS[name] for name in RIVALS]
    return _run(rows, backends, options)


def _run(rows: list[Row], backends: list[Backend], options: argparse.Namespace) -> int:
    """Measure, print the table, write the JSON."""
    rounds = options.rounds or (1 if options.quick else runner.ROUNDS)
    header = machine.describe(backends)
    results = runner.run(rows, backends, rounds=rounds, quick=options.quick)
    document = report.document(header, results, backends, rounds=rounds, quick=options.quick)
    report.print_table(document)
    if options.json is not None:
        report.write_json(document, options.json)
    main_pair = {backend.name for backend in backends[:2]}
    failed = any(result.outcomes[name].failed for result in results for name in main_pair)
    return 1 if failed else 0


def _chosen(patterns: list[str]) -> list[Row]:
    """The rows whose name any of the patterns matches; all of them without a pattern."""
    searches = [re.compile(pattern, re.IGNORECASE) for pattern in patterns]
    return [row for row in all_rows() if not searches or any(search.search(row.name) for search in searches)]


def _positive(text: str) -> int:
    """An integer above zero, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {value}")
    return value


def _pattern(text: str) -> str:
    """A regular expression, for argparse."""
    try:
        re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a regular expression: {error}") from None
    return text


def _parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="shoal beside multiprocessing, in turn")
    parser.add_argument(
        "--only", action="append", default=[], type=_pattern, metavar="PATTERN",
        help="rows whose name matches this regular expression; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--rounds", type=_positive, metavar="N", help=f"measurements per row and backend (default {runner.ROUNDS})"
    )
    parser.add_argument("--rivals", action="store_true", help=f"also measure {', '.join(RIVALS)}, where installed")
    parser.add_argument(
        "--noise", action="store_true", help="the standard library on both sides: how far from 1 is chance"
    )
    parser.add_argument(
        "--quick", action="store_true", help="does everything run? One short round; figures mean nothing"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results to FILE")
    parser.add_argument("--list", action="store_true", help="name the rows and leave")
    return parser


if __name__ == "__main__":
    sys.exit(main())
