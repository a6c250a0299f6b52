"""The command line: ``python -m tests.foreign``, or ``make foreign``.

Runs foreign programs that start processes, unchanged, as ``python …`` and as ``shoal run …``, each in a fresh copy of the same tree, and compares exit status,
output, error output and every file that is there afterwards. A witness tells which package the processes were made with, and how many there were: a
program that ran without any would prove nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path

from tests.foreign.programs import PROGRAMS, Program, plant

SECONDS = 300  # that one run may take
COLUMNS = ("program", "method", "same output", "processes", "seconds without", "seconds on shoal")

# In the application alone: what it counts are the processes that the application made.
WITNESS = """
    import atexit, json, os, sys

    def tell():
        package = sys.modules.get("multiprocessing")
        if package is not None and package.parent_process() is None:
            made = next(package.process._process_counter) - 1
            if not made and os.path.exists(os.environ["WITNESS"]):
                return  # a tracker, or a fork server, that ends after the application
            with open(os.environ["WITNESS"], "w", encoding="utf-8") as file:
                json.dump([package.Process.__module__.partition(".")[0], made], file)

    atexit.register(tell)
"""


@dataclass(frozen=True)
class Run:
    """What one run of a program left."""

    status: int
    output: list[str]
    errors: list[str]
    files: list[str]
    package: str
    processes: int
    seconds: float

    def lines(self) -> list[str]:
        """All that must be equal, as text."""
        return [
            f"exit status {self.status}",
            f"{self.processes} processes",
            "output:",
            *self.output,
            "errors:",
            *self.errors,
            "files:",
            *self.files,
        ]


def main(arguments: list[str] | None = None) -> int:
    """Run what the arguments ask for; 0 if nothing differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.foreign", description=__doc__)
    parser.add_argument("--match", default="", metavar="PATTERN", help="only programs whose name this matches")
    options = parser.parse_args(arguments)
    rows, differences = [COLUMNS], []
    for program in PROGRAMS:
        if not re.search(options.match, program.name):
            continue
        if program.needs is not None and importlib.util.find_spec(program.needs) is None:
            rows.append((program.name, program.method, f"skipped: {program.needs} is not installed", "", "", ""))
            continue
        with tempfile.TemporaryDirectory(prefix="shoal-foreign-") as directory:
            plain = run(program, Path(directory), [sys.executable])
            on_shoal = run(program, Path(directory), [sys.executable, "-m", "shoal", "run"])
        difference = list(unified_diff(plain.lines(), on_shoal.lines(), "without shoal", "shoal run", lineterm=""))
        if (plain.package, on_shoal.package) != ("multiprocessing", "shoal") or not on_shoal.processes:
            difference.append(f"proves nothing: {on_shoal.processes} processes, of {on_shoal.package or 'no package'}")
        if difference:
            differences.append("\n".join([f"== {program.name}, {program.method}", *difference]))
        seconds = (f"{plain.seconds:.1f}", f"{on_shoal.seconds:.1f}")
        rows.append(
            (program.name, program.method, "no" if difference else "yes", str(on_shoal.processes), *seconds),
        )
    print(*differences, table(rows), sep="\n")
    return 1 if differences else 0


def run(program: Program, directory: Path, python: list[str]) -> Run:
    """Run a program in a fresh tree, at the same place each time, so that paths in its output are equal."""
    place, witness = directory / "place", directory / "witness"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    plant(place)
    witness.mkdir(exist_ok=True)
    (witness / "sitecustomize.py").write_text(textwrap.dedent(WITNESS), encoding="utf-8")
    told = directory / "told"
    told.write_text('["", 0]', encoding="utf-8")
    environment = {
        **{key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"},
        "PYTHONPATH": str(witness),
        "WITNESS": str(told),
    }
    begin = time.monotonic()
    done = subprocess.run(
        [*python, *program.line],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    seconds = time.monotonic() - begin
    output, errors = done.stdout.splitlines(), done.stderr.splitlines()
    if not program.ordered:
        output, errors = sorted(output), sorted(errors)
    package, processes = json.loads(told.read_text(encoding="utf-8"))
    return Run(done.returncode, output, errors, files(place), package, processes, seconds)


def files(place: Path) -> list[str]:
    """Every file with a digest of what it holds."""
    return sorted(
        f"{path.relative_to(place)} {hashlib.sha256(path.read_bytes()).hexdigest()}"
        for path in place.rglob("*")
        if path.is_file()
    )


def table(rows: list[tuple[str, ...]]) -> str:
    """Lay the rows out as text."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


if __name__ == "__main__":
    sys.exit(main())
