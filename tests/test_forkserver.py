"""The fork server: what it knows beforehand, what becomes of its children when it dies, and when it refuses to fork."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import suppress
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

import psutil
import pytest

import shoal
from shoal import forkserver
from shoal._forkserver.preload import imports_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def own_server() -> Iterator[None]:
    forkserver._forkserver._stop()
    yield
    forkserver._forkserver._stop()


CONTEXT = shoal.get_context("forkserver")


def leave_when_told(event: Any, code: int) -> None:
    event.wait(60)
    sys.exit(code)


def report(queue: Any) -> None:
    queue.put((os.getppid(), signal.getsignal(signal.SIGINT) is signal.default_int_handler))


def count_descriptors(queue: Any, descriptors: list[Any]) -> None:
    numbers = [descriptor.detach() for descriptor in descriptors]
    queue.put([os.read(number, 8) for number in numbers])


def run(process: Any) -> int | None:
    process.start()
    process.join()
    return process.exitcode


def spare_child() -> int:
    """The pid of the child that the server has in reserve; all others have been joined."""
    deadline = time.monotonic() + 60
    server = psutil.Process(forkserver._forkserver._forkserver_pid)
    while time.monotonic() < deadline:
        with suppress(psutil.NoSuchProcess):  # one that was just being waited for
            waiting = [child.pid for child in server.children() if child.status() == psutil.STATUS_SLEEPING]
            if len(waiting) == 1:
                return waiting[0]
        time.sleep(0.01)
    raise TimeoutError("the server makes no spare child")


def run_program(path: Path, source: str, **modules: str) -> subprocess.CompletedProcess[str]:
    path.joinpath("program.py").write_text(textwrap.dedent(source), encoding="utf-8")
    for name, text in modules.items():
        path.joinpath(f"{name}.py").write_text(textwrap.dedent(text), encoding="utf-8")
    command = [sys.executable, "program.py"]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False, cwd=path)


def test_one_server_serves_all():
    queue = CONTEXT.SimpleQueue()
    for _ in range(3):
        assert run(CONTEXT.Process(target=report, args=(queue,))) == 0
    answers = {queue.get() for _ in range(3)}
    assert answers == {(forkserver._forkserver._forkserver_pid, True)}


def test_children_of_a_killed_server_live_on_and_their_exit_codes_are_known():
    event = CONTEXT.Event()
    clean = CONTEXT.Process(target=leave_when_told, args=(event, 7))
    killed = CONTEXT.Process(target=leave_when_told, args=(CONTEXT.Event(), 0))
    clean.start()
    killed.start()
    os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)
    assert clean.is_alive()
    event.set()
    clean.join()
    assert clean.exitcode == 7
    killed.kill()
    killed.join()
    assert killed.exitcode in {-signal.SIGKILL, 255}  # 255 where the kernel keeps no status behind a pidfd


def test_a_killed_server_is_replaced():
    assert run(CONTEXT.Process(target=print, args=("",))) == 0
    first = forkserver._forkserver._forkserver_pid
    pidfd = os.pidfd_open(first)
    os.kill(first, signal.SIGKILL)
    wait([pidfd], 60)
    os.close(pidfd)
    assert run(CONTEXT.Process(target=print, args=("",))) == 0
    assert forkserver._forkserver._forkserver_pid != first


def test_a_server_killed_while_it_is_asked_is_replaced_too():
    forkserver.ensure_running()
    os.kill(forkserver._forkserver._forkserver_pid, signal.SIGSTOP)
    process = CONTEXT.Process(target=print, args=("",))
    killer = threading.Timer(0.2, os.kill, (forkserver._forkserver._forkserver_pid, signal.SIGKILL))
    killer.start()
    process.start()
    process.join()
    killer.join()
    assert process.exitcode == 0


KILLED_SERVER = """
    import os, signal, time
    from pathlib import Path
    from shoal._forkserver import server

    # The server is killed when it has handed a child over, before it says so; once.
    tell, attach, once = server._tell, server._runtime.attach, Path(__file__).with_name("killed")
    starts = 0

    def tell_nobody(fd, kind, number, descriptors=None):
        global starts
        starts += kind == server.protocol.STARTED
        if starts > EARLIER and not once.exists():
            once.touch()
            if KILLS_CHILD:
                os.kill(number, signal.SIGKILL)
                time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGKILL)
        tell(fd, kind, number, descriptors)

    def attach_late(fd, token):
        time.sleep(0.3)
        attach(fd, token)

    server._tell, server._runtime.attach = tell_nobody, attach_late
