"""Each deviation that docs/reference/deviations.md describes is as it is described."""

from __future__ import annotations

import multiprocessing.queues
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import shoal
from shoal._runtime import cpus
from shoal.errors import PoolTerminatedError
from shoal.queues import Queue

METHODS = ("fork", "spawn", "forkserver")
PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "deviations.md"
EXCLUSIONS = Path(__file__).with_name("compat") / "exclusions.toml"

methods = pytest.mark.parametrize("method", METHODS)


# --- cpu_count ----------------------------------------------------------------------------------------------------------


def counted(*options: str, **variables: str) -> int:
    program = "import os, shoal; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); print(shoal.cpu_count())"
    line = [sys.executable, *options, "-c", program]
    done = subprocess.run(line, env={**os.environ, **variables}, check=True, capture_output=True, text=True, timeout=60)
    return int(done.stdout)


def test_cpu_count_obeys_the_affinity_mask():
    assert counted() == 1


def test_cpu_count_obeys_the_cgroups_quota(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr(cpus, "cgroup_quota", lambda: 1.5)
    assert shoal.cpu_count() == 2


def test_what_the_user_says_wins_on_every_version():
    assert counted(PYTHON_CPU_COUNT="7") == 7
    assert counted("-X", "cpu_count=5") == 5


# --- daemons ------------------------------------------------------------------------------------------------------------

STUBBORN_DAEMON = """
import multiprocessing.util
import os
import signal
import sys
import time
import shoal
from shoal import popen_fork

def refuse(way, ready):
    if way == "blocks":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    elif way == "ignores":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ready.set()
    while True:
        signal.pause()

def state(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]

if __name__ == "__main__":
    method, way = sys.argv[1:]
    if way != "is stopped":
        popen_fork.DAEMON_SECONDS = 0.2
    context = shoal.get_context(method)
    ready = context.Event()
    process = context.Process(target=refuse, args=(way, ready), daemon=True)
    process.start()
    ready.wait()
    if way == "is stopped":
        os.kill(process.pid, signal.SIGSTOP)
        while state(process.pid) != "T":
            time.sleep(0.001)
    multiprocessing.util.Finalize(None, lambda: print(process.exitcode), exitpriority=-1)
"""


@methods
@pytest.mark.parametrize(
    ("way", "ended_by"),
    [("is stopped", signal.SIGTERM), ("blocks", signal.SIGKILL), ("ignores", signal.SIGKILL)],
)
def test_a_daemon_that_does_not_heed_sigterm_does_not_keep_its_program_from_ending(tmp_path, method, way, ended_by):
    program = tmp_path / "program.py"
    program.write_text(STUBBORN_DAEMON, encoding="utf-8")
    line = [sys.executable, str(program), method, way]
    done = subprocess.run(line, capture_output=True, text=True, timeout=50, check=False)
    assert (done.stdout, done.stderr, done.returncode) == (f"{-ended_by}\n", "", 0)


# --- put ----------------------------------------------------------------------------------------------------------------


@methods
def test_put_raises_for_what_cannot_be_pickled_and_the_queue_goes_on(method):
    queue = shoal.get_context(method).Queue()
    with pytest.raises(TypeError, match="cannot pickle") as caught:
        queue.put({"key": [threading.Lock()]})
    assert "['key'][0]" in "".join(caught.value.__notes__)
    queue.put("next")
    assert queue.get() == "next"


class Forgiving(Queue):
    """As concurrent.futures has it."""

    def __init__(self, context: Any) -> None:
        self.heard: list[tuple[Exception, object]] = []
        super().__init__(ctx=context)

    def _on_queue_feeder_error(self, e: Exception, obj: object) -> None:
        self.heard.append((e, obj))


@methods
def test_an_overridden_hook_is_called_and_put_returns(method):
    queue = Forgiving(shoal.get_context(method))
    item = [threading.Lock()]
    queue.put(item)
    ((error, obj),) = queue.heard
    assert isinstance(error, TypeError)
    assert obj is item
    queue.put("next")
    assert queue.get() == "next"


# --- daemonic pool workers ----------------------------------------------------------------------------------------------


def square(x: int) -> int:
    return x * x


def sum_of_squares(n: int) -> tuple[bool, int]:
    with shoal.Pool(2) as pool:
        return shoal.current_process().daemon, sum(pool.map(square, range(n)))


def start_a_child(results: Any) -> None:
    try:
        shoal.Process(target=square, args=(1,)).start()
    except AssertionError as error:
        results.put(str(error))


@methods
def test_a_pools_worker_may_have_a_pool(method):
    with shoal.get_context(method).Pool(2) as pool:
        assert pool.map(sum_of_squares, [3, 4]) == [(True, 5), (True, 14)]


@methods
def test_any_other_daemon_may_not_have_children(method):
    context = shoal.get_context(method)
    results = context.Queue()
    process = context.Process(target=start_a_child, args=(results,), daemon=True)
    process.start()
    assert results.get() == "daemonic processes are not allowed to have children"
    process.join()


# --- functions by value -------------------------------------------------------------------------------------------------


def adder(n: int) -> Any:
    return lambda x: x + n


@methods
def test_a_task_may_be_a_lambda_and_return_one(method):
    with shoal.get_context(method).Pool(1) as pool:
        assert pool.apply(adder, (3,))(4) == 7
        assert pool.map(lambda x: x + 1, [1, 2]) == [2, 3]
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(adder(3))


# --- locks between contexts ---------------------------------------------------------------------------------------------


def take(lock: Any, queue: Any) -> None:
    queue.put(lock.acquire(block=False))


@methods
def test_a_lock_of_one_context_is_the_same_lock_in_anothers_process(method):
    lock, queue = shoal.get_context("fork").Lock(), shoal.get_context("fork").Queue()
    with lock:
        process = shoal.get_context(method).Process(target=take, args=(lock, queue))
        process.start()
        assert queue.get() is False
        process.join()


# --- pickling and NumPy ---------------------------------------------------------------------------------------------------


def test_a_shared_object_that_was_pickled_is_the_same_object():
    value, lock = shoal.Value("i", 1), shoal.Lock()
    value_again, lock_again = pickle.loads(pickle.dumps((value, lock)))
    value_again.value = 5
    assert value.value == 5
    with lock_again:
        assert not lock.acquire(block=False)


def test_numpys_array_is_a_view_of_the_arrays_own_type():
    numpy = pytest.importorskip("numpy")
    array = shoal.Array("i", 3)
    view = numpy.asarray(array)
    assert view.dtype == numpy.dtype("i")
    view[1] = 7
    assert array[:] == [0, 7, 0]


# --- MD5 ----------------------------------------------------------------------------------------------------------------


def test_hmac_md5_is_refused_without_permission():
    from shoal.connection import AuthenticationError, answer_challenge  # noqa: PLC0415 - beside its only use

    ours, theirs = shoal.Pipe()
    theirs.send_bytes(b"#CHALLENGE#" + bytes(20))  # as Python 3.11 says it: no digest named, which means MD5
    theirs.send_bytes(b"#FAILURE#")
    with pytest.raises(AuthenticationError, match="allow_legacy"):
        answer_challenge(ours, b"key")


# --- pools and barriers ---------------------------------------------------------------------------------------------------


@methods
def test_what_a_terminated_pool_was_asked_for_fails_at_once(method):
    context = shoal.get_context(method)
    with context.Pool(1) as pool:
        result = pool.apply_async(context.Event().wait)
    with pytest.raises(PoolTerminatedError):
        result.get(600)


@pytest.mark.parametrize(("parties", "error"), [(0, ValueError), (-1, ValueError), ("x", TypeError)])
def test_a_barrier_that_nobody_could_pass_is_refused(parties, error):
    with pytest.raises(error):
        shoal.Barrier(parties)


# --- forks and queues -----------------------------------------------------------------------------------------------------


def test_a_fork_beside_a_thread_is_warned_of_on_every_version():
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="a holder of locks")
    thread.start()
    process = shoal.get_context("fork").Process(target=int)
    try:
        with pytest.warns(DeprecationWarning, match="a holder of locks"):
            process.start()
    finally:
        stop.set()
        thread.join()
    process.join()


def test_a_queue_whose_subclass_reaches_into_its_parts_is_the_standard_librarys():
    class Reaching(Queue):
        def backlog(self) -> int:
            return len(self._buffer)

    assert issubclass(Reaching, multiprocessing.queues.Queue)
    assert issubclass(Reaching, Queue)
    assert not issubclass(Queue, multiprocessing.queues.Queue)


# --- the page and the list ----------------------------------------------------------------------------------------------


def test_exclusions_that_are_deviations_have_a_heading_on_the_page():
    headings = set(re.findall(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    named = re.findall(r'kind = "deviation"\nwhy = "(.+)"', EXCLUSIONS.read_text(encoding="utf-8"))
    assert named
    assert set(named) <= headings
