"""What a row of a crash table is, and how it becomes tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["METHODS", "SECONDS", "Case", "each", "raised_by"]

METHODS = ("fork", "spawn", "forkserver")
SECONDS = 20.0  # far more than anything here takes: what is not there by then hangs


@dataclass(frozen=True)
class Case:
    """One row.

    Attributes:
        name: what happens, in words.
        act: what makes it happen: a function, or the source of a program.
        outcome: what must come out.
        methods: the start methods that it is about.
    """

    name: str
    act: Any
    outcome: Any = None
    methods: tuple[str, ...] = METHODS


def each(cases: Sequence[Case]) -> pytest.MarkDecorator:
    """Run a test for each case and each of its start methods, as ``case`` and ``method``; grouped by method, which share pools."""
    rows = [(case, method) for method in METHODS for case in cases if method in case.methods]
    names = [f"{case.name}-{method}".replace(" ", "_") for case, method in rows]
    return pytest.mark.parametrize(("case", "method"), rows, ids=names)


def raised_by(call: Callable[[], Any]) -> BaseException:
    """What a call raises, which it must."""
    try:
        value = call()
    except BaseException as error:  # noqa: BLE001 - SystemExit and KeyboardInterrupt are outcomes of tasks
        return error
    pytest.fail(f"returned {value!r}")
