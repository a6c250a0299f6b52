"""What a row of the table is, and the list of all rows.

A row is a function of ``(backend, pace)`` that does the work once, in an interpreter of its own, and returns a
``Measurement``. The decorator ``row`` puts it on the list; its docstring's first paragraph is what the row says it does.
"""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.backend import Backend, Feature
    from benchmarks.pace import Pace

GROWTH = " growth"  # how the names of extras end that say by how much something grew

SUBJECTS = (
    "queues",
    "pipes",
    "sockets",
    "pools",
    "locks",
    "cells",
    "managers",
    "processes",
    "lifetimes",
    "named_memory",
)


@dataclass(frozen=True)
class Measurement:
    """What one measurement found: the value in the row's unit, and what else is worth knowing (``name: number``)."""

    value: float
    extras: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Target:
    """What shoal must reach.

    Attributes:
        ratio: How many times better than the standard library, at least.
        at_least: The value itself, in the row's unit.
        at_most: The same.
        no_growth: Whether extras that tell of growth must all be zero.
    """

    ratio: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    no_growth: bool = False

    def met(self, ratio: float | None, value: float, extras: Mapping[str, float]) -> bool:
        """Whether a result reaches it; a ratio that could not be formed does not."""
        if self.no_growth and any(extra > 0 for name, extra in extras.items() if name.endswith(GROWTH)):
            return False
        if self.ratio is not None and (ratio is None or ratio < self.ratio):
            return False
        if self.at_least is not None and value < self.at_least:
            return False
        return self.at_most is None or value <= self.at_most


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: Unique; what ``--only`` matches.
        work: What is done, in one line.
        unit: ``s`` and rates (``items/s``) are printed with a fitting prefix, other units as they are.
        better: Which way is better. A ratio is always turned so that above 1 shoal is ahead.
        target: What shoal must reach, if anything.
        needs: What a backend must offer.
        packages: What must be importable besides the backend.
        most_rounds: For rows that take seconds: no more rounds than this.
        measure: Does the work.
    """

    name: str
    work: str
    unit: str
    better: Literal["higher", "lower"]
    target: Target | None
    needs: Feature
    packages: tuple[str, ...]
    most_rounds: int | None
    measure: Callable[[Backend, Pace], Measurement]

    def ratio(self, standard: float, candidate: float) -> float | None:
        """How many times better the candidate is; None if either is zero."""
        if standard <= 0 or candidate <= 0:
            return None
        return candidate / standard if self.better == "higher" else standard / candidate


_rows: dict[str, Row] = {}


def row(
    name: str,
    *,
    unit: str,
    better: Literal["higher", "lower"],
    needs: Feature,
    target: Target | None = None,
    packages: tuple[str, ...] = (),
    most_rounds: int | None = None,
) -> Callable[[Callable[[Backend, Pace], Measurement]], Callable[[Backend, Pace], Measurement]]:
    """Put the decorated function on the list; the parameters are those of ``Row``.

    Raises:
        ValueError: The name is taken.
    """

    def register(measure: Callable[[Backend, Pace], Measurement]) -> Callable[[Backend, Pace], Measurement]:
        if name in _rows:
            raise ValueError(f"two rows are called {name!r}")
        work = " ".join((inspect.getdoc(measure) or name).split("\n\n")[0].split())
        _rows[name] = Row(name, work, unit, better, target, needs, packages, most_rounds, measure)
        return measure

    return register


def all_rows() -> list[Row]:
    """Every row, in the order of the subjects."""
    for subject in SUBJECTS:
        importlib.import_module(f"benchmarks.{subject}")
    return list(_rows.values())
