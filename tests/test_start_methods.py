"""How processes are started, as far as it is shoal's own: what `Process` adds, what its messages say, and which programs it runs."""

from __future__ import annotations

import multiprocessing.connection
import os
import pickle
import py_compile
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any

import pytest

import shoal
from shoal import errors, forkserver
from shoal.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

METHODS = ("fork", "spawn", "forkserver")


@pytest.fixture(autouse=True)
def own_server() -> Iterator[None]:
    """A fork server with this test's standard streams, which ends with it."""
    forkserver._forkserver._stop()
    yield
    forkserver._forkserver._stop()


class Holder:
    def __init__(self, handle: Any) -> None:
        self.handle = handle


def exit_with(code: int) -> None:
    sys.exit(code)


def who_am_i(queue: Any) -> None:
    mine, theirs = shoal.current_process(), multiprocessing.current_process()
    queue.put((mine is theirs, mine.name, shoal.parent_process().pid, shoal.parent_process().is_alive()))


def wait_for(event: Any) -> None:
    event.wait(60)


def run_program(path: Path, source: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    path.write_text(textwrap.dedent(source), encoding="utf-8")
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=50, check=False, cwd=path.parent
    )


@pytest.mark.parametrize("method", METHODS)
def test_the_standard_library_knows_a_shoal_child(method: str):
    context = shoal.get_context(method)
    queue = context.SimpleQueue()
    process = context.Process(target=who_am_i, args=(queue,), name="me")
    process.start()
    assert queue.get() == (True, "me", os.getpid(), True)
    process.join()
    assert isinstance(process, multiprocessing.process.BaseProcess)
    assert isinstance(context, multiprocessing.context.BaseContext)


@pytest.mark.parametrize("method", METHODS)
def test_the_sentinel_is_readable_once_the_child_is_killed(method: str):
    context = shoal.get_context(method)
    process = context.Process(target=wait_for, args=(context.Event(),))
    process.start()
    assert not multiprocessing.connection.wait([process.sentinel], 0)
    os.kill(process.pid, signal.SIGKILL)
    assert multiprocessing.connection.wait([process.sentinel], 60) == [process.sentinel]
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("method", METHODS)
def test_interrupt_raises_keyboard_interrupt_in_the_child(method: str, capfd: pytest.CaptureFixture[str]):
    context = shoal.get_context(method)
    ready, never = context.Event(), context.Event()
    process = context.Process(target=announce_and_wait, args=(ready, never))
    process.start()
    ready.wait(60)
    process.interrupt()
    process.join()
    assert process.exitcode == 1
    assert "KeyboardInterrupt" in capfd.readouterr().err


def announce_and_wait(ready: Any, never: Any) -> None:
    ready.set()
    never.wait(60)


def sleep_on() -> None:
    while True:  # a signal that comes just before a sleep is heard after it
        time.sleep(0.01)


@pytest.mark.parametrize("method", METHODS)
def test_an_interrupt_right_after_the_start_is_not_lost(method: str):
    for _ in range(5):
        process = shoal.get_context(method).Process(target=sleep_on)
        process.start()
        process.interrupt()
        process.join()
        assert process.exitcode in {1, -signal.SIGINT}  # the latter before an interpreter has its handler


# A hook of the fork is what raises in vain: the interpreter ignores what comes out of it.
INTERRUPTED_FORK = """
    import os
    import signal
    import sys
    import time
    import shoal

    def interrupt():
        os.kill(os.getpid(), signal.SIGINT)

    def blocked():
        return signal.pthread_sigmask(signal.SIG_BLOCK, ())

    class Replaced(shoal.Process):
        def _bootstrap(self, parent_sentinel=None):
            return super()._bootstrap(parent_sentinel)

    if __name__ == "__main__":
        where, kind = sys.argv[1:]
        context = shoal.get_context("fork")
        sibling = context.Process(target=time.sleep, args=(60,), daemon=True)
        sibling.start()
        os.register_at_fork(**{where: interrupt})
        kind = context.Process if kind == "plain" else Replaced
        process = kind(target=time.sleep, args=(60,))
        try:
            process.start()
            process.join()
            print("ended", process.exitcode)
        except KeyboardInterrupt:
            print("interrupted", process.pid)
        print(sibling.is_alive(), blocked())
"""


