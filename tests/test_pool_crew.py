"""What a pool knows of its workers: what they say counts, whoever is quicker; and the ended ones are children no longer."""

from __future__ import annotations

import signal
import sys
import time
from multiprocessing import process as standard_process
from pathlib import Path
from typing import Any

import pytest

import shoal
from shoal import _native
from shoal._pool.crew import Crew

sys.path.insert(0, str(Path(__file__).parent))

import pool_tasks as tasks


class Worker:
    """A process as far as a crew looks at it."""

    def __init__(self, pid: int) -> None:
        self.ident = pid
        self.exitcode: int | None = None


def test_a_worker_that_is_another_program_is_seen_also_when_what_it_held_has_been_given_back() -> None:
    process = shoal.get_context("fork").Process(target=tasks.become, args=("sleep", "60"))
    process.start()
    try:
        token = process._popen._token  # type: ignore[attr-defined]
        until = time.monotonic() + 20
        while _native.slot_state(token) != "gone":  # by the watcher, which looks when a process comes or goes
            assert time.monotonic() < until
            other = shoal.get_context("fork").Process()
            other.start()
            other.join()
        crew = Crew([process], 1, lambda: None)
        crew.adopt(replacements=False)
        (member,) = crew.gone()
        assert member.replaced
        assert process.exitcode == -signal.SIGKILL
    finally:
        process.kill()
        process.join()


@pytest.mark.parametrize("ready", [False, True])
def test_a_worker_may_speak_before_its_parent_has_taken_note_of_it(ready: bool) -> None:
    crew = Crew([], 1, lambda: Worker(7))
    crew.hear(7, ready=ready)
    crew.fill()
    crew.adopt(replacements=True)
    (member,) = crew.members()
    assert (member.started, member.ready) == (True, ready)
    crew.hear(7, ready=False)
    assert member.ready == ready


def test_what_one_worker_said_is_not_taken_for_anothers_word() -> None:
    crew = Crew([], 1, lambda: Worker(8))
    crew.hear(7, ready=True)
    crew.fill()
    crew.adopt(replacements=True)
    (member,) = crew.members()
    assert not member.started
    assert not member.ready


def test_workers_that_are_ready_before_they_are_known_do_not_break_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first replacements have done their one task, and ended, when the collector thread gets to write them down."""
    adopt = Crew.adopt
    seen: set[int | None] = set()

    def late(self: Crew, *, replacements: bool) -> None:
        new = [process for process in self.processes if process.ident not in seen]
        if len(seen) < 8:
            seen.update(process.ident for process in new)
            for process in new if replacements else ():
                process.join(20)
        adopt(self, replacements=replacements)

    monkeypatch.setattr(Crew, "adopt", late)
    with shoal.get_context("fork").Pool(4, maxtasksperchild=1) as pool:
        outcomes = [pool.apply_async(tasks.double, (n,)) for n in range(40)]
        assert [outcome.get(30) for outcome in outcomes] == [2 * n for n in range(40)]


def test_a_worker_that_has_ended_is_a_child_no_longer() -> None:
    """Nothing refers to it once the pool has buried it, whoever has looked at its exit code before."""

    def start() -> Any:
        process = shoal.get_context("fork").Process(target=tasks.double, args=(1,))
        process.start()
        return process

    crew = Crew([], 1, start)
    crew.fill()
    crew.adopt(replacements=False)
    (process,) = crew.processes
    assert crew.any_gone(30)
    assert process.exitcode == 0
    (member,) = crew.gone()
    crew.bury(member)
    assert process not in standard_process._children  # type: ignore[attr-defined]
