"""Ctrl-C, once and repeatedly: one KeyboardInterrupt in the application, no word from its workers, and nothing is left."""

from __future__ import annotations

import os
import random
import signal
import time
from typing import TYPE_CHECKING

import pytest
from crash_programs import Program
from crash_table import METHODS, SECONDS, Case, each

if TYPE_CHECKING:
    from pathlib import Path

HEAD = """
import threading
import crash_tasks as tasks, pool_tasks
import shoal

def ready():
    print("ready", flush=True)

def main(context):
"""
TAIL = """
if __name__ == "__main__":
    main(shoal.get_context(METHOD))
"""
IN_A_POOL = """
    with context.Pool(2) as pool:
        assert pool.map(pool_tasks.double, range(4)) == [0, 2, 4, 6]
"""
BESIDE_A_CHILD = """
    event = context.Event()
    process = context.Process(target=tasks.wait_quietly, args=(event,), daemon=True)
    process.start()
    event.wait()
"""

CALLS = [
    Case("map", IN_A_POOL + "        ready(); pool.map(tasks.sleep_long, range(4))"),
    Case("apply", IN_A_POOL + "        ready(); pool.apply(tasks.sleep_long)"),
    Case("get", IN_A_POOL + "        ready(); pool.apply_async(tasks.sleep_long).get()"),
    Case("imap", IN_A_POOL + "        ready(); next(pool.imap(tasks.sleep_long, range(4)))"),
    Case(
        "join of a pool", IN_A_POOL + "        pool.apply_async(tasks.sleep_long); pool.close(); ready(); pool.join()"
    ),
    Case("with Pool", IN_A_POOL + "        ready(); tasks.sleep_long()"),
    Case("join of a process", BESIDE_A_CHILD + "    ready(); process.join()"),
    Case("Queue.get", BESIDE_A_CHILD + "    queue = context.Queue(); ready(); queue.get()"),
    Case("Queue.put", BESIDE_A_CHILD + "    queue = context.Queue(1); queue.put(1); ready(); queue.put(2)"),
    Case("Lock.acquire", BESIDE_A_CHILD + "    lock = context.Lock(); lock.acquire(); ready(); lock.acquire()"),
    Case("Event.wait", BESIDE_A_CHILD + "    event.clear(); ready(); event.wait()"),
    Case("recv", BESIDE_A_CHILD + "    ours, theirs = context.Pipe(); ready(); ours.recv()"),
]


def assert_interrupted_once(program: Program, errors: str) -> None:
    assert program.process.returncode in (-signal.SIGINT, 130)
    assert errors.count("Traceback") == 1, errors
    assert errors.rstrip().endswith("KeyboardInterrupt")


@each(CALLS)
def test_ctrl_c_ends_a_program_in(case: Case, method: str, tmp_path: Path) -> None:
    with Program(HEAD + case.act + TAIL, method, tmp_path) as program:
        program.wait_until_ready()
        program.interrupt()
        errors = program.end()
        assert_interrupted_once(program, errors)
        assert "PoolWorker" not in errors
        assert not program.gone_but(set(), SECONDS)
        assert not program.files()


# How a pool is ended does not depend on how its workers were started.
AGAIN = {"map", "get", "imap", "join of a pool", "with Pool"}


@each([Case(case.name, case.act, methods=("fork",)) for case in CALLS if case.name in AGAIN])
def test_ctrl_c_again_and_again_ends_a_program_in(case: Case, method: str, tmp_path: Path) -> None:
    with Program(HEAD + case.act + TAIL, method, tmp_path) as program:
        program.wait_until_ready()
        for pause in (0, 1e-5, 1e-3, 0.05):
            program.interrupt()
            time.sleep(pause)
        errors = program.end()
        assert program.process.returncode in (-signal.SIGINT, 130)
        assert "PoolWorker" not in errors
        assert not program.gone_but(set(), SECONDS)


LEFT_TO_THE_END = """
import time
import crash_tasks
import shoal

def main(context):
    pool = context.Pool(1)
    try:  # the worker may say that it is ready before the call that sent it there is over
        pool.apply_async(crash_tasks.heed_no_termination)  # so that its end takes a second
        time.sleep(60)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


@pytest.mark.parametrize("method", METHODS)
def test_ctrl_c_is_borne_while_a_program_ends_and_its_pool_with_it(method: str, tmp_path: Path) -> None:
    with Program(LEFT_TO_THE_END + TAIL, method, tmp_path) as program:
        program.wait_until_ready()
        program.interrupt()
        assert program.line() == "interrupted"
        time.sleep(0.3)
        for _ in range(3):
            program.interrupt()
            time.sleep(0.1)
        assert program.process.poll() is None  # else nothing was tested
        errors = program.end()
        assert program.process.returncode == 0
        assert errors == ""
        assert not program.gone_but(set(), SECONDS)


HANGING_IMPORT = """
import time
import pool_tasks
import shoal

