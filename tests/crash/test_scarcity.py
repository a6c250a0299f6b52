"""Where memory, descriptors, processes or disk run out, or signals rain: a typed error at the call, nothing lost, and later calls work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from crash_programs import Program, refused
from crash_table import Case, each

if TYPE_CHECKING:
    from pathlib import Path

HEAD = """
import errno, gc, os, resource, signal, threading, time
import crash_tasks as tasks, pool_tasks
import shoal

def limit(what, number):
    resource.setrlimit(what, (number, resource.getrlimit(what)[1]))

def raised(kinds, call, *arguments):
    try:
        call(*arguments)
    except kinds as error:
        return error
    raise AssertionError("nothing was raised")

def works(context):
    with context.Pool(2) as pool:
        assert pool.map(pool_tasks.double, range(50)) == list(range(0, 100, 2))
    queue = context.Queue()
    process = context.Process(target=tasks.put_bytes, args=(queue, 100_000))
    process.start()
    assert len(queue.get()) == 100_000
    process.join()
    assert process.exitcode == 0
    lock = context.Lock()
    with lock:
        pass

def main(context):
"""
TAIL = """
    works(context)
    print("ready", flush=True)

if __name__ == "__main__":
    main(shoal.get_context(METHOD))
"""

ARENA_FULL = """
    os.environ["SHOAL_ARENA_LIMIT"] = str(48 << 20)
    queue = context.Queue()
    while True:
        try:
            queue.put(bytes(1 << 20))
        except MemoryError as error:
            assert "SHOAL_ARENA_LIMIT" in str(error)
            break
    queue.put("small things go on")
    count = 0
    while isinstance(queue.get(), bytes):
        count += 1
    assert count > 30
    queue.put(bytes(1 << 20))
    assert len(queue.get()) == 1 << 20
    pool = context.Pool(2)
    assert raised(MemoryError, pool.apply, len, (bytes(100 << 20),))
    assert raised(shoal.pool.MaybeEncodingError, pool.apply, bytes, (100 << 20,))
    assert pool.apply(bytes, (1 << 20,)) == bytes(1 << 20)
    pool.terminate()
    pool.join()
    locks = []
    assert raised(MemoryError, lambda: [locks.append(context.Lock()) for _ in range(1 << 20)])
    del locks[:]
"""
NO_DESCRIPTORS = """
    context.Lock(); works(context)
    had = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    limit(resource.RLIMIT_NOFILE, 60)
    pipes = []
    assert raised(OSError, lambda: [pipes.append(context.Pipe()) for _ in range(100)]).errno == errno.EMFILE
    ballast = []
    def fill():
        gc.collect()
        assert raised(OSError, lambda: [ballast.append(os.dup(0)) for _ in range(100)]).errno == errno.EMFILE
    before = shoal.active_children()
    for call in (context.Pipe, context.Process(target=pool_tasks.double, args=(1,)).start, lambda: context.Pool(2)):
        fill()
        number = raised(OSError, call).errno
        assert number == errno.EMFILE, number
    queue = context.Queue()
    queue.put(bytes(100_000))
    assert len(queue.get()) == 100_000
    pipes[0][0].send("held ones work")
    assert pipes[0][1].recv() == "held ones work"
    assert shoal.active_children() == before
    for number in ballast:
        os.close(number)
    del pipes
    limit(resource.RLIMIT_NOFILE, had)
"""
NO_PROCESSES = """
    works(context)
    tasks.be_bound_by_limits()
    pool = context.Pool(2)
    assert pool.map(pool_tasks.double, range(4)) == [0, 2, 4, 6]
    had = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    limit(resource.RLIMIT_NPROC, 1)
    if METHOD != "forkserver":  # there it is the server that forks, and it has kept its privileges
        for call in (context.Process(target=pool_tasks.double, args=(1,)).start, lambda: context.Pool(2)):
            error = raised(OSError, call)
            assert error.errno == errno.EAGAIN, error
    assert pool.map(pool_tasks.double, range(4)) == [0, 2, 4, 6]
    limit(resource.RLIMIT_NPROC, had)
    pool.terminate()
    pool.join()
