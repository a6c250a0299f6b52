"""What the tests of pools have done in workers."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiprocessing.synchronize import Semaphore

    from contract_children.instances import Instance

# Set by the initializers, in each worker.
held: dict[str, Any] = {}


def nothing() -> None:
    pass


def square(number: int) -> int:
    return number * number


def add(one: Any, other: Any = 1, *, factor: Any = 1) -> Any:
    return (one + other) * factor


def whereabouts(_: Any = None) -> int:
    return os.getpid()


def describe_worker(instance: Instance) -> tuple[int, bool, str]:
    me = instance.context().current_process()
    return os.getpid(), me.daemon, me.name


def large(size: int) -> bytes:
    return bytes(size)


def length(obj: Any) -> int:
    return len(obj)


# --- initializers -----------------------------------------------------------------------------------------------------------


def hold(**things: Any) -> None:
    held.update(things)


def hold_gate(started: Semaphore, gate: Semaphore) -> None:
    """For tasks that run until the test lets them; a task that is killed at the gate closes it to nobody."""
    hold(started=started, gate=gate)


def hold_number(number: int) -> None:
    hold(number=held.get("number", 0) + number)


def held_number(_: Any = None) -> tuple[int, int]:
    return os.getpid(), held["number"]


def pass_gate(obj: Any) -> Any:
    """Runs until the gate opens."""
    held["started"].release()
    with held["gate"]:
        return obj


def pass_gate_if_zero(number: int) -> int:
    return pass_gate(number) if number == 0 else number


def pass_gate_unless_zero(number: int) -> int:
    return pass_gate(number) if number != 0 else number


# --- failures ---------------------------------------------------------------------------------------------------------------


class TaskError(Exception):
    """With an attribute, to see that it arrives whole."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class UnpicklableError(Exception):
    def __init__(self) -> None:
        super().__init__(threading.Lock())


def fail(number: int) -> None:
    raise TaskError(number)


def fail_if_odd(number: int) -> int:
    if number % 2:
        fail(number)
    return number


def fail_because_of_another(number: int) -> None:
    try:
        fail(number)
    except TaskError as error:
        raise LookupError("outer") from error


def fail_unpicklably() -> None:
    raise UnpicklableError


def unpicklable(_: Any = None) -> Any:
    return threading.Lock()


def unpicklable_if_odd(number: int) -> Any:
    return unpicklable() if number % 2 else number
