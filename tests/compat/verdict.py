"""What counts as passed: outcomes held against the list of exclusions, which is itself held against the outcomes; and what tests leave over, against what is known."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.compat.runs import Outcome

LIST = Path(__file__).with_name("exclusions.toml")
FLAVOURS = ("processes", "threads", "manager", "other")


@dataclass
class Exclusion:
    """One test that need not pass, and where."""

    test: str
    why: str
    kind: str = "internals"
    methods: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    race: bool = False

    def holds(self, version: str, method: str) -> bool:
        """Tell whether it is meant for this interpreter and this start method."""
        return (not self.versions or version in self.versions) and (not self.methods or method in self.methods)


@dataclass
class Leftover:
    """Something that tests leave over, by the tests' own books, and may."""

    what: str  # a pattern
    why: str
    tests: str = ""  # a pattern as well: after which
    methods: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()

    def covers(self, version: str, method: str, test: str, text: str) -> bool:
        """Tell whether this is what was left after a test."""
        return (
            (not self.versions or version in self.versions)
            and (not self.methods or method in self.methods)
            and re.search(self.tests, test) is not None
            and re.search(self.what, text) is not None
        )


@dataclass
class Lists:
    """What ``exclusions.toml`` says."""

    exclusions: list[Exclusion]
    isolated: set[str] = field(default_factory=set)
    leftovers: list[Leftover] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path = LIST) -> Lists:
        """Read the file; a reason of an unknown kind, or a key that means nothing, is an error."""
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        found = []
        for reason in document["reason"]:
            kind, why, tests = reason.pop("kind"), reason.pop("why"), reason.pop("tests")
            if kind not in {"internals", "deviation"}:
                raise ValueError(f"{path}: {kind!r} is no reason to exclude a test")
            where = {key: tuple(reason.pop(key, ())) for key in ("methods", "versions")}
            race = reason.pop("race", False)
            if reason:
                raise ValueError(f"{path}: {sorted(reason)} mean nothing")
            found += [Exclusion(test, why, kind, race=race, **where) for test in tests]
        isolated = {test for group in document.get("isolated", ()) for test in group["tests"]}
        return cls(found, isolated, [Leftover(**known) for known in document.get("leftover", ())])

    def excluded(self, version: str, method: str) -> dict[str, Exclusion]:
        """The exclusions that hold for an interpreter and a start method."""
        return {one.test: one for one in self.exclusions if one.holds(version, method)}

    def nowhere(self, existing: set[str]) -> list[str]:
        """Complain of tests on the list that no interpreter has."""
        named = {one.test for one in self.exclusions} | self.isolated
        return [f"{test} is on the list, and no interpreter has such a test" for test in sorted(named - existing)]


def unexplained(version: str, method: str, leftovers: Iterable[tuple[str, str]], lists: Lists) -> list[tuple[str, str]]:
    """Complain of what tests have left over and no list knows.

    Args:
        version: of the interpreter.
        method: the start method, or ``concurrent.futures``.
        leftovers: after which test, and what.
        lists: what is known.
    """
    return [
        (f"something is left over after {test} ({version}, {method})", text)
        for test, text in leftovers
        if not any(known.covers(version, method, test, text) for known in lists.leftovers)
    ]


def flavour_of(test: str) -> str:
    """``processes``, ``threads`` or ``manager`` for the tests that come in flavours, ``other`` for the rest."""
    return next((flavour for flavour in FLAVOURS if test.startswith(f"With{flavour.capitalize()}")), "other")


@dataclass
class Row:
    """One line of the table."""

    version: str
    method: str
    flavour: str
    counts: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


@dataclass
class Verdict:
    """What came of one interpreter and one start method."""

    rows: dict[str, Row]
    complaints: list[tuple[str, str]]  # headline, text


def judge(
    version: str, method: str, outcomes: Iterable[Outcome], lists: Lists, flavours: tuple[str, ...] = FLAVOURS
) -> Verdict:
    """Count outcomes by flavour; complain of failures, and of exclusions that were not needed."""
    rows = {flavour: Row(version, method, flavour) for flavour in flavours}
    complaints = []
    excluded = lists.excluded(version, method)
    for one in outcomes:
        row = rows.setdefault(flavour_of(one.test), Row(version, method, flavour_of(one.test)))
        row.seconds += one.seconds
        where = f"{one.test} ({version}, {method})"
        exclusion = excluded.get(one.test)
        kind = one.outcome
        if exclusion is not None and kind != "skipped":
            if kind == "passed" and not exclusion.race:
                complaints.append((f"{where} is excluded, and passes: take it off the list", exclusion.why))
            kind = "excluded"
        elif kind == "failed":
            complaints.append((where, one.text))
        elif kind == "passed" and one.test in lists.isolated:
            row.counts["isolated"] += 1
        row.counts[kind] += 1
    return Verdict({name: row for name, row in rows.items() if row.counts.total()}, complaints)


COLUMNS = ("run", "passed", "skipped", "excluded", "failed", "seconds")


def table(rows: Iterable[Row]) -> str:
    """Lay the rows out as text."""
    lines = [("version", "method", "flavour", *COLUMNS)]
    for row in rows:
        run = sum(row.counts[kind] for kind in ("passed", "failed"))
        figures = (run, *(row.counts[kind] for kind in COLUMNS[1:-1]), f"{row.seconds:.0f}")
        lines.append((row.version, row.method, row.flavour, *map(str, figures)))
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            text.ljust(width) if column < 3 else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
