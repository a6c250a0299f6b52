"""Programs that are killed or interrupted, and what they leave behind.

Whatever a program starts, by whatever way, inherits a variable of its environment. By that its processes are found, whosever children they have become.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["Program", "processes_with", "refused"]

HERE = Path(__file__).resolve().parent
MARK = "SHOAL_CRASH_PROGRAM"


def processes_with(mark: str) -> dict[int, str]:
    """The living processes that bear a mark, with their command lines."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            if f"{MARK}={mark}".encode() in entry.joinpath("environ").read_bytes().split(b"\0"):
                found[int(entry.name)] = entry.joinpath("cmdline").read_text().replace("\0", " ")
    return found


class Program:
    """A program in a session of its own, with a directory of its own for temporary files.

    Args:
        source: what it runs; ``METHOD`` in it is the start method. It may import ``crash_tasks``, and says ``ready`` when it is.
        method: the start method.
        place: an empty directory.
        prefix: what it is started by: ``unshare …``.
    """

    def __init__(self, source: str, method: str, place: Path, prefix: tuple[str, ...] = ()) -> None:
        self.mark = uuid.uuid4().hex
        self.temporary = place / "tmp"
        self.temporary.mkdir()
        file = place / "program.py"
        file.write_text(textwrap.dedent(source).replace("METHOD", repr(method)), encoding="utf-8")
        environment = {
            **os.environ,
            MARK: self.mark,
            "TMPDIR": str(self.temporary),
            "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)]),
        }
        self._started = time.monotonic()
        self.process: subprocess.Popen[str] = subprocess.Popen(
            [*prefix, sys.executable, str(file)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=environment,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _ in range(100):
            left = processes_with(self.mark)
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if not left:
                break
            time.sleep(0.05)
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def line(self) -> str:
        """What it says next; fails with what it complained of if it ends instead."""
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        if not said:
            assert self.process.stderr is not None
            pytest.fail(f"the program ended: {self.process.stderr.read()}")
        return said.rstrip("\n")

    def wait_until_ready(self) -> float:
        """Wait until it says so; returns the seconds since it was started."""
        said = self.line()
        assert said == "ready", said
        return time.monotonic() - self._started

    def kill(self) -> None:
        """As the kernel does it when memory runs out."""
        self.process.kill()

    def interrupt(self) -> None:
        """Ctrl-C: the terminal sends it to the whole process group."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGINT)

    def end(self) -> str:
        """Wait for its end; what it wrote to its standard error stream."""
        assert self.process.stderr is not None
        errors = self.process.stderr.read()
        self.process.wait()
        return errors

    def others(self) -> dict[int, str]:
        """The processes that it has started, at whatever remove, and that live."""
        return {pid: line for pid, line in processes_with(self.mark).items() if pid != self.process.pid}

    def gone_but(self, survivors: set[int], seconds: float, *, servers: bool = False) -> dict[int, str]:
        """Wait until nothing of it lives but these (and, with `servers`, fork servers and watchers); returns what else does, after that many seconds."""
        until = time.monotonic() + seconds
        was_empty = False
        while True:
            left = {pid: line for pid, line in processes_with(self.mark).items() if pid not in survivors}
            if servers:
                left = {pid: line for pid, line in left.items() if "forkserver" not in line and "watcher" not in line}
            # Reaped, the number may be used again; a zombie is dead. Twice: who is started while the list is being read, by one that ends meanwhile, is not in it.
            if (not left and was_empty) or time.monotonic() > until:
                return left
            was_empty = not left
            time.sleep(0.02)

    def files(self) -> list[str]:
        """What is left of its temporary files."""
        return sorted(str(path.relative_to(self.temporary)) for path in self.temporary.rglob("*"))


def refused(command: list[str]) -> str | None:
    """Why a command that needs a privilege cannot be run here; None: it can."""
    try:
        done: Any = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except OSError as error:
        return str(error)
    return None if done.returncode == 0 else (done.stderr.strip() or f"exit status {done.returncode}")
