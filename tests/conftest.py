"""What every test stands under: a watchdog, and a look at what the test left behind.

The watchdog is a pair of POSIX timers, because it must end a test whose native code neither returns nor lets another thread run,
and because it must not be seen: a watchdog thread would make every fork in a test a fork beside a thread (about which shoal and the
interpreter warn), and a forked child that leaves through the interpreter's own exit waits for that thread for ever. Timers are not
inherited by a fork.

The first timer fails the test in the ordinary way, from a signal handler. If that gets no hearing, the second has the tracebacks of
all threads written by a C handler that needs no interpreter, and ends the whole run.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import filecmp
import gc
import importlib.util
import os
import select
import signal
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shoal.pool import Pool

LIMIT = 60.0  # seconds for one test with its fixtures, unless it is marked @pytest.mark.limit(seconds)
GRACE = 15.0  # seconds from the first timer to the second
FAREWELL = 5.0  # seconds that a process started by a test has to end after it

FAIL = signal.SIGRTMAX - 1
END = signal.SIGRTMAX - 2

SOURCE = Path(__file__).resolve().parent.parent / "src" / "shoal"

# Speed is measured in benchmarks/, never asserted in a test.
hypothesis.settings.register_profile("shoal", deadline=None)
hypothesis.settings.load_profile("shoal")


# --- which shoal is tested ----------------------------------------------------------------------------------------------


def installed() -> Path:
    spec = importlib.util.find_spec("shoal")
    if spec is None or spec.origin is None:
        pytest.exit("shoal is not installed in this environment: run `make dev` first", returncode=4)
    return Path(spec.origin).parent


def pytest_report_header() -> str:
    return f"shoal: {metadata.version('shoal')} in {installed()}"


def pytest_sessionstart() -> None:
    place = installed()
    if place == SOURCE:
        return
    for path in SOURCE.rglob("*.py"):
        copy = place / path.relative_to(SOURCE)
        if not copy.exists() or not filecmp.cmp(path, copy, shallow=False):
            what = f"{path} is not what is installed in {place}"
            pytest.exit(f"{what}: run `make dev` (then Python is taken from src/) or `make test`", returncode=4)


# --- the watchdog -------------------------------------------------------------------------------------------------------


class SignalEvent(ctypes.Structure):
    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signo", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("rest", ctypes.c_char * 48),
    )


class TimerTimes(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_long) for name in ("every_s", "every_ns", "after_s", "after_ns"))


class Timer:
    """Sends this process a signal, once, some time after it was set."""

    libc = ctypes.CDLL(None, use_errno=True)

    def __init__(self, number: int) -> None:
        event = SignalEvent(signo=number, notify=0)  # SIGEV_SIGNAL: to the process, no thread involved
        self.handle = ctypes.c_void_p()
        self.call("timer_create", ctypes.c_int(time.CLOCK_MONOTONIC), ctypes.byref(event), ctypes.byref(self.handle))

    def set(self, seconds: float) -> None:
        whole = int(seconds)
        times = TimerTimes(after_s=whole, after_ns=int((seconds - whole) * 1e9))
        self.call("timer_settime", self.handle, ctypes.c_int(0), ctypes.byref(times), None)

    def call(self, function: str, *arguments: object) -> None:
        if getattr(self.libc, function)(*arguments) != 0:
            raise OSError(ctypes.get_errno(), function)


class Watchdog:
    def __init__(self) -> None:
        # Descriptor 2 is pytest's to redirect while a test runs; this one stays what it was.
        faulthandler.register(END, file=os.dup(2), all_threads=True, chain=True)
        signal.signal(FAIL, self.fail)
        self.first, self.second = Timer(FAIL), Timer(END)
        self.seconds = LIMIT

    def watch(self, seconds: float) -> None:
        self.seconds = seconds
        self.first.set(seconds)
        self.second.set(seconds + GRACE)

    def rest(self) -> None:
        self.first.set(0)
        self.second.set(0)

    def fail(self, _number: int, _frame: object) -> None:
        self.second.set(GRACE)  # for what remains: the teardown of its fixtures
        pytest.fail(f"watchdog: not done after {self.seconds:g} s")


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):  # pytest-xdist: another worker's orphans are not this one's (see `related`)
        os.setpgid(0, 0)
    config.stash[WATCHDOG] = Watchdog()


WATCHDOG = pytest.StashKey[Watchdog]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item):
    marker = item.get_closest_marker("limit")
    watchdog = item.config.stash[WATCHDOG]
    watchdog.watch(float(marker.args[0]) if marker else LIMIT)
    try:
        return (yield)
    finally:
        watchdog.rest()


# --- processes left behind ----------------------------------------------------------------------------------------------


def related() -> set[psutil.Process]:
    """Our descendants, and the orphans among them: in our process group, with a parent outside of it."""
    me = psutil.Process()
    found = set(me.children(recursive=True))
    for pid in psutil.pids():
        try:
            if pid != me.pid and os.getpgid(pid) == os.getpgrp():
                process = psutil.Process(pid)
                if process.create_time() >= me.create_time() and os.getpgid(process.ppid()) != os.getpgrp():
                    found.add(process)
        except (psutil.NoSuchProcess, ProcessLookupError):
            continue
    return found


def is_server(process: psutil.Process) -> bool:
    line = " ".join(process.cmdline())
    return "import main" in line and ("forkserver" in line or "resource_tracker" in line)


def is_in_reserve(process: psutil.Process) -> bool:
    """Tell a fork server's child that nobody has asked for yet: it has not attached to an arena."""
    return not any("memfd:shoal" in mapped.path for mapped in process.memory_maps(grouped=False))


