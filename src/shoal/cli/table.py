"""The demo's table: what was done, how long it took on each library, and one sentence that says what was shown.

It fits 80 columns, and without a terminal it is plain text: rich writes no control characters there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shoal.cli.measure import SHOAL, STANDARD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shoal.cli.compare import Result, Row

__all__ = ["show"]

WIDTH = 80
NOTICEABLE = 0.03
LEGEND = "Ratio: standard library / shoal. Speed-up: against one after the other."
NAMES = {STANDARD: "the standard library", SHOAL: "shoal"}


def show(results: Sequence[Result], machine: str, console: Console | None = None) -> None:
    """Print the table, what failed, and the closing sentence."""
    console = console or Console(highlight=False)
    width = min(console.width, WIDTH)
    console.print()
    console.print(Text.assemble(("shoal demo", "bold"), "  ", (machine, "dim")), width=width)
    header = _columns(show_header=True)
    console.print(header, width=width)
    for result in results:
        table = _columns(show_header=False)
        for row in result.rows:
            table.add_row(*_cells(row, result))
        console.print(Text(_heading(result), "bold red" if result.errors else "bold cyan"), width=width)
        console.print(table, width=width)
        console.print()
    for result in results:
        for library, error in result.errors.items():
            console.print(
                Text.assemble((f"{result.title}, on {NAMES[library]}: FAILED", "bold red"), f"\n  {error}\n"),
                width=width,
            )
    console.print(_closing(results), width=width)
    console.print(Text(LEGEND, "dim"), width=width)


def _columns(*, show_header: bool) -> Table:
    """A table with the columns that all programs share; a program's name stands between two tables, across the columns."""
    table = Table(
        box=box.SIMPLE_HEAD if show_header else None,
        show_header=show_header,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1),
        header_style="bold",
    )
    table.add_column("", width=25)
    for heading in ("standard\nlibrary", "\nspeed-up", "\nshoal", "\nspeed-up", "\nratio"):
        table.add_column(heading, justify="right", width=9, no_wrap=True)
    return table


def _cells(row: Row, result: Result) -> list[Text]:
    cells = [Text(f"  {row.work}")]
    for library, seconds, speed_up in (
        (STANDARD, row.standard_seconds, row.standard_speed_up),
        (SHOAL, row.shoal_seconds, row.shoal_speed_up),
    ):
        if library in result.errors:
            cells += [Text("failed", "bold red"), Text()]
        else:
            cells += [_time(seconds), Text("" if speed_up is None else f"{speed_up:.2f} x", "dim")]
    cells.append(Text() if result.errors else _ratio(row.ratio))
    return cells


def _time(seconds: float | None) -> Text:
    if seconds is None:
        return Text()
    return Text(f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms")


def _ratio(ratio: float | None) -> Text:
    if ratio is None:
        return Text()
    style = "bold green" if ratio >= 1 + NOTICEABLE else "yellow" if ratio < 1 - NOTICEABLE else "bold"
    return Text(f"{ratio:.2f} x", style)


def _heading(result: Result) -> str:
    found = result.facts.get("result")
    if isinstance(found, dict):
        return f"{result.title}: {found['files']:,} files, {found['bytes'] / 1e6:.1f} MB"
    return result.title


def _closing(results: Sequence[Result]) -> Text:
    failed = sum(bool(result.errors) for result in results)
    if failed:
        return Text(f"{failed} of {len(results)} programs failed: what is shown above is not a comparison.", "bold red")
    found = [sentence for sentence in map(_finding, results) if sentence]
    return Text(
        f"{_number(len(results))} that say `import multiprocessing` ran unchanged on both libraries, and every"
        f" result is the sequential run's{': ' if found else ''}{'; '.join(found)}."
    )


def _number(count: int) -> str:
    return {1: "One program", 2: "Two programs"}.get(count, f"{count} programs").replace("One program", "Programs")


def _finding(result: Result) -> str:
    found = result.facts.get("result")
    if isinstance(found, dict):
        unreadable = found["not_tokenized"]
        cannot = f" ({unreadable:,} of the files cannot be tokenized, on either)" if unreadable else ""
        return (
            f"{found['names']:,} names, {found['different_names']:,} different ones, the commonest"
            f" `{found['commonest']}` with {found['commonest_times']:,}{cannot}"
        )
    if isinstance(found, list) and found and "n" in result.facts:
        return f"fib({result.facts['n']}) = {found[0]:,}"
    return ""
