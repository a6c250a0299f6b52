"""A signal handler that raises in the middle of a start: whatever had been made by then is ended, whoever made it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import crash_tasks as tasks
import pytest
from crash_table import SECONDS, Case, each

import shoal
from shoal import _native, connection, managers, pool, popen_fork, popen_forkserver, process
from shoal._managers import manager
from shoal.dummy.process import DummyProcess

if TYPE_CHECKING:
    from collections.abc import Callable

    Patch = pytest.MonkeyPatch


def interrupt(*_: object, **__: object) -> Any:
    raise KeyboardInterrupt


def interrupted_after(call: Callable[..., Any], calls: int = 1) -> Callable[..., Any]:
    """Make a call as it is, but that the last of so many calls raises when all is done."""
    left = [calls]

    def make(*args: Any, **kwds: Any) -> Any:
        value = call(*args, **kwds)
        left[0] -= 1
        if left[0] == 0 and value != 0:  # a forked child is not interrupted
            interrupt()
        return value

    return make


def before_the_pid_is_known(patch: Patch) -> None:
    patch.setattr(popen_fork, "_fork", interrupted_after(popen_fork._fork))


def before_the_slot_knows(patch: Patch) -> None:
    patch.setattr(_native, "slot_set_pid", interrupt)


def before_the_descriptor_is_open(patch: Patch) -> None:
    patch.setattr(_native, "slot_set_pid", interrupted_after(_native.slot_set_pid))


def before_the_server_has_answered(patch: Patch) -> None:
    patch.setattr(popen_forkserver.protocol, "receive_last", interrupt)


def before_the_answer_is_read(patch: Patch) -> None:
    ask, reserve, tokens = popen_forkserver.forkserver.ask, _native.slot_reserve, []

    def note(*args: Any) -> int:
        tokens.append(reserve(*args))
        return tokens[-1]

    def ask_and_be_late(request: Any, *, dependent: bool) -> Any:
        assert ask(request, dependent=dependent)
        until = time.monotonic() + SECONDS
        while _native.slot_state(tokens[-1]) != "live" and time.monotonic() < until:
            time.sleep(0.001)
        interrupt()

    patch.setattr(_native, "slot_reserve", note)
    patch.setattr(popen_forkserver.forkserver, "ask", ask_and_be_late)


def before_it_is_among_the_children(patch: Patch) -> None:
    class Children(set[Any]):
        add = interrupt

    patch.setattr(process._state, "_children", Children(process._state._children))


MOMENTS = [
    Case("before the pid is known", before_the_pid_is_known, methods=("fork",)),
    Case("before the slot knows", before_the_slot_knows),
    Case("before the descriptor is open", before_the_descriptor_is_open),
    Case("before the server has answered", before_the_server_has_answered, methods=("forkserver",)),
    Case("before the answer is read", before_the_answer_is_read, methods=("forkserver",)),
    Case("before it is among the children", before_it_is_among_the_children),
]


@each(MOMENTS)
def test_a_child_is_ended_whose_start_was_interrupted(
    case: Case, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    children = set(shoal.active_children())
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=tasks.sleep_long, args=(theirs,))
    with monkeypatch.context() as patch:
        case.act(patch)
        with pytest.raises(KeyboardInterrupt):
            child.start()
    theirs.close()
    with ours:
        assert ours.poll(SECONDS), "the child lives"  # it held the other end
        with pytest.raises(EOFError):
            ours.recv()
    assert child.exitcode is None
    assert set(shoal.active_children()) == children


@each([case for case in MOMENTS if "slot" in case.name or "children" in case.name])
def test_no_worker_is_left_of_a_pool_whose_start_was_interrupted(
    case: Case, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    children = set(shoal.active_children())
    ours, theirs = context.Pipe(duplex=False)
    start, started = context.Process.start, []

    def interrupted_the_second_time(worker: Any) -> None:
        with monkeypatch.context() as patch:
            if started:
                case.act(patch)
            start(worker)
        started.append(worker)

    monkeypatch.setattr(context.Process, "start", interrupted_the_second_time)
    with pytest.raises(KeyboardInterrupt):
        context.Pool(3, tasks.sleep_long, (theirs,))
    theirs.close()
    with ours:
        assert ours.poll(SECONDS), "a worker lives"
    assert len(started) == 1
    assert set(shoal.active_children()) == children


def test_no_thread_is_left_of_a_thread_pool_whose_start_was_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(threading.enumerate())
    monkeypatch.setattr(DummyProcess, "start", interrupted_after(DummyProcess.start, 2))
    with pytest.raises(KeyboardInterrupt):
        pool.ThreadPool(3)
    until = time.monotonic() + SECONDS
    while set(threading.enumerate()) - before and time.monotonic() < until:
        time.sleep(0.01)
    assert not set(threading.enumerate()) - before


def before_the_address_is_known(patch: Patch) -> None:
    pipe = connection.Pipe

    def with_interrupted_reader(**kwds: Any) -> tuple[Any, Any]:
        reader, writer = pipe(**kwds)
        reader.recv = interrupt
        return reader, writer

    patch.setattr(manager.connection, "Pipe", with_interrupted_reader)


def before_there_is_a_link(patch: Patch) -> None:
    patch.setattr(manager.links, "link_to", interrupt)


def before_it_is_known_at_exit(patch: Patch) -> None:
    class Finalize(process._standard.util.Finalize):  # type: ignore[misc]
        def __init__(self, obj: object, *args: Any, **kwds: Any) -> None:
            if isinstance(obj, managers.BaseManager):
                interrupt()
            super().__init__(obj, *args, **kwds)

    patch.setattr(manager._util, "Finalize", Finalize)


SERVER_MOMENTS = [
    Case("before the address is known", before_the_address_is_known),
    Case("before there is a link", before_there_is_a_link),
    Case("before it is known at exit", before_it_is_known_at_exit),
]


@each(SERVER_MOMENTS)
def test_a_manager_whose_start_was_interrupted_has_no_server_and_can_be_started_again(
    case: Case, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    children = set(shoal.active_children())
    one = managers.SyncManager(ctx=context)
    with monkeypatch.context() as patch:
        case.act(patch)
        with pytest.raises(KeyboardInterrupt):
            one.start()
    assert set(shoal.active_children()) == children
    with one:
        assert list(one.list([1, 2])) == [1, 2]