@pytest.mark.parametrize("kind", ["plain", "replaced"])
@pytest.mark.parametrize(("where", "told"), [("after_in_child", "ended 1"), ("before", "interrupted None")])
def test_an_interrupt_during_the_fork_reaches_whom_it_was_sent_to(tmp_path: Path, where: str, told: str, kind: str):
    done = run_program(tmp_path / "program.py", INTERRUPTED_FORK, "program.py", where, kind)
    assert (done.stdout, done.returncode) == (f"{told}\nTrue set()\n", 0), done.stderr


def tell_blocked(queue: Any) -> None:
    queue.put(signal.pthread_sigmask(signal.SIG_BLOCK, ()))


@pytest.mark.parametrize("blocked", [(), (signal.SIGUSR1,), (signal.SIGINT, signal.SIGUSR1)])
def test_a_child_blocks_what_its_parent_blocks(blocked: tuple[signal.Signals, ...]):
    context = shoal.get_context("fork")
    queue = context.SimpleQueue()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    try:
        process = context.Process(target=tell_blocked, args=(queue,))
        process.start()
        assert queue.get() == signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    process.join()


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_what_cannot_be_pickled_raises_in_start_with_the_path_and_leaves_nothing(method: str):
    process = shoal.get_context(method).Process(target=exit_with, args=(Holder(threading.Lock()),), kwargs={"x": 1})
    with pytest.raises(TypeError, match=r"cannot pickle '_thread\.lock'") as caught:
        process.start()
    assert caught.value.__notes__[0].startswith("args[0].handle: cannot pickle")
    assert process.pid is None
    assert shoal.active_children() == []


@pytest.mark.parametrize("method", METHODS)
def test_a_lambda_is_a_target(method: str):
    process = shoal.get_context(method).Process(target=lambda: sys.exit(5))
    process.start()
    process.join()
    assert process.exitcode == 5


def test_a_child_taken_by_os_wait_is_known_all_the_same():
    process = shoal.get_context("fork").Process(target=exit_with, args=(9,))
    process.start()
    assert os.waitpid(process.pid, 0)[0] == process.pid
    process.join()
    assert process.exitcode == 9


def test_several_threads_may_join_one_process():
    context = shoal.get_context("spawn")
    process = context.Process(target=exit_with, args=(3,))
    process.start()
    codes: list[int | None] = []

    def join() -> None:
        process.join()
        codes.append(process.exitcode)

    threads = [threading.Thread(target=join) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [3] * 4


def test_a_process_that_its_killed_parent_was_to_take_along_ends():
    context = shoal.get_context("fork")
    pids = context.SimpleQueue()
    parent = context.Process(target=start_a_dependent, args=(pids,))
    parent.start()
    child = os.pidfd_open(pids.get())
    parent.kill()
    parent.join()
    assert multiprocessing.connection.wait([child], 30) == [child]
    os.close(child)


def start_a_dependent(pids: Any) -> None:
    context = shoal.get_context("fork")
    child = context.Process(target=wait_for, args=(context.Event(),), die_with_parent=True)
    child.start()
    pids.put(child.pid)
    child.join()


# --- fork beside threads ------------------------------------------------------------------------------------------------


def test_a_fork_beside_a_thread_warns_once_and_names_it():
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="collector of stamps")
    thread.start()
    process = shoal.get_context("fork").Process(target=exit_with, args=(0,))
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            process.start()
    finally:
        stop.set()
        thread.join()
    process.join()
    assert [warning.category for warning in caught] == [DeprecationWarning]
    assert "'collector of stamps'" in str(caught[0].message)
    assert caught[0].filename == __file__


def test_a_warning_made_an_error_leaves_no_child():
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    process = shoal.get_context("fork").Process(target=exit_with, args=(0,))
    try:
        with pytest.raises(DeprecationWarning):
            process.start()
    finally:
        stop.set()
        thread.join()
    assert shoal.active_children() == []