if __name__ == "__mp_main__":  # in the child that is being started
    print("ready", flush=True)
    time.sleep(60)

def main(context):
"""
HANGING_INITIALIZER = """
import time
import shoal

def hang():
    print("ready", flush=True)
    time.sleep(60)

def main(context):
"""
A_MANAGER = "    shoal.managers.SyncManager(ctx=context).start()"
A_POOL = "    context.Pool(1).apply(pool_tasks.double, (1,))"
STARTS = [
    Case("a manager whose server imports", HANGING_IMPORT + A_MANAGER, methods=("spawn", "forkserver")),
    Case("a pool whose worker imports", HANGING_IMPORT + A_POOL, methods=("spawn", "forkserver")),
    Case("a manager whose server initializes", HANGING_INITIALIZER + A_MANAGER.replace("start()", "start(hang)")),
]


@each(STARTS)
def test_ctrl_c_ends_the_start_of(case: Case, method: str, tmp_path: Path) -> None:
    with Program("import shoal.managers\n" + case.act + TAIL, method, tmp_path) as program:
        program.wait_until_ready()
        program.interrupt()
        errors = program.end()
        assert_interrupted_once(program, errors)
        assert not program.gone_but(set(), SECONDS)
        assert not program.files()


INTERRUPTED_IMPORT = """
import os, signal
import pool_tasks
import shoal
import shoal.managers

if __name__ == "__mp_main__":  # in each child
    os.kill(os.getpid(), signal.SIGINT)

def main(context):
    with context.Pool(1) as pool:
        assert pool.apply(pool_tasks.double, (1,)) == 2
    with context.Manager() as manager:
        assert list(manager.list([1])) == [1]
    process = context.Process(target=pool_tasks.double, args=(1,))
    process.start()
    process.join()
    print("ended" if process.exitcode else "answered nothing", flush=True)
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_while_they_import_workers_and_servers_leave_ctrl_c_to_the_application_and_other_processes_do_not(
    method: str, tmp_path: Path
) -> None:
    with Program(INTERRUPTED_IMPORT + TAIL, method, tmp_path) as program:
        assert program.line() == "ended"
        errors = program.end()
        assert program.process.returncode == 0
        assert "PoolWorker" not in errors
        assert "Manager" not in errors


MANY_THREADS = """
import random, signal, sys, threading, time
import pool_tasks
import shoal

class Rope:
    # Ctrl-C is an exception only where the program is ready for one.
    taut = False
    def pull(self, *_):
        if self.taut:
            raise KeyboardInterrupt

def work(pool, over):
    while not over.is_set():
        pool.map(pool_tasks.double, range(20), chunksize=1)
        pool.apply_async(pool_tasks.double, (1,)).get()
        list(pool.imap(pool_tasks.double, range(5)))

def main(context):
    rope, over, rounds = Rope(), threading.Event(), 0
    signal.signal(signal.SIGINT, rope.pull)
    with context.Pool(2) as pool:
        threads = [threading.Thread(target=work, args=(pool, over)) for _ in range(6)]
        for thread in threads:
            thread.start()
        print("ready", flush=True)
        until = time.monotonic() + 3
        while time.monotonic() < until:
            try:
                rope.taut = True
                assert pool.map(pool_tasks.double, range(20), chunksize=1) == list(range(0, 40, 2))
                assert pool.apply(pool_tasks.double, (4,)) == 8
                assert pool.map_async(pool_tasks.double, range(3)).get() == [0, 2, 4]
                assert list(pool.imap(pool_tasks.double, range(5))) == [0, 2, 4, 6, 8]
                rounds += 1
                rope.taut = False
            except KeyboardInterrupt:
                rope.taut = False
        over.set()
        for thread in threads:
            thread.join()
        assert pool.map(pool_tasks.double, range(5)) == [0, 2, 4, 6, 8]
    print("done", flush=True)

if __name__ == "__main__":
    main(shoal.get_context(METHOD))
"""


@pytest.mark.parametrize("method", METHODS[:1])
def test_ctrl_c_microseconds_apart_in_a_pool_of_many_threads_loses_nothing(method: str, tmp_path: Path) -> None:
    pauses = random.Random(5)
    with Program(MANY_THREADS, method, tmp_path) as program:
        program.wait_until_ready()
        until = time.monotonic() + 3
        while time.monotonic() < until:
            for _ in range(pauses.randint(1, 6)):
                os.kill(program.process.pid, signal.SIGINT)
                time.sleep(pauses.choice([0, 1e-6, 3e-5]))
            time.sleep(pauses.choice([0.002, 0.01]))
        assert program.line() == "done"
        assert not program.end()
