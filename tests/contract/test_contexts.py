"""Contexts: one set of names for each start method, and one method for the whole program."""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from contract_children import contexts as child
from contract_children.waiting import LONG

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext

    from contract_children.instances import Instance

METHODS = ["fork", "spawn", "forkserver"]

OFFERED = [
    "Barrier",
    "BoundedSemaphore",
    "Condition",
    "Event",
    "JoinableQueue",
    "Lock",
    "Pipe",
    "Pool",
    "Process",
    "Queue",
    "RLock",
    "Semaphore",
    "SimpleQueue",
    "active_children",
    "cpu_count",
    "current_process",
    "parent_process",
    "freeze_support",
    "get_context",
    "get_start_method",
    "set_start_method",
    "get_logger",
    "log_to_stderr",
    "set_executable",
    "set_forkserver_preload",
    "allow_connection_pickling",
    "reducer",
    "ProcessError",
    "BufferTooShort",
    "TimeoutError",
    "AuthenticationError",
]


@functools.cache
def run(program: str, library: str, method: str) -> dict[str, Any]:
    """What one of the programs of ``contract_children.contexts`` printed."""
    command = [sys.executable, "-m", child.__name__, program, library, method]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return json.loads(
        subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, timeout=2 * LONG).stdout
    )


def test_a_context_has_the_method_it_was_asked_for(instance: Instance):
    mp = instance.context()
    assert mp.get_start_method() == instance.method
    assert mp.get_start_method(allow_none=True) == instance.method
    assert isinstance(mp, multiprocessing.context.BaseContext)
    assert instance.module().get_context(instance.method) is mp
    assert mp.get_context() is mp
    for method in METHODS:
        assert mp.get_context(method).get_start_method() == method


def test_an_unknown_method_is_refused(mp: BaseContext, instance: Instance):
    for get_context in (mp.get_context, instance.module().get_context):
        with pytest.raises(ValueError, match="cannot find context"):
            get_context("no such method")


def test_the_method_of_a_concrete_context_stays(mp: BaseContext, instance: Instance):
    with pytest.raises(ValueError, match="concrete context"):
        mp.set_start_method("spawn")
    assert mp.get_start_method() == instance.method


def test_every_documented_name_is_offered(mp: BaseContext, instance: Instance):
    package = instance.module()
    assert [name for name in OFFERED if not hasattr(mp, name)] == []
    assert [name for name in OFFERED if not hasattr(package, name)] == []
    assert {*OFFERED, "get_all_start_methods"} <= set(dir(package))
    for module in ("process", "synchronize", "connection", "queues", "pool", "context"):
        assert instance.module(module)


def test_exceptions_are_those_that_existing_programs_catch(mp: BaseContext, instance: Instance):
    package = instance.module()
    for name in ("ProcessError", "BufferTooShort", "TimeoutError", "AuthenticationError"):
        assert getattr(mp, name) is getattr(package, name) is getattr(multiprocessing, name)
    assert issubclass(mp.BufferTooShort, mp.ProcessError)
    assert issubclass(mp.TimeoutError, mp.ProcessError)


def test_processes_are_standard_processes(mp: BaseContext):
    assert isinstance(mp.Process(), multiprocessing.process.BaseProcess)
    assert isinstance(mp.current_process(), multiprocessing.process.BaseProcess)


def test_a_child_begins_as_its_method_says(mp: BaseContext, instance: Instance, monkeypatch: pytest.MonkeyPatch):
    receiver, sender = mp.Pipe(duplex=False)
    monkeypatch.setattr(child, "changed_at_run_time", "changed")
    process = mp.Process(target=child.what_is_here, args=(sender,))
    process.start()
    value, parent = receiver.recv()
    process.join(LONG)
    assert value == ("changed" if instance.method == "fork" else "as imported")
    if instance.method == "forkserver":
        assert parent != os.getpid()
    else:
        assert parent == os.getpid()


def test_objects_of_the_package_are_those_of_its_method(instance: Instance):
    package = instance.module()
    assert package.Process(name="named").name == "named"
    with package.Lock(), package.RLock(), package.Semaphore(2), package.BoundedSemaphore(), package.Condition():
        pass
    assert package.Event().is_set() is False
    assert package.Barrier(1).wait() == 0
    queue = package.JoinableQueue(1)
    queue.put("item")
    assert queue.get() == "item"
    queue.task_done()
    queue.join()
    one, other = package.Pipe()
    one.send("item")
    assert other.recv() == "item"
    assert package.freeze_support() is None


def test_the_start_method_is_set_once_unless_forced(instance: Instance):
    seen = run("set_once", instance.library, instance.method)
    assert seen["before"] is None
    assert seen["after"] == [instance.method, instance.method]
    assert seen["twice"] == "RuntimeError"
    assert seen["context"] == [
        instance.method,
        {"fork": "Fork", "spawn": "Spawn", "forkserver": "ForkServer"}[instance.method] + "Process",
    ]
    assert seen["child"] == ("changed" if instance.method == "fork" else "as imported")
    assert seen["forced"] == "spawn"
    assert seen["reset"] is None
    assert seen["unknown"] == "ValueError"


def test_asking_for_the_start_method_fixes_the_default_of_the_interpreter(instance: Instance):
    seen = run("look", instance.library, instance.method)
    standard = run("look", "standard", instance.method)
    assert seen["before"] is None
    assert (seen["all"], seen["default"]) == (standard["all"], standard["default"])
    assert seen["fixed by looking"] == seen["default"]
    assert seen["twice"] == "RuntimeError"
    assert seen["forced"] == instance.method


@pytest.mark.methods("spawn", "forkserver")
def test_another_interpreter_may_run_the_children(instance: Instance):
    assert run("own_interpreter", instance.library, instance.method) == {"seen": "yes", "exitcode": 0}


@pytest.mark.methods("forkserver")
def test_the_fork_server_imports_what_it_was_told(instance: Instance):
    seen = run("preloaded", instance.library, instance.method)
    assert seen == {"refused": ["TypeError", "TypeError"], "seen": True, "exitcode": 0}


@pytest.mark.shoal_only("before Python 3.14 the standard library does so on Windows only")
@pytest.mark.methods("spawn")
def test_a_frozen_executable_runs_its_children(instance: Instance):
    seen = run("frozen", instance.library, instance.method)
    assert seen == {"returned": None, "seen": True, "exitcode": 0}


def test_freeze_support_does_nothing_elsewhere(mp: BaseContext, instance: Instance):
    assert mp.freeze_support() is None
    assert instance.module().freeze_support() is None


def test_cpu_count_is_a_positive_number(mp: BaseContext):
    assert 1 <= mp.cpu_count() <= os.cpu_count()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("pool", "TimeoutError"),
        ("queues", "register_after_fork"),
        ("sharedctypes", "assert_spawning"),
        ("spawn", "_python_exe"),
        ("synchronize", "tempfile"),
    ],
)
def test_what_a_standard_module_imports_is_found_there(instance: Instance, module: str, name: str):
    assert getattr(instance.module(module), name) is getattr(sys.modules[f"multiprocessing.{module}"], name)