def test_a_filter_set_while_a_worker_is_replaced_stays():
    # The pool's thread starts the replacements.
    began, go_on = threading.Event(), threading.Event()

    class SlowProcess(shoal.get_context("fork").Process):
        def start(self) -> None:
            if threading.current_thread() is not threading.main_thread():
                began.set()
                go_on.wait(20)
            super().start()

    class SlowPool(Pool):
        @staticmethod
        def Process(_ctx: Any, *args: Any, **kwds: Any) -> Any:  # noqa: N802
            return SlowProcess(*args, **kwds)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with SlowPool(1, context=shoal.get_context("fork"), maxtasksperchild=1) as pool:
            assert pool.apply(abs, (-1,)) == 1
            # The next call needs the replacement: a pool that nobody asks need not have one.
            result = pool.apply_async(abs, (-2,))
            assert began.wait(20)
            warnings.filterwarnings("ignore", message="set meanwhile")
            go_on.set()
            # Nor has the warning, which is an error, kept the worker from being started.
            assert result.get(20) == 2
            assert any(row[1] is not None and row[1].pattern == "set meanwhile" for row in warnings.filters)


def test_a_start_beside_a_thread_leaves_the_filters_of_warnings_alone():
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            before = warnings.filters
            seen = []
            os.register_at_fork(after_in_parent=lambda: seen.append(warnings.filters))
            process = shoal.get_context("fork").Process(target=exit_with, args=(0,))
            process.start()
            process.join()
            assert seen
            assert seen[0] is before
    finally:
        stop.set()
        thread.join()


def test_what_a_program_has_put_in_the_place_of_fork_is_called(monkeypatch: pytest.MonkeyPatch):
    calls = []
    true_fork = os.fork

    def fork() -> int:
        calls.append(1)
        return true_fork()

    monkeypatch.setattr(os, "fork", fork)
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    for beside in (False, True):
        if beside:
            thread.start()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            process = shoal.get_context("fork").Process(target=exit_with, args=(3,))
            process.start()
        process.join()
        assert process.exitcode == 3
    stop.set()
    thread.join()
    assert len(calls) == 2


# --- signals of a child, and the parent's event loop --------------------------------------------------------------------


def test_a_signal_to_a_forked_child_is_not_told_to_the_parents_event_loop():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    before = signal.signal(signal.SIGTERM, lambda _number, _frame: None)
    old = signal.set_wakeup_fd(theirs.fileno())
    try:
        context = shoal.get_context("fork")
        for pause in (0, 0, 0, 0, 0.001, 0.01, 0.1) * 3:
            process = context.Process(target=time.sleep, args=(60,))
            process.start()
            time.sleep(pause)
            process.terminate()
            process.join(0.05)
            process.kill()
            process.join()
        with context.Pool(2) as pool:
            assert pool.apply(abs, (-1,)) == 1
        pool.join()
        with pytest.raises(BlockingIOError):
            ours.recv(100)
    finally:
        signal.set_wakeup_fd(old)
        signal.signal(signal.SIGTERM, before)
        ours.close()
        theirs.close()


# --- programs -----------------------------------------------------------------------------------------------------------

PROGRAM = """
    import sys
    import shoal

    print(__name__)

    class Worker(shoal.get_context("{method}").Process):
        def run(self):
            print("child", __name__ == "__mp_main__", sys.argv[1:])

    if __name__ == "__main__":
        worker = Worker()
        worker.start()
        worker.join()
        sys.exit(worker.exitcode)
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize("way", ["script", "module"])
def test_children_run_the_main_module_under_its_other_name(tmp_path: Path, method: str, way: str):
    arguments = ["program.py", "x"] if way == "script" else ["-m", "program", "x"]
    done = run_program(tmp_path / "program.py", PROGRAM.format(method=method), *arguments)
    assert (done.stderr, done.returncode) == ("", 0)
    assert sorted(done.stdout.splitlines()) == ["__main__", "__mp_main__", "child True ['x']"]


MAIN = """
    import os, sys
    import shoal

    counter = 0
    program = os.path.basename(sys.argv[0])

    def count():
        global counter
        counter += 1
        print(count.__module__, __file__ == sys.modules["__main__"].__file__, program, sys.argv[1:], flush=True)

    if __name__ == "__main__":
        process = shoal.get_context("spawn").Process(target=count)
        process.start()
        process.join()
