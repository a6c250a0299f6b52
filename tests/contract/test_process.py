"""``Process``: its life from start to exit code, what it knows about itself, and its relatives."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from contract_children import processes as child
from contract_children.waiting import LONG, SHORT, eventually

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext

    from contract_children.instances import Instance


def test_a_started_process_runs_its_target_elsewhere_with_its_arguments(mp: BaseContext, instance: Instance):
    receiver, sender = mp.Pipe(duplex=False)
    process = mp.Process(target=child.report, name="worker", args=(instance, sender, 1, "two"), kwargs={"three": [3]})
    process.start()
    sender.close()
    seen = receiver.recv()
    process.join(LONG)

    assert (seen["args"], seen["kwargs"]) == ((1, "two"), {"three": [3]})
    assert seen["pid"] == process.pid == process.ident != os.getpid()
    assert process.exitcode == 0
    key = bytes(mp.current_process().authkey)
    assert seen["me"] == ("worker", process.pid, process.pid, False, key, None, True)
    assert seen["parent"] == (mp.current_process().name, os.getpid(), True)
    assert seen["children"] == []
    assert seen["argv"] == sys.argv
    assert seen["directory"] == str(Path.cwd())
    assert seen["stdin"] == "", "a child must not read what was typed for its parent"


def test_run_can_be_overridden(mp: BaseContext, instance: Instance):
    receiver, sender = mp.Pipe(duplex=False)
    process = child.overriding(instance)(sender, 21)
    process.start()
    assert receiver.poll(LONG)
    assert receiver.recv() == (process.pid, 42)
    process.join(LONG)
    assert process.exitcode == 0

    process.run()
    assert receiver.recv() == (os.getpid(), 42), "called directly, run() runs here"


def test_a_process_tells_its_state_from_before_the_start_to_after_the_end(mp: BaseContext):
    receiver, sender = mp.Pipe(duplex=False)
    process = mp.Process(target=child.wait_for_word, args=(receiver,))
    assert (process.pid, process.ident, process.exitcode) == (None, None, None)
    assert not process.is_alive()
    assert "initial" in repr(process)
    with pytest.raises(ValueError, match="not started"):
        _ = process.sentinel
    with pytest.raises(AssertionError):
        process.join()

    process.start()
    assert process.pid == process.ident
    assert psutil.pid_exists(process.pid)
    assert (process.is_alive(), process.exitcode) == (True, None)
    assert "started" in repr(process)
    with pytest.raises(AssertionError):
        process.start()
    assert process in mp.active_children()

    process.join(0)
    process.join(SHORT)
    process.join(-1)
    assert (process.is_alive(), process.exitcode) == (True, None), "a join that timed out leaves the process running"

    sender.send("end")
    process.join(LONG)
    process.join()
    assert (process.is_alive(), process.exitcode) == (False, 0)
    assert "stopped" in repr(process)
    assert process not in mp.active_children()
    with pytest.raises(AssertionError):
        process.start()


def test_name_daemon_and_authkey_are_set_before_the_start(mp: BaseContext):
    first, second = mp.Process(), mp.Process()
    assert first.name != second.name
    assert first.name.startswith(type(first).__name__.removesuffix("Process") + "Process-") or "Process-" in first.name
    first.name = "renamed"
    assert first.name == "renamed"
    assert mp.Process(name="given").name == "given"
    with pytest.raises(AssertionError):
        first.name = 1

    assert mp.Process().daemon is mp.current_process().daemon is False
    assert mp.Process(daemon=True).daemon is True
    first.daemon = True
    assert first.daemon is True

    assert first.authkey == mp.current_process().authkey
    first.authkey = b"another"
    assert first.authkey == b"another"
    with pytest.raises(TypeError):
        first.authkey = "text"
    with pytest.raises(AssertionError):
        mp.Process(group=1)


def test_a_child_has_the_name_daemon_flag_and_authkey_it_was_given(mp: BaseContext, instance: Instance):
    receiver, sender = mp.Pipe(duplex=False)
    process = mp.Process(target=child.report, args=(instance, sender), name="named", daemon=True)
    process.authkey = b"a key of its own"
    process.start()
    sender.close()
    with pytest.raises(AssertionError):
        process.daemon = False
    seen = receiver.recv()
    process.join(LONG)
    assert seen["me"] == ("named", process.pid, process.pid, True, b"a key of its own", None, True)


def test_an_authkey_does_not_travel_in_a_message(mp: BaseContext):
    _, sender = mp.Pipe(duplex=False)
    with pytest.raises(TypeError):
        sender.send(mp.current_process().authkey)


def test_exit_codes_tell_how_a_process_ended(mp: BaseContext):
    processes = {how: mp.Process(target=child.leave, args=(how,)) for how in child.ENDS}
    for process in processes.values():
        process.start()
    for process in processes.values():
        process.join(LONG)
    assert {how: process.exitcode for how, process in processes.items()} == child.ENDS


@pytest.mark.parametrize(
    ("how", "words"), [("exception", ["ValueError: the reason", "in leave"]), ("sys.exit('text')", ["text"])]
)
def test_why_a_process_failed_is_printed_on_its_stderr(mp: BaseContext, tmp_path: Path, how: str, words: list[str]):
    path = tmp_path / "stderr"
    process = mp.Process(target=child.leave_with_stderr_in, args=(str(path), how))
    process.start()
    process.join(LONG)
    printed = path.read_text()
    assert all(word in printed for word in words), printed


def test_a_sentinel_becomes_ready_when_its_process_ends(mp: BaseContext, instance: Instance):
    receiver, sender = mp.Pipe(duplex=False)
    wait = instance.module("connection").wait
    process = mp.Process(target=child.wait_for_word, args=(receiver,))
    process.start()
    assert isinstance(process.sentinel, int)
    assert wait([process.sentinel], SHORT) == []
    assert select.select([process.sentinel], [], [], 0) == ([], [], [])

    sender.send("end")
    assert wait([process.sentinel], LONG) == [process.sentinel]
    assert select.select([process.sentinel], [], [], 0)[0] == [process.sentinel], "and it stays ready"
    process.join(LONG)
    assert process.exitcode == 0


@pytest.mark.parametrize(("method", "number"), [("terminate", signal.SIGTERM), ("kill", signal.SIGKILL)])
def test_a_process_is_ended_from_outside(mp: BaseContext, method: str, number: int):
    receiver, sender = mp.Pipe(duplex=False)
    process = mp.Process(target=child.wait_for_word, args=(receiver,))
    process.start()
    getattr(process, method)()
    process.join(LONG)
    assert (process.is_alive(), process.exitcode) == (False, -number)
    getattr(process, method)()
    assert process.exitcode == -number, "ending what has ended changes nothing"
    sender.close()


def test_close_gives_a_finished_process_back_and_refuses_a_running_one(mp: BaseContext):
    receiver, sender = mp.Pipe(duplex=False)
    process = mp.Process(target=child.wait_for_word, args=(receiver,))
    process.start()
    with pytest.raises(ValueError, match="still running"):
        process.close()
    assert process.is_alive()
    sender.send("end")
    process.join(LONG)
    process.close()
    process.close()
    for use in (
        process.is_alive,
        process.join,
        process.terminate,
        process.kill,
        process.start,
        lambda: process.exitcode,
        lambda: process.pid,
    ):
        with pytest.raises(ValueError, match="closed"):
            use()
    mp.Process().close()


def test_an_interrupt_is_a_keyboard_interrupt_in_the_child(mp: BaseContext):
    receiver, sender = mp.Pipe(duplex=False)
    process = mp.Process(target=child.tell_of_interrupt, args=(sender,))
    if not hasattr(process, "interrupt"):
        pytest.skip("the standard library has it from 3.14 on")
    process.start()
    sender.close()
    assert receiver.recv() == "waiting"
    process.interrupt()
    assert receiver.recv() == "interrupted"
    process.join(LONG)
    assert process.exitcode == 0
    process.interrupt()
    assert process.exitcode == 0, "interrupting what has ended changes nothing"


def test_active_children_lists_and_reaps(mp: BaseContext):
    receiver, sender = mp.Pipe(duplex=False)
    before = mp.active_children()
    lasting = mp.Process(target=child.wait_for_word, args=(receiver,))
    brief = mp.Process(target=child.nothing)
    lasting.start()
    brief.start()
    assert set(mp.active_children()) - set(before) >= {lasting}
    assert eventually(lambda: brief not in mp.active_children())
    assert eventually(lambda: not psutil.pid_exists(brief.pid)), "it does not stay a zombie"
    assert lasting in mp.active_children()
    sender.send("end")
    lasting.join(LONG)
    assert lasting not in mp.active_children()


def test_the_main_process_has_a_name_and_no_parent(mp: BaseContext):
    me = mp.current_process()
    assert (me.name, me.pid, me.daemon) == ("MainProcess", os.getpid(), False)
    assert me.is_alive()
    assert mp.parent_process() is None


def test_a_child_can_have_children(mp: BaseContext, instance: Instance):
    receiver, sender = mp.Pipe(duplex=False)
    process = mp.Process(target=child.start_another, args=(instance, sender))
    process.start()
    sender.close()
    grandchild_says = receiver.recv()
    child_says = receiver.recv()
    process.join(LONG)
    child_pid, grandchild_pid, exit_code = child_says
    assert child_pid == process.pid
    assert grandchild_says == (child_pid, grandchild_pid)
    assert (exit_code, process.exitcode) == (0, 0)


def test_a_child_that_returns_waits_for_its_own_children(mp: BaseContext, instance: Instance):
    word, our_word = mp.Pipe(duplex=False)
    receiver, sender = mp.Pipe(duplex=False)
    process = mp.Process(target=child.leave_a_child_behind, args=(instance, word, sender))
    process.start()
    sender.close()
    assert receiver.recv() == "parent returns"
    process.join(SHORT)
    assert process.is_alive()
    our_word.send("go")
    assert receiver.recv() == "child returns"
    process.join(LONG)
    assert process.exitcode == 0


def test_a_child_sees_its_parent_die(mp: BaseContext, instance: Instance):
    word, our_word = mp.Pipe(duplex=False)
    receiver, sender = mp.Pipe(duplex=False)
    process = mp.Process(target=child.vanish_before_a_child, args=(instance, word, sender))
    process.start()
    sender.close()
    assert receiver.recv() == (True, process.pid)
    our_word.send("vanish")
    assert receiver.recv() is False
    process.join(LONG)


@pytest.mark.filterwarnings("ignore:forking a process while:DeprecationWarning")
def test_processes_can_be_started_and_joined_from_threads(mp: BaseContext):
    assert child.start_and_join_from_threads(mp, 2) == [3, 3]


@pytest.mark.methods("fork")
@pytest.mark.shoal_only("the standard library warns from 3.12 on, and does not name the threads")
def test_a_fork_beside_other_threads_warns_and_names_them(mp: BaseContext):
    done = threading.Event()
    thread = threading.Thread(target=done.wait, name="the other thread")
    thread.start()
    process = mp.Process(target=child.nothing)
    with pytest.warns(DeprecationWarning, match="the other thread"):
        process.start()
    done.set()
    thread.join()
    process.join(LONG)
    assert process.exitcode == 0


def test_at_exit_a_program_joins_its_children_and_ends_the_daemonic_ones(instance: Instance, tmp_path: Path):
    fifo, result = tmp_path / "fifo", tmp_path / "result"
    command = [
        sys.executable,
        "-m",
        "contract_children.at_exit",
        instance.library,
        instance.method,
        str(fifo),
        str(result),
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as program:
        try:
            lasting, daemon = map(int, program.stdout.readline().split())
            assert eventually(lambda: has_ended(daemon)), (
                "it is ended when the program ends, before the other is waited for"
            )
            assert not has_ended(lasting)
            assert program.poll() is None
            fifo.write_text("written after the main program had ended")
            assert program.wait(LONG) == 0
            assert result.read_text() == "written after the main program had ended"
            assert program.stdout.read() == "", "nobody holds the program's output any more"
        finally:
            program.kill()


def has_ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