"""
STARTS_UNDER_IT = """
    import os, sys, time
    from pathlib import Path
    import psutil
    import shoal

    def told():
        with open("runs", "a") as runs:
            runs.write(f"{os.getpid()} ")
        sys.exit(7)

    def is_idle():  # the only child is the one in reserve, and waits
        server = psutil.Process(shoal.forkserver._forkserver._forkserver_pid)
        try:
            return [child.status() for child in server.children()] == ["sleeping"] and not shoal.active_children()
        except psutil.NoSuchProcess:  # one that has just been waited for
            return False

    if __name__ == "__main__":
        shoal.set_forkserver_preload(["killed_server"])
        context = shoal.get_context("forkserver")
        for start in range(EARLIER):
            context.Process(target=abs, args=(1,)).start()
            while not is_idle():
                time.sleep(0.01)
        process = context.Process(target=told)
        process.start()
        process.join()
        pids = Path("runs").read_text().split()
        print(pids == [str(process.pid)], process.exitcode)
"""


@pytest.mark.parametrize("earlier", [0, 1], ids=["forked on request", "in reserve"])
@pytest.mark.parametrize("kills_child", [False, True], ids=["", "with the child"])
def test_a_child_handed_over_by_a_server_that_was_then_killed_runs_once(
    earlier: int, kills_child: bool, tmp_path: Path
):
    def fill(text: str) -> str:
        return text.replace("EARLIER", str(earlier)).replace("KILLS_CHILD", str(kills_child))

    done = run_program(tmp_path, fill(STARTS_UNDER_IT), killed_server=fill(KILLED_SERVER))
    assert done.stdout == "True 7\n", done.stderr
    assert (tmp_path / "killed").exists()


ENDING_SERVER = """
    import os, signal
    from pathlib import Path

    servers = Path(__file__).with_name("servers")
    with servers.open("a") as file:
        file.write("|")
    if servers.stat().st_size <= ENDING:
        END
"""
STARTS_ONE = """
    import sys
    import shoal
    from shoal import popen_forkserver

    if __name__ == "__main__":
        popen_forkserver.RESTART_SECONDS = PATIENCE
        shoal.set_forkserver_preload(["ending_server"])
        process = shoal.get_context("forkserver").Process(target=print, args=("runs",))
        try:
            process.start()
            process.join()
            print(process.exitcode)
        except shoal.errors.ForkServerError as error:
            print(error)