"""


def test_a_spawned_child_runs_the_main_script_again(tmp_path: Path):
    source = MAIN.replace("counter += 1", "counter += 1; import __main__; assert __main__.counter == 1")
    program = tmp_path / "program.py"
    done = run_program(program, source, str(program), "x")
    assert (done.stdout, done.stderr) == ("__mp_main__ True program.py ['x']\n", "")


def test_a_compiled_main_script_reaches_a_spawned_child(tmp_path: Path):
    source = tmp_path / "source.py"
    source.write_text(textwrap.dedent(MAIN), encoding="utf-8")
    compiled = py_compile.compile(str(source), str(tmp_path / "program.pyc"), doraise=True)
    source.unlink()
    done = subprocess.run([sys.executable, str(compiled)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("__mp_main__ True program.pyc []\n", "")


def test_a_main_script_that_fails_in_a_spawned_child_says_so(tmp_path: Path):
    source = MAIN.replace("counter = 0", "counter = 0 if __name__ == '__main__' else 1 // 0")
    program = tmp_path / "program.py"
    done = run_program(program, source, str(program))
    assert "program.py" in done.stderr
    assert "ZeroDivisionError" in done.stderr


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_package_run_with_m_sends_what_its_main_defines_by_value(tmp_path: Path, method: str):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    source = """
        import shoal
        def hello(): print("hello from", shoal.current_process().name)
        process = shoal.get_context("METHOD").Process(target=hello, name="the child")
        process.start()
        process.join()
    """
    (package / "__main__.py").write_text(textwrap.dedent(source).replace("METHOD", method), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "package"], capture_output=True, text=True, timeout=50, check=False, cwd=tmp_path
    )
    assert (done.stdout, done.stderr) == ("hello from the child\n", "")


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_script_without_a_main_guard_ends(tmp_path: Path, method: str):
    source = f"""
        import shoal, sys
        process = shoal.get_context("{method}").Process(target=print)
        process.start()
        process.join()
        sys.exit(process.exitcode)
    """
    done = run_program(tmp_path / "program.py", source, "program.py")
    assert done.returncode == 1
    place, _, rest = done.stderr.partition(": ")
    assert place.endswith("program.py:4"), done.stderr
    assert rest.startswith("starts a process"), done.stderr
    assert rest.endswith('\n\n    if __name__ == "__main__":\n\n'), "the line and the fix, and nothing else"


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize("call", ["Pool(2).map(abs, range(4))", "parmap(abs, range(4))"])
def test_a_pool_in_a_script_without_a_main_guard_says_so_once(tmp_path: Path, method: str, call: str):
    source = f"""
        import shoal
        try:
            shoal.get_context("{method}").{call}
        except shoal.errors.BrokenPoolError as error:
            print(error)
            print(error.__cause__)
    """
    done = run_program(tmp_path / "program.py", source, "program.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("the pool's workers cannot start\n")
    assert re.findall(r"program\.py:\d+", done.stdout) == ["program.py:4"]
    assert done.stdout.endswith('put what the program does under\n\n    if __name__ == "__main__":\n\n')


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_script_that_sets_the_start_method_without_a_main_guard_is_told_the_line(tmp_path: Path, method: str):
    source = f"""
        import shoal, sys
        shoal.set_start_method("{method}")
        process = shoal.Process(target=print)
        process.start()
        process.join()
        sys.exit(process.exitcode)
    """
    done = run_program(tmp_path / "program.py", source, "program.py")
    assert (done.returncode, done.stdout) == (1, "")
    place, _, rest = done.stderr.partition(": ")
    assert place.endswith("program.py:3"), done.stderr
    assert rest.startswith(
        "sets the start method (in a child a RuntimeError: context has already been set), and each child"
    ), done.stderr
    assert rest.endswith('\n\n    if __name__ == "__main__":\n\n'), "the line and the fix, and nothing else"


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize(
    ("choice", "guard", "told"),
    [
        ("shoal.set_start_method(METHOD)", "True", "program.py:5: sets the start method"),
        ("shoal.set_start_method(METHOD)", "__name__ == '__main__'", "program.py:5: sets the start method"),
        ("if __name__ == '__main__': shoal.set_start_method(METHOD)", "True", "program.py:8: starts a process"),
        ("shoal.set_start_method(METHOD, force=True)", "True", "program.py:8: starts a process"),
        (
            "with contextlib.suppress(RuntimeError): shoal.set_start_method(METHOD)",
            "True",
            "program.py:8: starts a process",
        ),
    ],
)
def test_a_pool_is_told_of_the_line_that_its_workers_end_at(
    tmp_path: Path, method: str, choice: str, guard: str, told: str
):
    source = f"""
        import contextlib
        import shoal
        METHOD = "{method}"
        {choice}
        if {guard}:
            try:
                shoal.Pool(2).map(abs, range(4))
            except shoal.errors.BrokenPoolError as error:
                print(error.__cause__)
    """
    done = run_program(tmp_path / "program.py", source, "program.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert told in done.stdout
    assert done.stdout.count("program.py") == 1


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_setting_the_start_method_again_is_no_matter_of_the_main_guard_elsewhere(tmp_path: Path, method: str):
    source = f"""
        import shoal
        def again():
            try:
                shoal.set_start_method("{method}")
            except RuntimeError as error:
                print(type(error).__name__, error)
        if __name__ == "__main__":
            shoal.set_start_method("{method}")
            again()
            process = shoal.Process(target=again)
            process.start()
            process.join()
    """
    done = run_program(tmp_path / "program.py", source, "program.py")
    assert (done.stdout, done.stderr) == ("RuntimeError context has already been set\n" * 2, "")


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_main_module_that_exits_in_the_child_gives_its_exit_code(tmp_path: Path, method: str):
    source = f"""
        import shoal, sys
        if __name__ != "__main__":
            sys.exit(9)
        process = shoal.get_context("{method}").Process(target=print)
        process.start()
        process.join()
        print(process.exitcode)
    """
    done = run_program(tmp_path / "program.py", source, "program.py")
    assert (done.stdout, done.stderr) == ("9\n", "")


def test_children_that_are_no_daemons_are_joined_at_exit_and_daemons_terminated(tmp_path: Path):
    source = """
        import shoal, time
        def slow(): time.sleep(0.3); print("done")
        def for_ever(): time.sleep(600)
        if __name__ == "__main__":
            context = shoal.get_context("fork")
            context.Process(target=for_ever, daemon=True).start()
            context.Process(target=slow).start()
            print("leaving", flush=True)
    """
    begin = time.monotonic()
    done = run_program(tmp_path / "program.py", source, "program.py")
    assert (done.stdout, done.stderr) == ("leaving\ndone\n", "")
    assert time.monotonic() - begin < 300


WITHOUT_STANDARD_DESCRIPTORS = """
import os
import sys
import shoal

