"""Run one of the demo's programs, on the standard library or through ``shoal run``, and bring back what it reported.

A program runs in a fresh interpreter and a process group of its own, writes its figures as JSON into a file, and shows its progress on standard error, which
is passed through. Whatever goes wrong (an exit status, a signal, a hang, a missing report, the wrong library) comes back as the text of an `Outcome`'s
``error``, never as an exception: the demo shows failures as failures.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from shoal import _alias
from shoal.cli.run import command

__all__ = ["SHOAL", "STANDARD", "Outcome", "Part", "measure"]

STANDARD = "multiprocessing"
SHOAL = "shoal"
TAIL_BYTES = 65536
LIMIT_SECONDS = 300.0


@dataclass(frozen=True)
class Part:
    """One program of the demo.

    Args:
        title: What the program does, in a few words.
        program: The file.
        arguments: What it is called with.
        rows: For each kind of work in its report, in order, how a reader would name it. The first is the sequential one.
        progress: Whether it takes ``--progress bar|lines|none``.
    """

    title: str
    program: Path
    arguments: tuple[str, ...]
    rows: dict[str, str]
    progress: bool = False


@dataclass
class Outcome:
    """What one program reported on one library: its kinds of work by name, and the text of the error if it failed."""

    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    error: str | None = None


def measure(part: Part, library: str, *, progress: str, limit_seconds: float | None = None) -> Outcome:
    """Run a program on one library.

    Args:
        part: The program.
        library: `STANDARD` or `SHOAL`.
        progress: ``bar``, ``lines`` or ``none``; the last also keeps the program's standard error away from ours.
        limit_seconds: After this time the program is killed, and has failed; `LIMIT_SECONDS` if it is None.
    """
    limit_seconds = LIMIT_SECONDS if limit_seconds is None else limit_seconds
    with tempfile.TemporaryDirectory(prefix="shoal-demo-") as directory:
        report = Path(directory) / "report.json"
        arguments = [str(part.program), *part.arguments, "--report", str(report)]
        if part.progress:
            arguments += ["--progress", progress]
        line = command(arguments) if library == STANDARD else command(["-m", "shoal", "run", *arguments])
        status, text = _run(line, echo=progress != "none", limit_seconds=limit_seconds)
        if status != 0:
            return Outcome(error=_reason(status, text, limit_seconds))
        return _read(report, part, library)


def _run(line: list[str], *, echo: bool, limit_seconds: float) -> tuple[int | None, str]:
    """Run a command line; return its exit status (None if it took too long) and the end of what it wrote to standard error."""
    process = subprocess.Popen(
        line,
        env=_alias.plain_environment(os.environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        process_group=0,
    )
    tail = bytearray()
    reader = threading.Thread(target=_pass_on, args=(cast("IO[bytes]", process.stderr), tail, echo), daemon=True)
    reader.start()
    status: int | None = None
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = process.wait(limit_seconds)
    finally:
        _kill_group(process.pid)
        process.wait()
        reader.join(timeout=5)
    return status, tail.decode(errors="replace")


def _pass_on(source: IO[bytes], tail: bytearray, echo: bool) -> None:
    while chunk := os.read(source.fileno(), TAIL_BYTES):
        tail += chunk
        del tail[:-TAIL_BYTES]
        if echo:
            sys.stderr.write(chunk.decode(errors="replace"))
            sys.stderr.flush()


def _kill_group(number: int) -> None:
    """Leave nothing behind: what a program that failed has started ends with it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(number, signal.SIGKILL)


def _reason(status: int | None, text: str, limit_seconds: float) -> str:
    """Say in one line why a program failed: how it ended, and the last line that it wrote."""
    lines = [part.strip() for line in text.splitlines() for part in line.split("\r") if part.strip()]
    if status is None:
        how = f"killed after {limit_seconds:g} s"
    elif status < 0:
        how = f"killed by {signal.Signals(-status).name}"
    else:
        how = f"exit status {status}"
    return f"{lines[-1]} ({how})" if lines else how


def _read(report: Path, part: Part, library: str) -> Outcome:
    """Read a report, and check that the program ran where it should and did all of its work."""
    try:
        content = json.loads(report.read_text(encoding="utf-8"))
        outcome = Outcome(content["runs"], content["facts"])
        missing = [name for name in part.rows if "seconds" not in outcome.runs[name]]
    except (OSError, ValueError, LookupError, TypeError) as error:
        return Outcome(error=f"no readable report: {error!r}")
    if missing:
        return Outcome(error=f"no time reported for {', '.join(missing)}")
    for name in part.rows:
        seen = outcome.runs[name]["libraries"]
        if seen != [library]:
            return Outcome(error=f"{part.rows[name]} ran on {', '.join(seen)} instead of {library}")
    return outcome
