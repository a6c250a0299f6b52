"""What the processes of test_habits.py do; spawned ones import it."""

from __future__ import annotations

import multiprocessing.process
import multiprocessing.util
import os
from typing import Any

import shoal


def square(number: int) -> int:
    return number * number


def add(one: int, other: int) -> int:
    return one + other


def held(event: Any, number: int) -> int:
    event.wait(30)
    return number


_taken: Any = None


def take(event: Any) -> None:
    """A pool's initializer."""
    global _taken
    _taken = event


def held_by_what_was_taken(number: int) -> int:
    return held(_taken, number)


def identity(_: object = None) -> tuple[tuple[int, ...], str, bool]:
    me = multiprocessing.current_process()
    assert me is shoal.current_process()
    return me._identity, me.name, me.daemon


def identity_of_a_child(queue: Any, method: str) -> None:
    context = shoal.get_context(method)
    inner = context.Process(target=put_identity, args=(queue,))
    inner.start()
    inner.join()


def put_identity(queue: Any) -> None:
    queue.put(identity())


def pool_within(method: str) -> list[int]:
    with shoal.get_context(method).Pool(2) as pool:
        return pool.map(square, range(3))


def process_within(method: str) -> tuple[bool, int | None]:
    """The idiom of a daemon that declares itself none."""
    multiprocessing.current_process()._config["daemon"] = False
    process = shoal.get_context(method).Process(target=square, args=(1,))
    process.start()
    process.join()
    return process.daemon, process.exitcode


def note(path: str, text: str) -> None:
    """In one write, since several processes may note at once."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{text}\n".encode())
    os.close(descriptor)


class Kept:
    """Something that finalizers and hooks can be registered for."""


KEPT = Kept()


def register_finalizer(path: str) -> None:
    multiprocessing.util.Finalize(None, note, args=(path, "by priority"), exitpriority=10)
    multiprocessing.util.Finalize(KEPT, note, args=(path, "never: without a priority"))


def exit_by_hand(path: str) -> None:
    register_finalizer(path)
    multiprocessing.util._exit_function()
    os._exit(7)


def count_hooks(queue: Any, path: str) -> None:
    """Say what the after-fork hooks have noted."""
    with open(path, encoding="utf-8") as file:  # noqa: PTH123
        queue.put(file.read().split())


# --- what coverage does, and line_profiler ------------------------------------------------------------------------------

ORIGINAL: Any = multiprocessing.process.BaseProcess._bootstrap


def patch_bootstrap(path: str) -> None:
    def bootstrap(self: Any, *arguments: Any, **keywords: Any) -> int:
        note(path, f"begin {self.name.partition('-')[0]}")
        try:
            return ORIGINAL(self, *arguments, **keywords)
        finally:
            note(path, "end")

    multiprocessing.process.BaseProcess._bootstrap = bootstrap  # type: ignore[attr-defined]


class Stowaway:
    """Travels in the preparation data of a child, and patches there what its parent has patched."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __getstate__(self) -> dict[str, str]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, str]) -> None:
        patch_bootstrap(state["path"])
