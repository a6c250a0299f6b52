"""Programs about the start method of a whole interpreter: ``python -m contract_children.contexts PROGRAM LIBRARY METHOD``.

Each prints what it saw as JSON.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contract_children.instances import Instance

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

changed_at_run_time = "as imported"


def what_is_here(to: Connection) -> None:
    to.send((changed_at_run_time, os.getppid()))


def refused(call: Any, *args: Any, **kwargs: Any) -> str:
    try:
        return f"not refused: {call(*args, **kwargs)!r}"
    except Exception as error:  # noqa: BLE001 - its type is what is printed
        return type(error).__name__


def set_once(instance: Instance) -> dict[str, Any]:
    package = instance.module()
    seen = {"before": package.get_start_method(allow_none=True)}
    package.set_start_method(instance.method)
    seen["after"] = [package.get_start_method(), package.get_start_method(allow_none=True)]
    seen["twice"] = refused(package.set_start_method, instance.method)
    seen["context"] = [package.get_context().get_start_method(), package.get_context().Process.__name__]
    receiver, sender = package.Pipe(duplex=False)
    process = package.Process(target=what_is_here, args=(sender,))
    process.start()
    seen["child"] = receiver.recv()[0]
    process.join()
    package.set_start_method("spawn", force=True)
    seen["forced"] = package.get_start_method()
    package.set_start_method(None, force=True)
    seen["reset"] = package.get_start_method(allow_none=True)
    seen["unknown"] = refused(package.set_start_method, "no such method", force=True)
    return seen


def look(instance: Instance) -> dict[str, Any]:
    package = instance.module()
    seen = {
        "all": package.get_all_start_methods(),
        "before": package.get_start_method(allow_none=True),
        "default": package.get_start_method(),
        "fixed by looking": package.get_start_method(allow_none=True),
        "twice": refused(package.set_start_method, instance.method),
    }
    package.set_start_method(instance.method, force=True)
    seen["forced"] = package.get_start_method()
    return seen


def own_interpreter(instance: Instance) -> dict[str, Any]:
    """Children, and the fork server, are run by what ``set_executable`` was told: here a script that runs the interpreter."""
    with tempfile.TemporaryDirectory() as directory:
        script = Path(directory, "interpreter")
        script.write_text(f'#!/bin/sh\nexport OWN_INTERPRETER=yes\nexec {shlex.quote(sys.executable)} "$@"\n')
        script.chmod(0o700)
        instance.module().set_executable(str(script))
        return in_a_child(instance, "import os; seen = os.environ.get('OWN_INTERPRETER')")


def preloaded(instance: Instance) -> dict[str, Any]:
    """The fork server imports what it was told, so its children have it."""
    package = instance.module()
    seen = {"refused": [refused(package.set_forkserver_preload, wrong) for wrong in ([1], ["calendar", None])]}
    package.set_forkserver_preload(["mailbox"])
    return seen | in_a_child(instance, "import sys; seen = 'mailbox' in sys.modules")


def frozen(instance: Instance) -> dict[str, Any]:
    """A frozen executable is started again as a child: there ``freeze_support`` runs the child and does not return."""
    sys.frozen = True  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as directory:
        executable = Path(directory, "executable")
        executable.write_text(
            f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m {__spec__.name} thaw {instance.library} {instance.method} "$@"\n'
        )
        executable.chmod(0o700)
        sys.executable = str(executable)
        return {"returned": instance.module().freeze_support()} | in_a_child(
            instance, "import sys; seen = '--multiprocessing-fork' in sys.orig_argv"
        )


def in_a_child(instance: Instance, program: str) -> dict[str, Any]:
    context = instance.context()
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=execute, args=(program, sender))
    process.start()
    sender.close()
    seen = receiver.recv()
    process.join()
    return {"seen": seen, "exitcode": process.exitcode}


def execute(program: str, sender: Connection) -> None:
    names: dict[str, Any] = {}
    exec(program, names)  # noqa: S102
    sender.send(names["seen"])


if __name__ == "__main__":
    changed_at_run_time = "changed"
    name, library, method = sys.argv[1:4]
    if name == "thaw":  # the frozen executable as a child
        del sys.argv[1:4]
        sys.frozen = True  # type: ignore[attr-defined]
        Instance(library, method).module().freeze_support()
        raise AssertionError("freeze_support() has returned")
    json.dump(globals()[name](Instance(library, method)), sys.stdout)
