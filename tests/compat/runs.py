"""Runs tests in interpreters, each set in a process of its own, under a watchdog that no test can escape.

A process that says nothing for too long is told to write its tracebacks and killed with everything that it started; the test which it was at has failed, and
a new process goes on with those that remain. So one test that hangs, or takes the process down, costs itself and nothing else.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

SUITE = Path(__file__).with_name("suite.py")
MISSING = 77  # as in suite.py
PATIENCE = 120.0  # seconds without a word before a test is held to hang
LAST_WORDS = 5.0  # seconds for the tracebacks
LOG = 200_000  # bytes of a process's output that are kept


@dataclass
class Outcome:
    """How one test ended."""

    test: str
    outcome: str  # passed, skipped, failed
    text: str = ""
    seconds: float = 0.0


@dataclass
class Interpreter:
    """A Python with shoal."""

    path: str
    version: str = ""
    managers: str = ""

    def __post_init__(self) -> None:
        probe = (
            "import sys, multiprocessing.managers as m, multiprocessing, shoal;"
            "assert multiprocessing.Process is shoal.Process;"
            "print('%d.%d' % sys.version_info[:2], 'shoal' if m.__name__.startswith('shoal.') else 'standard')"
        )
        self.path = os.path.abspath(self.path)  # noqa: PTH100 - a virtual environment's link must stay one
        line = [self.path, "-m", "shoal", "run", "-c", probe]
        told = subprocess.run(line, check=True, capture_output=True, text=True, timeout=60).stdout
        self.version, self.managers = told.split()


class NoTestsError(Exception):
    """The interpreter has no such tests."""


_at_work: set[subprocess.Popen[bytes]] = set()


def end_all() -> None:
    """Kill whatever is at work, with everything that it started."""
    for process in list(_at_work):
        _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


@dataclass
class Process:
    """One process at work on some tests."""

    interpreter: Interpreter
    work: str  # a start method, or concurrent.futures
    tests: list[str] | None = None  # None lists them
    plain: bool = False  # on the standard library itself
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    log: str = ""
    current: str | None = None
    leftovers: list[tuple[str, str]] = field(default_factory=list)  # after which test, and what
    done: bool = False
    seconds: float = 0.0

    def run(self, patience: float = PATIENCE) -> None:
        """Run until there is nothing to do, or nothing happens any more."""
        with tempfile.TemporaryDirectory(prefix="compat-") as place, tempfile.TemporaryFile() as output:
            line = [self.interpreter.path, *([] if self.plain else ["-m", "shoal", "run"]), str(SUITE), self.work]
            if self.tests is not None:
                names = Path(place) / "tests"
                names.write_text("\n".join(self.tests), encoding="utf-8")
                line.append(str(names))
            reader, writer = os.pipe()
            begun = time.monotonic()
            process = subprocess.Popen(
                line,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[writer],
                env={**os.environ, "COMPAT_REPORT": str(writer), "TMPDIR": place},
                cwd=place,
                start_new_session=True,
            )
            os.close(writer)
            _at_work.add(process)
            try:
                for message in _messages(process, reader, patience):
                    self._hear(message)
                hung = process.poll() is None
                if hung:
                    process.send_signal(signal.SIGABRT)
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(LAST_WORDS)
            finally:
                os.close(reader)
                _at_work.discard(process)
                _kill(process)
                status = process.wait()
                self.seconds = time.monotonic() - begun
            output.seek(max(0, output.seek(0, os.SEEK_END) - LOG))
            self.log = output.read().decode(errors="replace")
        if status == MISSING:
            raise NoTestsError
        if not self.done and self.tests is not None:
            what = f"nothing happened for {patience:g} s" if hung else f"the process ended with status {status}"
            self._lost(what)

    def _hear(self, message: dict[str, object]) -> None:
        kind, test = message.pop("event"), str(message.get("test", ""))
        if kind == "exists":
            self.outcomes[test] = Outcome(test, "exists")
        elif kind == "begun":
            self.current = test
        elif kind == "ended":
            self.outcomes[test] = Outcome(**message)  # type: ignore[arg-type]
            self.current = None
        elif kind == "left":
            self.leftovers.append((test, str(message["text"])))
        else:
            self.done = True

    def _lost(self, what: str) -> None:
        test = self.current or "(between tests)"
        self.outcomes[test] = Outcome(test, "failed", f"{what}; its output ends:\n{self.log[-6000:]}")


def _messages(process: subprocess.Popen[bytes], reader: int, patience: float) -> Iterator[dict[str, object]]:
    """What the process reports, until it has ended or has been silent for too long. Its children may hold the pipe, so its end is told by the process."""
    pidfd = os.pidfd_open(process.pid)
    rest = b""
    wait = max(patience, PATIENCE)  # to begin with: an interpreter that is starting is at no test
    try:
        while True:
            ready, _, _ = select.select([reader, pidfd], [], [], wait)
            wait = patience
            if reader in ready:
                chunk = os.read(reader, 1 << 16)
                if not chunk:
                    process.wait()
                    return
                *lines, rest = (rest + chunk).split(b"\n")
                yield from map(json.loads, lines)
            elif pidfd in ready:
                process.wait()
                return
            else:
                return
    finally:
        os.close(pidfd)


def existing(interpreter: Interpreter, work: str) -> list[str]:
    """List the tests that there are."""
    process = Process(interpreter, work)
    process.run()
    return list(process.outcomes)


def run(
    interpreter: Interpreter, work: str, tests: Iterable[str], *, patience: float = PATIENCE, plain: bool = False
) -> list[Process]:
    """Run tests, with as many processes as it takes."""
    remaining, processes = list(tests), []
    while remaining:
        process = Process(interpreter, work, remaining, plain=plain)
        process.run(patience)
        processes.append(process)
        if process.done or process.current is None:
            break
        remaining = [test for test in remaining if test not in process.outcomes]
    return processes
