"""How interpreters are run: with the descriptors that they are to have, and without waiting for what other threads fork meanwhile."""

from __future__ import annotations

import os
import resource
import signal
import stat
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import shoal
from shoal import forkserver, spawn
from shoal._runtime import programs

if TYPE_CHECKING:
    from collections.abc import Iterator

LONG = 20.0


def nothing() -> None:
    pass


def exit_code(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.limit(120)
def test_a_start_waits_for_nobody_who_was_forked_meanwhile():
    # Each fork lives on without an exec, and has a copy of every descriptor that this process had open in that moment.
    over = threading.Event()
    forked: list[int] = []

    def fork_often() -> None:
        while not over.is_set() and len(forked) < 300:
            pid = os.fork()
            if pid == 0:
                signal.pause()
                os._exit(0)
            forked.append(pid)
            time.sleep(0.001)

    context = shoal.get_context("spawn")
    forking = threading.Thread(target=fork_often)
    forking.start()
    slowest = 0.0
    try:
        for _ in range(8):
            child = context.Process(target=nothing)
            began = time.monotonic()
            watchdog = threading.Timer(LONG, lambda: [os.kill(pid, signal.SIGKILL) for pid in list(forked)])
            watchdog.start()
            child.start()
            child.join()
            watchdog.cancel()
            slowest = max(slowest, time.monotonic() - began)
            assert child.exitcode == 0
    finally:
        over.set()
        forking.join()
        for pid in forked:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    assert slowest < LONG


def test_it_has_the_descriptors_that_it_is_to_have_and_no_others():
    reader, writer = os.pipe()
    stray, far = os.pipe()
    os.set_inheritable(stray, True)
    os.dup2(far, 200, inheritable=True)
    program = "import os, sys; os.write(int(sys.argv[1]), repr(sorted(map(int, os.listdir('/proc/self/fd')))).encode())"
    try:
        pid = programs.run([sys.executable, "-c", program, str(writer)], {writer, 1})
        os.close(writer)
        found = os.read(reader, 1000).decode()
        assert exit_code(pid) == 0
    finally:
        for fd in (reader, stray, far, 200):
            os.close(fd)
    # The last one is that of the listing itself.
    assert found == repr([0, 1, 2, *sorted({writer, min({3, 4} - {writer})})])


@pytest.fixture
def beyond_the_limit() -> Iterator[tuple[int, int]]:
    """Two ends of a pipe with numbers beyond the limit, of which the first is inheritable."""
    reader, writer = os.pipe()
    os.dup2(reader, 200, inheritable=True)
    os.dup2(writer, 201, inheritable=False)
    os.close(writer)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
    try:
        yield 200, 201
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in (reader, 200, 201):
            os.close(fd)


def test_so_it_has_where_some_are_beyond_the_limit(beyond_the_limit: tuple[int, int]):
    stray, kept = beyond_the_limit
    program = "import os, sys; os.write(int(sys.argv[1]), repr(sorted(map(int, os.listdir('/proc/self/fd')))).encode())"
    assert exit_code(programs.run([sys.executable, "-c", program, str(kept)], {kept, 1})) == 0
    # That of the listing itself is the third.
    assert os.read(stray, 1000).decode() == repr([0, 1, 2, 3, kept])
    with pytest.raises(FileNotFoundError):
        programs.run(["/nowhere/nothing"], ())


@pytest.mark.usefixtures("beyond_the_limit")
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_start_works_beside_descriptors_beyond_the_limit(method: str):
    context: Any = shoal.get_context(method)
    if method == "forkserver":
        forkserver._forkserver._stop()
    child = context.Process(target=nothing)
    child.start()
    child.join(LONG)
    assert child.exitcode == 0


def test_what_cannot_be_run_is_an_error_at_once(tmp_path: Path):
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(FileNotFoundError):
        programs.run([str(tmp_path / "nothing")], ())
    plain = tmp_path / "plain"
    plain.write_text("no program")
    plain.chmod(stat.S_IRUSR)
    with pytest.raises(PermissionError):
        programs.run([str(plain)], ())
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_an_interpreter_that_is_not_there_is_an_error_in_start(method: str, tmp_path: Path):
    context: Any = shoal.get_context(method)
    before = spawn.get_executable()
    if method == "forkserver":
        forkserver._forkserver._stop()
    shoal.set_executable(str(tmp_path / "no python"))
    try:
        with pytest.raises(FileNotFoundError, match="no python"):
            context.Process(target=nothing).start()
    finally:
        shoal.set_executable(before)
    child = context.Process(target=nothing)
    child.start()
    child.join(LONG)
    assert child.exitcode == 0