"""
SIGNALS = """
    rung = 0
    def ring(*_):
        nonlocal rung
        rung += 1
    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    until = time.monotonic() + 1
    queue, event, lock = context.Queue(1), context.Event(), context.Lock()
    ours, theirs = context.Pipe()
    while time.monotonic() < until:
        process = context.Process(target=tasks.answer, args=(queue, theirs, event, lock))
        lock.acquire()
        event.clear()
        process.start()
        assert queue.get() == 1
        assert queue.get() == 2
        assert ours.recv() == 3
        time.sleep(0.02)
        lock.release()
        event.wait()
        process.join()
        with context.Pool(2) as pool:
            assert pool.map(pool_tasks.pid_after, [0.01] * 4)
            assert pool.apply(pool_tasks.double, (2,)) == 4
            assert pool.apply_async(pool_tasks.double, (2,)).get() == 4
            assert list(pool.imap(pool_tasks.double, range(3))) == [0, 2, 4]
            pool.close()
            pool.join()
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert rung > 10
"""
LITTLE_ADDRESS_SPACE = """
    limit(resource.RLIMIT_AS, 2 << 30)
    queue = context.Queue()
    for _ in range(5):
        queue.put(bytes(20 << 20))
    for _ in range(5):
        assert len(queue.get()) == 20 << 20
    assert raised(MemoryError, lambda: queue.put(bytes(3 << 30)))
    pool = context.Pool(2)
    assert pool.map(bytes, [10 << 20] * 4) == [bytes(10 << 20)] * 4
    assert raised((MemoryError, shoal.pool.MaybeEncodingError), pool.apply, bytes, (3 << 30,))
    assert pool.apply(pool_tasks.double, (1,)) == 2
    pool.terminate()
    pool.join()
"""

SCARCE = [
    Case("the arena is full", ARENA_FULL),
    Case("there are no descriptors", NO_DESCRIPTORS),
    Case("forks are refused", NO_PROCESSES),
    Case("a signal comes every millisecond", SIGNALS),
    Case("there are 2 GiB of address space", LITTLE_ADDRESS_SPACE),
]


@each(SCARCE)
def test_errors_are_typed_and_later_calls_work_when(case: Case, method: str, tmp_path: Path) -> None:
    with Program("import shoal.pool\n" + HEAD + case.act + TAIL, method, tmp_path) as program:
        program.wait_until_ready()
        assert not program.end()
        assert not program.gone_but(set(), 20)


# --- file systems without room ------------------------------------------------------------------------------------------------

MOUNT = ("unshare", "--mount", "--map-root-user")
FULL_DISK = """
    full = os.environ["TMPDIR"]
    assert os.system(f"mount -t tmpfs -o size=16k none {full}") == 0
    try:
        with open(f"{full}/ballast", "wb") as file:
            file.write(bytes(1 << 20))
    except OSError as error:
        assert error.errno == errno.ENOSPC
"""
SMALL_SHM = """
    assert os.system("mount -t tmpfs -o size=64m none /dev/shm") == 0
    queue = context.Queue()
    queue.put(bytes(100 << 20))
    assert len(queue.get()) == 100 << 20
    with context.Pool(2) as pool:
        assert list(map(len, pool.map(bytes, [40 << 20] * 4))) == [40 << 20] * 4
"""

FILE_SYSTEMS = [Case("TMPDIR is full", FULL_DISK), Case("shared memory by name has 64 MiB", SMALL_SHM)]


@each(FILE_SYSTEMS)
def test_everything_works_where(case: Case, method: str, tmp_path: Path) -> None:
    if why := refused([*MOUNT, "mount", "-t", "tmpfs", "none", "/mnt"]):
        pytest.skip(f"nothing can be mounted here: {why}")
    with Program(HEAD + case.act + TAIL, method, tmp_path, MOUNT) as program:
        program.wait_until_ready()
        assert not program.end()