def may_stay(process: psutil.Process) -> bool:
    """The arena's watcher, a fork server (of its children, whose command line is the same, the one in reserve), and what has ended."""
    try:
        if process.name() == "shoal-watcher" or process.status() == psutil.STATUS_ZOMBIE:
            return True
        parent = process.parent()
        return is_server(process) and (not (parent and is_server(parent)) or is_in_reserve(process))
    except psutil.NoSuchProcess:
        return True


def ended(process: psutil.Process, deadline: float) -> bool:
    """Waits for its end without reaping it: the exit status belongs to whoever started it."""
    try:
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000)) or not process.is_running()
    finally:
        os.close(pidfd)


def describe(process: psutil.Process) -> str:
    try:
        with process.oneshot():
            age = time.time() - process.create_time()
            line = " ".join(process.cmdline())
            return f"{process.pid} (child of {process.ppid()}, {process.status()}, {age:.1f} s old): {line}"
    except psutil.NoSuchProcess:
        return f"{process.pid} (ended meanwhile)"


@pytest.fixture(scope="session")
def keepers() -> list[Callable[[], set[int]]]:
    """Where a fixture that keeps processes beyond a test puts what names their pids."""
    return []


@pytest.fixture(autouse=True)
def _no_process_left_behind(keepers: list[Callable[[], set[int]]]):
    before = related()
    yield

    def is_kept(process: psutil.Process) -> bool:
        return any(process.pid in keeper() for keeper in keepers)

    left = [process for process in related() - before if not is_kept(process) and not may_stay(process)]
    if not left:
        return
    gc.collect()
    deadline = time.monotonic() + FAREWELL
    # Asked again: a worker that was just being started when the test ended belongs to its pool by now.
    left = [process for process in left if not ended(process, deadline) and not is_kept(process)]
    if not left:
        return
    names = "\n  ".join(describe(process) for process in left)
    for process in left:
        # A forked child shares our handler, and writes where it stands before it ends.
        process.send_signal(END)
    deadline = time.monotonic() + 1
    for process in left:
        if not ended(process, deadline):
            process.kill()
    pytest.fail(f"left behind, {FAREWELL:g} s after the test:\n  {names}", pytrace=False)


# --- descriptors --------------------------------------------------------------------------------------------------------


def descriptors() -> set[tuple[int, str]]:
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one of this very listing
            found.add((int(entry.name), str(entry.readlink())))
    return found


@pytest.fixture
def descriptors_steady():
    """Fails the test if it leaves descriptors open. Calling it starts the count again, after a warm-up."""
    before = descriptors()

    def start_here() -> None:
        before.clear()
        before.update(descriptors())

    yield start_here
    gc.collect()
    more = sorted(descriptors() - before)
    assert not more, "descriptors left open: " + ", ".join(f"{number} -> {target}" for number, target in more)


# --- pools --------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["processes", "threads"])
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    """A pool of two, of either kind: what it promises does not depend on what its workers are."""
    import shoal  # noqa: PLC0415 - where it is not installed, the run has been ended by then
    from shoal.pool import ThreadPool  # noqa: PLC0415

    make: Callable[[int], Pool] = ThreadPool if request.param == "threads" else shoal.get_context("fork").Pool
    with make(2) as pool:
        yield pool
    pool.join()
