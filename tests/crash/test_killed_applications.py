"""An application that is killed takes with it what it said is its own: pool workers, daemons, fork servers, and theirs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from crash_programs import Program, refused
from crash_table import METHODS, SECONDS, Case, each

HEAD = """
import json, os, sys, threading, time
import crash_tasks as tasks, pool_tasks
import shoal
from shoal.pool import Pool

def survivors(*pids):
    print(json.dumps(pids), flush=True)

def main(context):
"""
TAIL = """
    survivors()
    print("ready", flush=True)
    time.sleep(60)

if __name__ == "__main__":
    main(shoal.get_context(METHOD))
"""

POOL_AT_WORK = """
    pool = context.Pool(2)
    result = pool.map_async(tasks.sleep_long, range(10), chunksize=1)
    time.sleep(0.1)
"""
IDLE_POOL = """
    pool = context.Pool(2)
    assert pool.map(pool_tasks.double, range(10)) == list(range(0, 20, 2))
"""
DAEMON = """
    event = context.Event()
    process = context.Process(target=tasks.say_ready, args=(event,), daemon=True)
    process.start()
    event.wait()
"""
DEPENDENT = """
    event = context.Event()
    process = context.Process(target=tasks.say_ready, args=(event,), die_with_parent=True)
    process.start()
    event.wait()
"""
FAMILY = """
    pids = context.SimpleQueue()
    process = context.Process(target=tasks.start_sleepers, args=(METHOD, pids), kwargs={"die_with_parent": True},
                              die_with_parent=True)
    process.start()
    pids.get()
"""
NESTED = """
    event = context.Event()
    pool = context.Pool(1)
    result = pool.apply_async(tasks.nest, (METHOD, 2, event))
    event.wait()
"""
OF_NO_DAEMONS = """
    class Worker(context.Process):
        daemon = property(lambda self: False, lambda self, value: None)
    class Context(type(context)):
        pass
    Context.Process = Worker
    pool = Pool(2, context=Context())
    result = pool.map_async(tasks.sleep_long, range(10), chunksize=1)
    time.sleep(0.1)
"""
LISTENER = """
    from shoal.connection import Listener
    listener = Listener()
"""
MANAGER = """
    manager = context.Manager()
    proxy = manager.dict()
"""
DESCRIPTORS = """
    from shoal.reduction import DupFd
    kept = DupFd(0)
"""
LISTENING_DAEMON = """
    event = context.Event()
    process = context.Process(target=tasks.listen, args=(event,), daemon=True)
    process.start()
    event.wait()
"""

APPLICATIONS = [
    Case("a listener", LISTENER),
    Case("a manager", MANAGER),
    Case("a descriptor to be fetched", DESCRIPTORS),
    Case("a daemon that listens", LISTENING_DAEMON),
    Case("a pool at work", POOL_AT_WORK),
    Case("an idle pool", IDLE_POOL),
    Case("a daemon", DAEMON),
    Case("a process that was told to die with its parent", DEPENDENT),
    Case("a child with a daemon and a dependent of its own", FAMILY),
    Case("pools three deep", NESTED),
    Case("a pool of workers that say they are no daemons", OF_NO_DAEMONS, methods=("fork",)),
]
MAKES_FILES = {LISTENER, MANAGER, DESCRIPTORS, LISTENING_DAEMON}


def assert_nothing_is_left(program: Program, survivors: set[int] = frozenset()) -> None:
    assert not program.gone_but(survivors, SECONDS)
    assert not program.files()


@each(APPLICATIONS)
def test_a_killed_application_leaves_nothing(case: Case, method: str, tmp_path: Path) -> None:
    with Program(HEAD + case.act + TAIL, method, tmp_path) as program:
        program.line()
        program.wait_until_ready()
        assert bool(program.files()) == (case.act in MAKES_FILES)
        program.kill()
        assert_nothing_is_left(program)


WITHOUT_WATCHERS = """
    tasks.kill_watchers()
"""
STARTED_BY_A_THREAD = """
    started, go_on, alive = context.Event(), context.Event(), context.Event()
    def start():
        context.Process(target=tasks.say_when_told, args=(started, go_on, alive), die_with_parent=True).start()
    thread = threading.Thread(target=start)
    thread.start()
    task = f"/proc/self/task/{thread.native_id}"
    thread.join()
    started.wait()
    while os.path.exists(task):
        time.sleep(0.001)
    go_on.set()
    assert alive.wait(20)