"""
KILL = "os.kill(os.getpid(), signal.SIGKILL)"


@pytest.mark.parametrize(
    ("end", "ending", "patience", "told", "servers"),
    [
        (KILL, 4, 50, "runs\n0\n", 5),
        (
            KILL,
            10**6,
            0.2,
            "fork servers in a row ended without starting the process (the last: killed by SIGKILL)",
            None,
        ),
        (
            "os._exit(3)",
            10**6,
            50,
            "2 fork servers in a row ended without starting the process (the last: exit code 3)",
            2,
        ),
    ],
    ids=["killed again and again", "killed for ever", "ends by itself"],
)
def test_a_start_asks_new_servers_while_somebody_kills_them(
    tmp_path: Path, end: str, ending: int, patience: float, told: str, servers: int | None
):
    module = ENDING_SERVER.replace("ENDING", str(ending)).replace("END", end)
    done = run_program(tmp_path, STARTS_ONE.replace("PATIENCE", str(patience)), ending_server=module)
    assert told in done.stdout, done.stderr
    assert done.returncode == 0
    assert servers is None or (tmp_path / "servers").stat().st_size == servers


def test_the_next_process_is_the_child_that_the_server_has_in_reserve():
    queue = CONTEXT.SimpleQueue()
    assert run(CONTEXT.Process(target=report, args=(queue,))) == 0
    spare = spare_child()
    process = CONTEXT.Process(target=report, args=(queue,))
    assert run(process) == 0
    assert process.pid == spare
    assert queue.get() == queue.get() == (forkserver._forkserver._forkserver_pid, True)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_child_in_reserve_is_not_missed(how: signal.Signals):
    assert run(CONTEXT.Process(target=print, args=("",))) == 0
    for _ in range(20):
        os.kill(spare_child(), how)
        process = CONTEXT.Process(target=print, args=("",))
        # It may be dying while it is handed the request: then its end is told as that of any child.
        assert run(process) in {0, -how}
    assert run(CONTEXT.Process(target=print, args=("",))) == 0


def test_the_child_in_reserve_does_not_hear_a_ctrl_c():
    assert run(CONTEXT.Process(target=print, args=("",))) == 0
    spare = spare_child()
    os.kill(spare, signal.SIGINT)
    process = CONTEXT.Process(target=print, args=("",))
    assert run(process) == 0
    assert process.pid != spare


@pytest.mark.parametrize("how", [signal.SIGKILL, None])
def test_the_child_in_reserve_ends_with_the_server(how: signal.Signals | None):
    assert run(CONTEXT.Process(target=print, args=("",))) == 0
    pidfd = os.pidfd_open(spare_child())
    try:
        if how is not None:
            os.kill(forkserver._forkserver._forkserver_pid, how)
        else:
            forkserver._forkserver._stop()
        assert wait([pidfd], 60) == [pidfd]
    finally:
        os.close(pidfd)


def test_a_main_module_that_has_changed_is_run_as_it_is_now(tmp_path: Path):
    program = """
        import time

        import psutil
        import shoal
        from pathlib import Path
        from shoal import forkserver

        MARK = "before"

        def child():
            print(MARK, flush=True)

        if __name__ == "__main__":
            for _ in range(3):
                process = shoal.get_context("forkserver").Process(target=child)
                process.start()
                process.join()
                server = psutil.Process(forkserver._forkserver._forkserver_pid)
                deadline = time.monotonic() + 30
                while {child.pid for child in server.children()} <= {process.pid}:  # until there is one in reserve
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
                file = Path(__file__)
                file.write_text(file.read_text().replace('"before"', '"after, and longer"'))
    """
    done = run_program(tmp_path, program)
    assert (done.stdout, done.stderr) == ("before\nafter, and longer\nafter, and longer\n", "")


def test_the_exit_code_of_a_killed_child_is_its_signal():
    process = CONTEXT.Process(target=leave_when_told, args=(CONTEXT.Event(), 0))
    process.start()
    process.terminate()
    process.join()
    assert process.exitcode == -signal.SIGTERM


@pytest.fixture(params=["ignores", "blocks"])
def program_without_sigchld(request: pytest.FixtureRequest) -> Iterator[None]:
    before = signal.getsignal(signal.SIGCHLD)
    if request.param == "ignores":
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    else:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    yield
    signal.signal(signal.SIGCHLD, before)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})


@pytest.mark.usefixtures("program_without_sigchld")
def test_a_server_waits_for_its_children_though_its_program_does_not_hear_of_any():
    assert [run(CONTEXT.Process(target=sys.exit, args=(code,))) for code in (3, 4)] == [3, 4]
    server = psutil.Process(forkserver._forkserver._forkserver_pid)
    deadline = time.monotonic() + 30
    while any(child.status() == psutil.STATUS_ZOMBIE for child in server.children()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_child_may_be_given_any_number_of_descriptors():
    pipes = [os.pipe() for _ in range(300)]
    for number, (_, writer) in enumerate(pipes):
        os.write(writer, b"%d" % number)
        os.close(writer)
    queue = CONTEXT.SimpleQueue()
    process = CONTEXT.Process(target=count_descriptors, args=(queue, [Passed(reader) for reader, _ in pipes]))
    process.start()
    assert queue.get() == [b"%d" % number for number in range(300)]
    process.join()
    for reader, _ in pipes:
        os.close(reader)


class Passed:
    """A descriptor that travels when a process is started."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __reduce__(self) -> Any:
        return _identity, (shoal.reducer.DupFd(self.fd),)


def _identity(obj: Any) -> Any:
    return obj


def test_the_server_holds_none_of_the_programs_descriptors():
    reader, writer = os.pipe()
    assert run(CONTEXT.Process(target=print, args=("",))) == 0
    os.close(writer)
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_the_server_imports_what_the_main_module_imports_and_children_run_the_main_module(tmp_path: Path):
    program = """
        import os
        import heavy
        import shoal

        HERE = os.getpid()

        def child():
            print(HERE == os.getpid(), heavy.IMPORTED_BY == os.getpid())

        if __name__ == "__main__":
            for _ in range(2):
                process = shoal.get_context("forkserver").Process(target=child)
                process.start()
                process.join()
    """
    done = run_program(tmp_path, program, heavy="import os; IMPORTED_BY = os.getpid(); print('imported')")
    assert done.stderr == ""
    assert sorted(done.stdout.split("\n")) == ["", "True False", "True False", "imported", "imported"]


def test_main_is_run_once_in_the_server_if_the_program_asks_for_that(tmp_path: Path):
    program = """
        import os
        import shoal

        HERE = os.getpid()

        def child():
            print(HERE == os.getppid())

        if __name__ == "__main__":
            shoal.set_forkserver_preload(["__main__"])
            process = shoal.get_context("forkserver").Process(target=child)
            process.start()
            process.join()
    """
    done = run_program(tmp_path, program)
    assert (done.stdout, done.stderr) == ("True\n", "")


PRELOADING = """
    import sys
    import shoal
    if __name__ == "__main__":
        shoal.set_start_method("forkserver")
        shoal.set_forkserver_preload(["calendar", "broken"], **{options})
        for _ in range(2):
            try:
                process = shoal.Process(target=print, args=("runs",))
                process.start()
            except EOFError as error:
                print(type(error).__name__, "on_error='fail'" in str(error))
                shoal.set_forkserver_preload(["calendar"])
            else:
                process.join()
"""
BROKEN = "import shoal\nlock = shoal.Lock()\nimport no_such_module"  # has the server begin anew, besides


