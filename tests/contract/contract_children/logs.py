"""Programs about the package's logger: ``python -m contract_children.logs PROGRAM LIBRARY METHOD``. They log on their standard error stream."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from contract_children.instances import Instance

if TYPE_CHECKING:
    from multiprocessing.connection import Connection


def speak(instance: Instance) -> None:
    logger = instance.module().get_logger()
    logger.warning("said with %d", logger.getEffectiveLevel())
    logger.debug("not to be seen")


def name_of_records(sender: Connection) -> None:
    sender.send(logging.LogRecord("any", logging.INFO, "", 0, "", (), None).processName)


def to_stderr(instance: Instance) -> None:
    """The package's own handler, at a level."""
    package = instance.module()
    assert package.log_to_stderr(logging.INFO) is package.get_logger()
    run(instance)


def by_a_handler_of_its_own(instance: Instance) -> None:
    """A handler that the program has added: forked children have it, others begin anew."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("(%(processName)s) %(message)s"))
    logger = instance.module().get_logger()
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)
    run(instance)


def run(instance: Instance) -> None:
    process = instance.context().Process(target=speak, args=(instance,), name="worker")
    process.start()
    process.join()
    speak(instance)


if __name__ == "__main__":
    name, library, method = sys.argv[1:]
    globals()[name](Instance(library, method))
