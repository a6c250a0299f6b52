"""Programs about the start method of a whole interpreter: ``python -m contract_children.contexts PROGRAM LIBRARY METHOD``.

Each prints what it saw as JSON.
"""

from __future__ import annotations

import json
import os
import sys
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


if __name__ == "__main__":
    changed_at_run_time = "changed"
    name, library, method = sys.argv[1:]
    json.dump(globals()[name](Instance(library, method)), sys.stdout)