@pytest.mark.parametrize("options", [{}, {"on_error": "ignore"}])
def test_what_cannot_be_preloaded_is_passed_over(tmp_path: Path, options: dict[str, str]):
    done = run_program(tmp_path, PRELOADING.format(options=options), broken=BROKEN)
    assert (done.stdout, done.stderr) == ("runs\nruns\n", "")


def test_what_cannot_be_preloaded_is_warned_of_once_if_the_program_asks_for_that(tmp_path: Path):
    done = run_program(tmp_path, PRELOADING.format(options={"on_error": "warn"}), broken=BROKEN)
    assert done.stdout == "runs\nruns\n"
    assert done.stderr.count("ImportWarning") == 1
    assert "'broken'" in done.stderr
    assert "no_such_module" in done.stderr


@pytest.mark.parametrize("broken", [BROKEN, "raise SystemExit(3)"])
def test_what_cannot_be_preloaded_keeps_processes_from_starting_if_the_program_asks_for_that(tmp_path: Path, broken):
    done = run_program(tmp_path, PRELOADING.format(options={"on_error": "fail"}), broken=broken)
    assert done.stdout == "ForkServerError True\nruns\n"  # the second has a server that is to import something else
    assert done.stderr.count("Traceback") == 1
    assert done.stderr.strip().endswith(("No module named 'no_such_module'", "SystemExit: 3"))


def test_a_main_module_that_fails_in_the_server_is_told_of_as_well(tmp_path: Path):
    program = """
        import multiprocessing.process
        import shoal
        if hasattr(multiprocessing.process.current_process(), "_inheriting"):
            raise LookupError("not here")
        if __name__ == "__main__":
            shoal.set_forkserver_preload(["__main__"], on_error="fail")
            try:
                shoal.get_context("forkserver").Process().start()
            except shoal.errors.ForkServerError:
                print("refused")
    """
    done = run_program(tmp_path, program)
    assert done.stdout == "refused\n"
    assert done.stderr.strip().endswith("LookupError: not here")


def test_another_answer_to_what_cannot_be_preloaded_is_refused():
    with pytest.raises(ValueError, match="'ignore', 'warn' or 'fail', not 'raise'"):
        CONTEXT.set_forkserver_preload([], on_error="raise")


def test_a_module_that_makes_a_lock_is_left_to_the_children(tmp_path: Path):
    program = """
        import locking
        import plain
        import shoal

        def child():
            with locking.lock:
                print(plain.PARENT, locking.PARENT)

        if __name__ == "__main__":
            process = shoal.get_context("forkserver").Process(target=child)
            process.start()
            process.join()
            print(process.exitcode)
    """
    module = "import __main__; PARENT = __main__.__name__ != '__mp_main__'\n"
    done = run_program(tmp_path, program, locking=module + "import shoal; lock = shoal.Lock()", plain=module)
    assert done.stderr == ""
    assert done.stdout.split() == ["True", "True", "0"]


def test_beside_a_thread_the_server_does_not_fork_and_says_so_once(tmp_path: Path):
    program = """
        import shoal
        import threaded

        def child():
            print("here")

        if __name__ == "__main__":
            for _ in range(2):
                process = shoal.get_context("forkserver").Process(target=child)
                process.start()
                process.join()
    """
    module = """
        import threading
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    """
    done = run_program(tmp_path, program, threaded=module)
    assert done.stdout == "here\nhere\n"
    assert done.stderr.count("ForkServerWarning") == 1


def test_a_server_ends_with_its_last_client(tmp_path: Path):
    program = """
        import shoal
        from shoal import forkserver

        if __name__ == "__main__":
            process = shoal.get_context("forkserver").Process(target=print)
            process.start()
            process.join()
            print(forkserver._forkserver._forkserver_pid)
    """
    done = run_program(tmp_path, program)
    pid = int(done.stdout)
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    assert wait([pidfd], 60) == [pidfd]
    os.close(pidfd)


def test_imports_are_found_where_they_are_run():
    source = """
import a.b, c
from d import e
from . import f
from .g import h
try:
    import i
except ImportError:
    i = None
if TYPE_CHECKING:
    import j
else:
    import k
if __name__ == "__main__":
    import l
def function():
    import m
"""
    assert imports_of(textwrap.dedent(source), "package.sub") == [
        "a.b", "c", "d", "package.sub", "package.sub.g", "i", "k",
    ]  # fmt: skip
    assert imports_of("from . import f") == []
    assert imports_of("this is no Python") == []