"""  # the kernel tells the child of the thread's end, which is not to be that of the child

UNWATCHED = [
    *(case for case in APPLICATIONS if case.act not in MAKES_FILES),
    Case("a manager", "    manager = context.Manager()"),
    Case("a process that a thread has started, which has ended", STARTED_BY_A_THREAD),
]


@each(UNWATCHED)
def test_a_killed_application_leaves_no_process_though_both_watchers_were_killed_before(
    case: Case, method: str, tmp_path: Path
) -> None:
    with Program(HEAD + case.act + WITHOUT_WATCHERS + TAIL, method, tmp_path) as program:
        program.line()
        program.wait_until_ready()
        program.kill()
        assert_nothing_is_left(program)


UNWATCHED_BLOCK = """
    from shoal.shared_memory import SharedMemory
    block = SharedMemory(create=True, size=10)
    print(block.name, flush=True)
"""


@each([Case("an idle pool", IDLE_POOL), Case("a process that was told to die with its parent", DEPENDENT)])
def test_nor_does_it_leave_named_memory_if_there_was(case: Case, method: str, tmp_path: Path) -> None:
    """Who notices the end of the application starts a watcher, which looks after the rest."""
    with Program(HEAD + UNWATCHED_BLOCK + case.act + WITHOUT_WATCHERS + TAIL, method, tmp_path) as program:
        block = Path("/dev/shm", program.line())  # noqa: S108 - where named memory lies
        program.line()
        program.wait_until_ready()
        program.kill()
        assert_nothing_is_left(program)
        assert not block.exists()


NAMED_MEMORY = """
import crash_tasks as tasks
from shoal.shared_memory import SharedMemory

block = SharedMemory(create=True, size=10)
tasks.kill_watchers()
print(block.name, flush=True)
"""


def test_named_memory_goes_though_the_watcher_and_its_stand_by_were_killed_at_once(tmp_path: Path) -> None:
    with Program(NAMED_MEMORY, "", tmp_path) as program:
        name = program.line()
        assert not program.end()
        assert not program.gone_but(set(), SECONDS)
        assert not Path("/dev/shm", name).exists()  # noqa: S108 - where named memory lies


PLAIN_CHILD = """
    event = context.Event()
    process = context.Process(target=tasks.say_ready, args=(event,))
    process.start()
    event.wait()
    survivors(process.pid)
"""  # the daemon tells when the death of the application has been dealt with


@each([Case("a process that is no daemon", DAEMON + PLAIN_CHILD)])
def test_of_a_killed_application_lives_on(case: Case, method: str, tmp_path: Path) -> None:
    with Program(HEAD + case.act + TAIL, method, tmp_path) as program:
        lasting = set(json.loads(program.line()))
        program.line()
        program.wait_until_ready()
        program.kill()
        program.process.wait()
        assert not program.gone_but(lasting, SECONDS, servers=True)
        assert lasting <= set(program.others())


def namespace() -> tuple[str, ...]:
    return ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc")


@pytest.mark.parametrize("method", METHODS)
def test_as_the_first_process_of_a_namespace_too(method: str, tmp_path: Path) -> None:
    if why := refused([*namespace(), "true"]):
        pytest.skip(f"no process namespace can be made here: {why}")
    with Program(HEAD + POOL_AT_WORK + DAEMON + TAIL, method, tmp_path, namespace()) as program:
        program.line()
        program.wait_until_ready()
        first = next(pid for pid, line in program.others().items() if "program.py" in line and "unshare" not in line)
        assert len(program.others()) > 3
        program.kill()
        assert first
        assert_nothing_is_left(program)


NAMED = """
import os, signal, sys
import shoal
import crash_tasks as tasks
from shoal.shared_memory import SharedMemory

def listening_daemon():
    context = shoal.get_context(METHOD)
    event = context.Event()
    context.Process(target=tasks.listen, args=(event,), daemon=True).start()
    event.wait()

if __name__ == "__main__":
    block = SharedMemory(create=True, size=10)
    print(block.name, flush=True)
"""  # which nobody unlinks
IN_A_NAMESPACE = """
    listening_daemon()
    assert os.getpid() == 1
