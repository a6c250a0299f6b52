"""What stands over every test is itself put to the test: in a run of its own, with shorter times."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.limit(180)  # runs of pytest, on a machine that may be busy

HEAD = """
import ctypes, os, signal, subprocess, sys, time, psutil, pytest
SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]
"""


def run(directory: Path, tests: str, limit: int = 1) -> tuple[int, str]:
    conftest = Path(__file__).with_name("conftest.py").read_text(encoding="utf-8")
    for name, seconds in {"LIMIT": limit, "GRACE": 1, "FAREWELL": 0.5}.items():
        conftest, found = re.subn(rf"^{name} = [\d.]+", f"{name} = {seconds}", conftest, flags=re.MULTILINE)
        assert found == 1
    (directory / "conftest.py").write_text(conftest, encoding="utf-8")
    (directory / "test_it.py").write_text(HEAD + tests, encoding="utf-8")
    (directory / "pytest.ini").write_text("[pytest]\nmarkers = limit(seconds): time\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", "--import-mode=importlib", directory],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_a_test_that_takes_too_long_fails_and_the_next_one_runs(tmp_path):
    status, output = run(
        tmp_path,
        """
def test_waiting_for_ever():
    while True:
        try:
            time.sleep(60)
        except Exception:
            pass

def test_after():
    pass

@pytest.mark.limit(5)
def test_with_more_time():
    time.sleep(1.2)
""",
    )
    assert status == 1
    assert "watchdog: not done after 1 s" in output
    assert re.search("^FAILED .*test_waiting_for_ever", output, re.MULTILINE)
    assert "1 failed, 2 passed" in output


def test_a_hang_in_native_code_ends_the_run_and_shows_where(tmp_path):
    status, output = run(
        tmp_path,
        """
def test_native_code_that_keeps_the_interpreter():
    mutex = ctypes.create_string_buffer(64)
    for _ in range(2):
        ctypes.PyDLL(None).pthread_mutex_lock(mutex)
""",
    )
    assert status < 0
    assert "in test_native_code_that_keeps_the_interpreter" in output


def test_what_a_test_leaves_behind_is_named_and_ended(tmp_path):
    status, output = run(
        tmp_path,
        """
def test_child():
    pytest.child = subprocess.Popen(SLEEPER)

def test_orphan():
    middle = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']).pid)"
    subprocess.run([sys.executable, "-c", middle], stdout=open("orphan", "w"))

def test_forked_child():
    if os.fork() == 0:
        time.sleep(60)

def test_they_are_gone():
    assert pytest.child.wait(0) == -(signal.SIGRTMAX - 2)
    try:
        assert psutil.Process(int(open("orphan").read())).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        pass

def test_child_that_ends_in_time():
    subprocess.Popen([sys.executable, "-c", ""])

@pytest.fixture(scope="module")
def server():
    with subprocess.Popen(SLEEPER) as process:
        yield process
        process.kill()

def test_child_of_the_module(server):
    pass
""",
        limit=20,
    )
    assert status == 1
    for name in ("child", "orphan", "forked_child"):
        assert re.search(rf"^ERROR .*::test_{name} - Failed: left behind", output, re.MULTILINE), output
    assert "6 passed, 3 errors" in output, output
    assert "in test_forked_child" in output, "it writes where it stood"


def test_descriptors_left_open_are_named(tmp_path):
    status, output = run(
        tmp_path,
        """
def test_leak(descriptors_steady):
    os.open("/dev/null", os.O_RDONLY)

def test_warm_up(descriptors_steady):
    os.open("/dev/zero", os.O_RDONLY)
    descriptors_steady()
    os.close(os.open("/dev/null", os.O_RDONLY))
""",
        limit=20,
    )
    assert status == 1
    assert re.search(r"descriptors left open: \d+ -> /dev/null", output)
    assert "2 passed, 1 error" in output
