"""``shoal demo``: two real programs, run on the standard library and on shoal, side by side.

The programs (``programs/``) say ``import multiprocessing``. Each is run as it is, and then through ``shoal run``; so what is shown is not only how long things
take, but that an unchanged program runs on shoal. The result is the exit status too: 1 if any part failed or any result differs.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from shoal.cli.compare import Result, compare
from shoal.cli.measure import SHOAL, STANDARD, Part, measure

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["demo", "parts"]

PROGRAMS = Path(__file__).parent / "programs"
INTERRUPTED = 130


def demo(*, as_json: bool = False, quick: bool = False, work: Sequence[Part] | None = None) -> int:
    """Run the demo and print its results.

    Args:
        as_json: Print JSON instead of a table, and no progress.
        quick: Do a small part of the work.
        work: The programs to run, if not the two of `parts`.

    Returns:
        The exit status: 0, 1 if a part failed, 130 if interrupted.
    """
    signal.signal(signal.SIGTERM, _leave)  # by way of what is to be cleaned up: the program that runs goes too
    chosen = parts(quick=quick) if work is None else work
    progress = "none" if as_json else "bar" if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" else "lines"
    results = []
    try:
        for part in chosen:
            outcomes = {}
            for library, name in ((STANDARD, "the standard library"), (SHOAL, "shoal")):
                if progress != "none":
                    print(f"{part.title}, on {name} ...", file=sys.stderr, flush=True)
                outcomes[library] = measure(part, library, progress=progress)
            results.append(compare(part, outcomes[STANDARD], outcomes[SHOAL]))
    except KeyboardInterrupt:
        print("shoal demo: interrupted", file=sys.stderr)
        return INTERRUPTED
    if as_json:
        print(json.dumps(_as_json(results), indent=2))
    else:
        from shoal.cli.table import show

        show(results, machine())
    return 1 if any(result.errors for result in results) else 0


def parts(*, quick: bool) -> list[Part]:
    """List the programs of the demo."""
    n = 27 if quick else 35
    cores = len(os.sched_getaffinity(0))
    processes = max(2, cores)
    return [
        Part(
            f"fib({n}) twice",
            PROGRAMS / "fib.py",
            ("-n", str(n)),
            {"alone": "one after the other", "processes": "two Processes", "pool": "Pool(2).map"},
        ),
        Part(
            "names in the standard library's .py files",
            PROGRAMS / "names.py",
            ("--processes", str(processes), *(("--limit", "150") if quick else ())),
            {"alone": "one after the other", "pool": f"Pool({processes}).imap_unordered"},
            progress=True,
        ),
    ]


def machine() -> str:
    """Say in one line where this was measured."""
    cores = len(os.sched_getaffinity(0))
    return f"{platform.python_implementation()} {platform.python_version()}, {cores} core{'s' * (cores != 1)}, {platform.system()} {platform.release()}"


def _leave(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


def _as_json(results: Sequence[Result]) -> dict[str, Any]:
    return {
        "machine": machine(),
        "ok": not any(result.errors for result in results),
        "parts": [asdict(result) for result in results],
    }
