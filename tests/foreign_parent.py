"""A program in which a standard child makes shared objects first, and only then its parent: ``python foreign_parent.py method``."""

from __future__ import annotations

import multiprocessing
import sys

import foreign_tasks as tasks

import shoal
from shoal import _native

if __name__ == "__main__":
    theirs = multiprocessing.get_context(sys.argv[1])
    messages, answers = theirs.Queue(), theirs.Queue()
    process = theirs.Process(target=tasks.report_then_use_what_comes, args=(messages, answers))
    process.start()
    assert answers.get(timeout=20) == "has some"
    assert _native.arena_descriptor() < 0
    event, value = shoal.Event(), shoal.Value("i", 41)
    messages.put((event, value))
    its_event, its_queue = answers.get(timeout=20)
    assert event.wait(20)
    it_said = its_queue.get(timeout=20)
    its_event.set()
    went_on = answers.get(timeout=20)
    process.join(20)
    sys.stdout.write(f"{it_said} {value.value} {went_on} {process.exitcode}\n")
