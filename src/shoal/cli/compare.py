"""One program's outcomes on the two libraries, side by side: times, speed-ups, the ratio, and whether the results agree.

Pure bookkeeping on what `shoal.cli.measure` brings back; the table and the JSON are made from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shoal.cli.measure import SHOAL, STANDARD

if TYPE_CHECKING:
    from shoal.cli.measure import Outcome, Part

__all__ = ["Result", "Row", "compare"]


@dataclass
class Row:
    """One kind of work on both libraries. The speed-ups are against the first row, which is sequential and has none."""

    work: str
    standard_seconds: float | None
    shoal_seconds: float | None
    ratio: float | None
    standard_speed_up: float | None
    shoal_speed_up: float | None


@dataclass
class Result:
    """One program on both libraries: its rows, the errors by library, and what it reported besides."""

    title: str
    rows: list[Row]
    errors: dict[str, str]
    facts: dict[str, Any]


def compare(part: Part, standard: Outcome, shoal: Outcome) -> Result:
    """Put the outcomes of one program on both libraries side by side; a result that differs from the sequential one is an error."""
    errors = {
        library: outcome.error
        for library, outcome in ((STANDARD, standard), (SHOAL, shoal))
        if outcome.error is not None
    }
    first = next(iter(part.rows))
    for library, outcome in ((STANDARD, standard), (SHOAL, shoal)):
        reference = standard if library == SHOAL and not standard.error else outcome
        for name, words in part.rows.items():
            if not outcome.error and outcome.runs[name]["result"] != reference.runs[first]["result"]:
                errors[library] = f"{words}: the result differs from the sequential run's"
    rows = []
    for name, words in part.rows.items():
        before, after = (_seconds(outcome, name) for outcome in (standard, shoal))
        alone, alone_on_shoal = (_seconds(outcome, first) for outcome in (standard, shoal))
        rows.append(
            Row(
                words,
                before,
                after,
                None if name == first else _quotient(before, after),
                None if name == first else _quotient(alone, before),
                None if name == first else _quotient(alone_on_shoal, after),
            )
        )
    facts = {**(standard.facts or shoal.facts), "result": (standard.runs or shoal.runs).get(first, {}).get("result")}
    return Result(part.title, rows, errors, facts)


def _seconds(outcome: Outcome, name: str) -> float | None:
    return None if outcome.error else float(outcome.runs[name]["seconds"])


def _quotient(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below else None
