"""What partners do with the synchronisation objects that they hold."""

from __future__ import annotations

import mmap
import os
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path
    from types import SimpleNamespace


def count(held: SimpleNamespace, path: Path, times: int) -> None:
    """Add to a number that processes share, in a way that loses additions where two do it at once."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 8) as number:
        for _ in range(times):
            with held.guard:
                value = int.from_bytes(number, "little")
                os.sched_yield()
                number[:] = (value + 1).to_bytes(8, "little")


def raise_inside(held: SimpleNamespace) -> None:
    with held.lock:
        raise LookupError("inside")


def from_another_thread(held: SimpleNamespace, what: str, *args: Any, **kwargs: Any) -> Any:
    """Call a method of ``held.lock`` in a thread of its own."""
    outcome: list[Any] = []

    def call() -> None:
        try:
            outcome.append(getattr(held.lock, what)(*args, **kwargs))
        except AssertionError as error:
            outcome.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    return outcome[0]


def wait_for_value(held: SimpleNamespace, value: int, timeout: float | None = None) -> tuple[Any, int]:
    """``Condition.wait_for`` with what its predicate last said, and how often it was asked."""
    asked = 0

    def reached() -> str:
        nonlocal asked
        asked += 1
        return "reached" if held.number.get_value() >= value else ""

    with held.condition:
        return held.condition.wait_for(reached, timeout), asked


def wait_twice_acquired(held: SimpleNamespace) -> bool:
    with held.condition, held.condition:
        held.started.release()
        return held.condition.wait()


def pass_rounds(held: SimpleNamespace, rounds: int) -> list[int]:
    """Through the barrier again and again; ``arrived`` shows how many had come when each round opened."""
    seen = []
    for _ in range(rounds):
        held.arrived.release()
        held.barrier.wait()
        seen.append(held.arrived.get_value())
        held.barrier.wait()
    return seen


def acquire_what_comes(held: SimpleNamespace, timeout: float) -> bool:
    return held.queue.get().acquire(timeout=timeout)
