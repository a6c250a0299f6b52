"""Rounds of measurements, the backends in turn, and what comes of them.

A round measures every backend once, one right after the other, the standard library first. A ratio is formed inside a round, of
neighbours in time, and the median of the rounds' ratios is what the table shows: a slow minute of the machine slows both sides.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.backend import Backend
    from benchmarks.row import Row

ROUNDS = 5
PATIENCE_SECONDS = 60.0

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Outcome:
    """What a row found for one backend.

    Attributes:
        values: One per round, in the row's unit.
        ratios: One per round in which both sides have a value and neither is zero.
        extras: For each extra, the value of the round in which it was largest.
        skipped: Why nothing was measured, if so.
        failed: What went wrong, if something did; the values are those before it.
    """

    values: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    extras: dict[str, float] = field(default_factory=dict)
    skipped: str | None = None
    failed: str | None = None

    @property
    def median(self) -> float | None:
        """The median value."""
        return statistics.median(self.values) if self.values else None

    @property
    def ratio(self) -> float | None:
        """The median ratio to the standard library; above 1 this backend is ahead."""
        return statistics.median(self.ratios) if self.ratios else None


@dataclass
class Result:
    """A row, and what it found for each backend."""

    row: Row
    outcomes: dict[str, Outcome]


def run(rows: Sequence[Row], backends: Sequence[Backend], *, rounds: int, quick: bool) -> list[Result]:
    """Measure every row; progress goes to the standard error.

    Args:
        rows: What to measure.
        backends: On what; the first is what the others are compared with.
        rounds: How often, for rows without a limit of their own.
        quick: Whether a short look will do.
    """
    results = []
    for number, row in enumerate(rows, 1):
        print(f"[{number}/{len(rows)}] {row.name}", end="", file=sys.stderr, flush=True)
        results.append(_run_row(row, backends, rounds=min(rounds, row.most_rounds or rounds), quick=quick))
        print(file=sys.stderr, flush=True)
    return results


def _run_row(row: Row, backends: Sequence[Backend], *, rounds: int, quick: bool) -> Result:
    """All rounds of one row; a backend that failed once is left out of the rounds that follow."""
    outcomes = {backend.name: Outcome(skipped=_why_not(row, backend)) for backend in backends}
    for _ in range(rounds):
        standard: float | None = None
        for backend in backends:
            outcome = outcomes[backend.name]
            if outcome.skipped or outcome.failed:
                continue
            value = _measure_into(outcome, row, backend, quick=quick)
            if backend is backends[0]:
                standard = value
            elif value is not None and standard is not None and (ratio := row.ratio(standard, value)) is not None:
                outcome.ratios.append(ratio)
        print(".", end="", file=sys.stderr, flush=True)
    return Result(row, outcomes)


def _why_not(row: Row, backend: Backend) -> str | None:
    """Why a row is not measured on a backend, or None."""
    for package in row.packages:
        if importlib.util.find_spec(package) is None:
            return f"{package} is not installed"
    return backend.missing() or backend.lacks(row.needs)


def _measure_into(outcome: Outcome, row: Row, backend: Backend, *, quick: bool) -> float | None:
    """Take one measurement and note it in the outcome; None if it failed."""
    try:
        found = measure(row.name, backend.name, quick=quick)
    except MeasurementError as error:
        outcome.failed = str(error)
        return None
    value = float(found["value"])
    outcome.values.append(value)
    for name, extra in found["extras"].items():
        outcome.extras[name] = max(extra, outcome.extras.get(name, extra))
    return value


class MeasurementError(Exception):
    """A measurement did not come to an end, or not to a good one."""


def measure(row: str, backend: str, *, quick: bool) -> dict[str, Any]:
    """One measurement in a fresh interpreter, with everything it started ended afterwards.

    Raises:
        MeasurementError: The interpreter failed, or took longer than ``PATIENCE_SECONDS``.
    """
    command = [sys.executable, "-m", "benchmarks.measure", row, backend, *(["quick"] if quick else [])]
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        output, errors = process.communicate(timeout=PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        raise MeasurementError(f"no end after {PATIENCE_SECONDS:.0f} s") from None
    finally:
        _end_session(process)
    if process.returncode != 0:
        raise MeasurementError(f"exit code {process.returncode}: {_last_line(errors)}")
    try:
        found: dict[str, Any] = json.loads(_last_line(output))
    except ValueError:
        raise MeasurementError(f"no result: {_last_line(errors)}") from None
    return found


def _end_session(process: subprocess.Popen[str]) -> None:
    """Kill what is left of a measurement: its process group is its own. A stray that holds its output is not waited for."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=5.0)


def _last_line(text: str) -> str:
    """The last line that is not empty."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "(no output)")
