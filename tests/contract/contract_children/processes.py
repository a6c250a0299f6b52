"""What the tests of ``Process`` run in children."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import BaseContext
    from multiprocessing.process import BaseProcess

    from contract_children.instances import Instance


def nothing() -> None:
    pass


def report(instance: Instance, to: Connection, *args: Any, **kwargs: Any) -> None:
    """What a child sees of itself and of its surroundings."""
    mp = instance.context()
    me, parent = mp.current_process(), mp.parent_process()
    to.send(
        {
            "args": args,
            "kwargs": kwargs,
            "pid": os.getpid(),
            "me": (me.name, me.pid, me.ident, me.daemon, bytes(me.authkey), me.exitcode, me.is_alive()),
            "parent": (parent.name, parent.pid, parent.is_alive()),
            "children": mp.active_children(),
            "argv": sys.argv,
            "directory": str(Path.cwd()),
            "stdin": sys.stdin.read(),
        }
    )


def wait_for_word(word: Connection) -> None:
    """Runs until the other end says something or closes."""
    with contextlib.suppress(EOFError):
        word.recv()


def overriding(instance: Instance) -> type[BaseProcess]:
    """The instance's Process with ``run`` overridden."""
    return __getattr__(f"Overriding_{instance.library}_{instance.method}")


def __getattr__(name: str) -> Any:
    # Made on demand, and found by its name when a child unpickles it.
    kind, _, rest = name.partition("_")
    if kind != "Overriding":
        raise AttributeError(name)
    from contract_children.instances import Instance  # noqa: PLC0415 - only those who ask for it need it

    class Overriding(Instance(*rest.split("_")).context().Process):
        def __init__(self, to: Connection, number: int) -> None:
            super().__init__()
            self.to = to
            self.number = number

        def run(self) -> None:
            self.to.send((os.getpid(), self.number * 2))

    Overriding.__name__ = Overriding.__qualname__ = name
    globals()[name] = Overriding
    return Overriding


# --- ways to end --------------------------------------------------------------------------------------------------------


def leave(how: str) -> None:
    """End in the way named; ``ENDS`` says what the parent must see."""
    if how.startswith("sys.exit"):
        sys.exit(
            *{"()": (), "(0)": (0,), "(3)": (3,), "(None)": (None,), "('text')": ("text",)}[
                how.removeprefix("sys.exit")
            ]
        )
    if how == "os._exit(7)":
        os._exit(7)
    if how == "exception":
        raise ValueError("the reason")
    if how == "signal":
        os.kill(os.getpid(), signal.SIGKILL)


ENDS = {
    "return": 0,
    "sys.exit()": 0,
    "sys.exit(0)": 0,
    "sys.exit(3)": 3,
    "sys.exit(None)": 0,
    "sys.exit('text')": 1,
    "os._exit(7)": 7,
    "exception": 1,
    "signal": -signal.SIGKILL,
}


def leave_with_stderr_in(path: str, how: str) -> None:
    sys.stderr = Path(path).open("w")  # noqa: SIM115 - the child's exit flushes it
    leave(how)


# --- generations --------------------------------------------------------------------------------------------------------


def start_another(instance: Instance, to: Connection) -> None:
    """A child with a child of its own."""
    mp = instance.context()
    child = mp.Process(target=send_ancestors, args=(instance, to))
    child.start()
    child.join()
    to.send((os.getpid(), child.pid, child.exitcode))


def send_ancestors(instance: Instance, to: Connection) -> None:
    to.send((instance.context().parent_process().pid, os.getpid()))


def leave_a_child_behind(instance: Instance, word: Connection, to: Connection) -> None:
    """Returns while its child still runs."""
    mp = instance.context()
    mp.Process(target=wait_then_send, args=(word, to)).start()
    to.send("parent returns")


def wait_then_send(word: Connection, to: Connection) -> None:
    wait_for_word(word)
    to.send("child returns")


def vanish_before_a_child(instance: Instance, word: Connection, to: Connection) -> None:
    """Ends without any exit procedure while its child still runs."""
    instance.context().Process(target=watch_parent, args=(instance, word, to)).start()
    wait_for_word(word)
    os._exit(0)


def watch_parent(instance: Instance, word: Connection, to: Connection) -> None:
    word.close()
    parent = instance.context().parent_process()
    to.send((parent.is_alive(), parent.pid))
    parent.join(20)
    to.send(parent.is_alive())


def start_and_join_from_threads(mp: BaseContext, number: int) -> list[int | None]:
    from threading import Thread  # noqa: PLC0415 - children do not need it

    processes = [mp.Process(target=leave, args=("sys.exit(3)",)) for _ in range(number)]

    def run(process: BaseProcess) -> None:
        process.start()
        process.join()

    threads = [Thread(target=run, args=(process,)) for process in processes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [process.exitcode for process in processes]


def tell_of_interrupt(sender: Connection) -> None:
    """Wait to be interrupted, and say so."""
    try:
        sender.send("waiting")
        signal.sigtimedwait([], 30.0)
    except KeyboardInterrupt:
        sender.send("interrupted")
