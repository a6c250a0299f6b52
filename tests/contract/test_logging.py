"""The package's logger, and what the ``logging`` module knows of processes."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from contract_children import logs
from contract_children.waiting import LONG

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext

    from contract_children.instances import Instance


def said_by(program: str, instance: Instance) -> list[str]:
    """The lines on the standard error stream of one of the programs of ``contract_children.logs``."""
    command = [sys.executable, "-m", logs.__name__, program, instance.library, instance.method]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, timeout=LONG, check=True)
    return done.stderr.splitlines()


def test_log_to_stderr_is_in_force_in_children_too(instance: Instance):
    said = said_by("to_stderr", instance)
    for line in (
        "[INFO/worker] child process calling self.run()",
        f"[WARNING/worker] said with {logging.INFO}",
        "[INFO/worker] process exiting with exitcode 0",
        f"[WARNING/MainProcess] said with {logging.INFO}",
        "[INFO/MainProcess] process shutting down",
    ):
        assert line in said
    assert not [line for line in said if "not to be seen" in line]


@pytest.mark.methods("fork")
def test_a_forked_child_has_the_handlers_of_its_parent(instance: Instance):
    said = said_by("by_a_handler_of_its_own", instance)
    assert [line for line in said if "said" in line] == [
        f"({name}) said with {logging.WARNING}" for name in ("worker", "MainProcess")
    ]


def test_the_logger_is_one_that_passes_nothing_on(instance: Instance):
    logger = instance.module().get_logger()
    assert logger is instance.module("util").get_logger()
    assert logger.name == "multiprocessing"
    assert not logger.propagate
    assert (instance.module().SUBDEBUG, instance.module().SUBWARNING) == (5, 25)


def test_a_record_bears_the_name_of_its_process(mp: BaseContext):
    receiver, sender = mp.Pipe(duplex=False)
    for name in ("worker", "ünïcödé"):
        process = mp.Process(target=logs.name_of_records, args=(sender,), name=name)
        process.start()
        assert receiver.recv() == name
        process.join(LONG)