"""

ORDERLY_ENDS = [
    Case("has run to its end", "", 0),
    Case("calls sys.exit", "sys.exit(3)", 3),
    Case("raises", "raise LookupError", 1),
    Case("is interrupted", "signal.raise_signal(signal.SIGINT)", 130),
]


@each(ORDERLY_ENDS)
def test_named_memory_and_sockets_go_with_the_first_process_of_a_namespace_that(
    case: Case, method: str, tmp_path: Path
) -> None:
    """Its watcher goes with it, before it could take them away."""
    if why := refused([*namespace(), "true"]):
        pytest.skip(f"no process namespace can be made here: {why}")
    with Program(NAMED + IN_A_NAMESPACE + "    " + case.act, method, tmp_path, namespace()) as program:
        block = Path("/dev/shm", program.line())  # noqa: S108 - where named memory lies
        errors = program.end()
        assert program.process.returncode == case.outcome, errors
        assert_nothing_is_left(program)
        assert not block.exists()


UNSHARE = """
import ctypes, os, sys

def forked_as_the_first():
    CLONE_NEWUSER, CLONE_NEWPID = 0x10000000, 0x20000000
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER | CLONE_NEWPID) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    return os.fork()
"""
ONE_OF_THE_TREE = """
from shoal.shared_memory import SharedMemory

block = SharedMemory(create=True, size=10)
print(block.name, flush=True)
first = forked_as_the_first()
if first == 0:
    sys.exit(os.getpid() != 1)
assert os.waitpid(first, 0)[1] == 0
print(os.path.exists(f"/dev/shm/{block.name}"), flush=True)
"""
THE_FOUNDER = """
ready, told = os.pipe(), os.pipe()
middle = os.fork()
if middle == 0:
    first = forked_as_the_first()
    if first != 0:
        os.write(ready[1], f" {first} ".encode())
        os._exit(os.waitpid(first, 0)[1] != 0)
    from shoal.shared_memory import SharedMemory
    block = SharedMemory(create=True, size=10)
    print(block.name, flush=True)
    os.write(ready[1], f" {block.name} ".encode())
    os.read(told[0], 1)
    sys.exit(os.getpid() != 1)

said = os.read(ready[0], 100).decode()
while len(words := said.split()) < 2:
    said += os.read(ready[0], 100).decode()
first, name = sorted(words)
from shoal._runtime import relatives
place = f"/proc/{first}/fd/"
number = next(fd for fd in os.listdir(place) if relatives._target(place + fd) == relatives.ARENA)
relatives.attach_found(relatives.open_arena(place + number), (int(first), int(number)))
os.write(told[1], b"!")
assert os.waitpid(middle, 0)[1] == 0
print(os.path.exists(f"/dev/shm/{name}"), flush=True)
"""  # and a process beyond has joined it

BEYOND = [
    Case("is one of the tree", ONE_OF_THE_TREE, ()),
    Case("is one of a tree that is in a namespace itself", ONE_OF_THE_TREE, namespace()),
    Case("has begun the tree", THE_FOUNDER, ()),
]


@pytest.mark.parametrize("case", BEYOND, ids=lambda case: case.name)
def test_named_memory_of_a_tree_beyond_a_namespace_stays_when_its_first_process_ends_that(
    case: Case, tmp_path: Path
) -> None:
    if why := refused([*namespace(), "true"]):
        pytest.skip(f"no process namespace can be made here: {why}")
    with Program(UNSHARE + case.act, "", tmp_path, case.outcome) as program:
        block = Path("/dev/shm", program.line())  # noqa: S108 - where named memory lies
        assert program.line() == "True"
        assert not program.end()
        assert_nothing_is_left(program)
        if case.act is THE_FOUNDER:
            block.unlink(missing_ok=True)  # numbers of two namespaces: who watches over one cannot watch over the other
        assert not block.exists()


MOMENTS = 6  # spread over the time that the program takes to get ready


@pytest.mark.parametrize("method", METHODS)
def test_killed_while_it_starts_processes_it_leaves_nothing_either(method: str, tmp_path: Path) -> None:
    source = HEAD + DAEMON + POOL_AT_WORK + TAIL
    place = tmp_path / "whole"
    place.mkdir()
    with Program(source, method, place) as program:
        program.line()
        needed = program.wait_until_ready()
        program.kill()
        assert_nothing_is_left(program)
    for moment in range(MOMENTS):
        place = tmp_path / str(moment)
        place.mkdir()
        with Program(source, method, place) as program:
            program.process.poll()
            program.gone_but(set(), needed * (0.3 + 0.7 * moment / MOMENTS))
            program.kill()
            assert_nothing_is_left(program)