def answer(end, event):
    end.send(end.recv() + 1)
    event.set()

def double(x):
    return x * 2

if __name__ == "__main__":
    told = os.dup(1)
    os.closerange(0, 3)
    context = shoal.get_context(sys.argv[1])
    event = context.Event()
    taken = [name for name in os.listdir("/proc/self/fd") if name in "12"]  # the listing itself is 0
    end, other = context.Pipe()  # an end under one of their numbers is an argument like any other
    process = context.Process(target=answer, args=(other, event))
    process.start()
    end.send(1)
    event.wait()
    process.join()
    with context.Pool(1) as pool, context.Manager() as manager:
        result = pool.map(double, manager.list([1, 2]))
    os.write(told, repr((taken, end.recv(), process.exitcode, result)).encode())
"""


@pytest.mark.parametrize("method", METHODS)
def test_a_program_that_has_closed_its_standard_descriptors_starts_processes(tmp_path: Path, method: str):
    done = run_program(tmp_path / "program.py", WITHOUT_STANDARD_DESCRIPTORS, "program.py", method)
    assert (done.stdout, done.returncode) == ("([], 2, 0, [2, 4])", 0)


def test_a_replaced_bootstrap_runs_in_the_child(monkeypatch: pytest.MonkeyPatch):
    original: Callable[..., int] = multiprocessing.process.BaseProcess._bootstrap

    def bootstrap(self: Any, *arguments: Any, **keywords: Any) -> int:
        return original(self, *arguments, **keywords) + 70

    monkeypatch.setattr(multiprocessing.process.BaseProcess, "_bootstrap", bootstrap)
    process = shoal.get_context("fork").Process(target=exit_with, args=(1,))
    process.start()
    process.join()
    assert process.exitcode == 71


# --- errors -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        errors.WorkerLostError("work(5)", 1234, -signal.SIGKILL),
        errors.NotSupportedError("this", "because", "do that"),
        errors.StaleReferenceError("gone"),
        errors.BrokenPoolError("broken"),
        errors.AbandonedLockWarning("abandoned"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_survive_pickling(error: Exception):
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def test_a_lost_worker_is_told_with_its_signal():
    error = errors.WorkerLostError("work(5)", 1234, -signal.SIGSEGV)
    assert error.signal == "SIGSEGV"
    assert "work(5)" in str(error)
    assert "killed by SIGSEGV" in str(error)
