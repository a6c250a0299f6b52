"""The results as a table and as JSON; both are made from one document of plain dicts and lists."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.backend import Backend
    from benchmarks.runner import Outcome, Result

Document = dict[str, Any]

_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))


def document(
    header: dict[str, str], results: Sequence[Result], backends: Sequence[Backend], *, rounds: int, quick: bool
) -> Document:
    """Everything that was found, ready for JSON.

    Returns:
        ``machine`` (see ``benchmarks.machine``), ``rounds``, ``quick``, ``backends`` (names; the first is what the others
        are compared with), and ``rows``: each with ``name``, ``work``, ``unit``, ``better``, ``target``, ``met`` (None
        without a target or a result, or where the second backend is not shoal) and ``results``, by backend: ``median``,
        ``values``, ``ratio``, ``ratios``, ``extras``, ``skipped``, ``failed``.
    """
    return {
        "machine": header,
        "rounds": rounds,
        "quick": quick,
        "backends": [backend.name for backend in backends],
        "rows": [_row(result, candidate=backends[1].name) for result in results],
    }


def _row(result: Result, *, candidate: str) -> Document:
    """One row of the document."""
    row, outcome = result.row, result.outcomes[candidate]
    met = None
    if candidate == "shoal" and row.target is not None and outcome.median is not None and not outcome.failed:
        met = row.target.met(outcome.ratio, outcome.median, outcome.extras)
    return {
        "name": row.name,
        "work": row.work,
        "unit": row.unit,
        "better": row.better,
        "target": dataclasses.asdict(row.target) if row.target else None,
        "met": met,
        "results": {name: _outcome(outcome) for name, outcome in result.outcomes.items()},
    }


def _outcome(outcome: Outcome) -> Document:
    """One backend's part of a row."""
    return {"median": outcome.median, "ratio": outcome.ratio, **dataclasses.asdict(outcome)}


def write_json(document: Document, path: Path) -> None:
    """Write the document to a file, its directory made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def print_table(document: Document) -> None:
    """The machine, the table, and the notes, to the standard output; with rich if it is installed."""
    for name, value in document["machine"].items():
        print(f"{name + ':':13}{value}")
    print(f"{'rounds:':13}{document['rounds']}{', quick: the figures mean nothing' if document['quick'] else ''}\n")
    standard, candidate, *rivals = document["backends"]
    heading = ["row", standard, candidate, "ratio", "range", "target", "", *rivals]
    lines = [_cells(row, standard, candidate, rivals) for row in document["rows"]]
    try:
        _print_rich(heading, lines)
    except ImportError:
        _print_plain(heading, lines)
    for note in _notes(document):
        print(note)


def _cells(row: Document, standard: str, candidate: str, rivals: Sequence[str]) -> list[str]:
    """What a row's line of the table says."""
    results = row["results"]
    verdict = {None: "", True: "met", False: "missed"}[row["met"]]
    return [
        row["name"],
        _figure(results[standard], row["unit"]),
        _figure(results[candidate], row["unit"]),
        _ratio(results[candidate]),
        _range(results[candidate]),
        _target(row),
        verdict,
        *(_ratio(results[rival]) for rival in rivals),
    ]


def _figure(outcome: Document, unit: str) -> str:
    """A backend's median, or why there is none, in a word."""
    if outcome["failed"]:
        return "failed"
    return "skipped" if outcome["median"] is None else scaled(outcome["median"], unit)


def _ratio(outcome: Document) -> str:
    """A backend's ratio to the standard library, or why there is none, in a word."""
    if outcome["failed"]:
        return "failed"
    return "-" if outcome["ratio"] is None else f"{outcome['ratio']:.2f}x"


def _range(outcome: Document) -> str:
    """The smallest and the largest of the rounds' ratios: how much to trust their median."""
    ratios = outcome["ratios"]
    return f"{min(ratios):.2f}-{max(ratios):.2f}" if len(ratios) > 1 else ""


def _target(row: Document) -> str:
    """What is to be reached."""
    target = row["target"] or {}
    words = []
    if target.get("ratio") is not None:
        words.append(f"{target['ratio']:g}x")
    if target.get("at_least") is not None:
        words.append(f"≥ {scaled(target['at_least'], row['unit'])}")
    if target.get("at_most") is not None:
        words.append(f"≤ {scaled(target['at_most'], row['unit'])}")
    if target.get("no_growth"):
        words.append("no growth")
    return ", ".join(words)


def scaled(value: float, unit: str) -> str:
    """A value to three digits; seconds and rates with a fitting prefix (213 ns, 1.50 M items/s), other units as they are."""
    if unit != "s" and not unit.endswith("/s"):
        return f"{value:.3g} {unit}"
    size, prefix = next(((size, prefix) for size, prefix in _PREFIXES if abs(value) >= size), _PREFIXES[-1])
    digits = f"{value / size:#.3g}".rstrip(".")
    return f"{digits} {prefix}{unit}" if unit in ("s", "B/s") else " ".join(filter(None, (digits, prefix, unit)))


def _notes(document: Document) -> list[str]:
    """Extras and failures, a line each; skips, a line for each reason."""
    notes: list[str] = []
    skipped: dict[str, list[str]] = {}
    for row in document["rows"]:
        for name, outcome in row["results"].items():
            extras = ", ".join(f"{extra} {_number(value)}" for extra, value in outcome["extras"].items())
            notes += [f"{row['name']}, {name}: {extras}"] if extras else []
            notes += [f"{row['name']}, {name}: failed: {outcome['failed']}"] if outcome["failed"] else []
            if outcome["skipped"]:
                skipped.setdefault(f"{name}, skipped: {outcome['skipped']}", []).append(row["name"])
    notes += [f"{reason}: {'; '.join(names)}" for reason, names in skipped.items()]
    return ["", *notes] if notes else []


def _number(value: float) -> str:
    """A count as it is, anything else to three digits."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.3g}"


def _print_plain(heading: list[str], lines: list[list[str]]) -> None:
    """Columns with spaces between them."""
    widths = [max(len(line[column]) for line in [heading, *lines]) for column in range(len(heading))]
    for first, *others in [heading, ["-" * width for width in widths], *lines]:
        cells = [text.rjust(width) for text, width in zip(others, widths[1:], strict=True)]
        print("  ".join([first.ljust(widths[0]), *cells]).rstrip())


def _print_rich(heading: list[str], lines: list[list[str]]) -> None:
    """The same, by rich; wide enough for every column where the output is not a terminal."""
    from rich.console import Console  # noqa: PLC0415  (optional)
    from rich.table import Table  # noqa: PLC0415  (optional)

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 40 + 20 * len(heading)
    table = Table(box=None, padding=(0, 2, 0, 0))
    colours = {"met": "green", "missed": "red", "failed": "bold red", "skipped": "dim"}
    for number, title in enumerate(heading):
        table.add_column(title, justify="left" if number == 0 else "right", no_wrap=True)
    for line in lines:
        table.add_row(*(f"[{colours[text]}]{text}[/]" if text in colours else text for text in line))
    Console(width=width).print(table)
