"""The examples are programs that run, on the standard library and on shoal, and print what they say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SECONDS = 50.0

PLAIN = [sys.executable]
ON_SHOAL = [sys.executable, "-m", "shoal", "run"]
# Unbuffered, a line is written in two parts, between which another process may write.
ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
SECONDS_SHOWN = re.compile(r"\d+\.\d\d s$", re.MULTILINE)

# What each prints, with its arguments; times stand as "… s".
EXPECTED: dict[str, tuple[list[str], str]] = {
    "two_processes": (
        ["15"],
        """\
fib(15) = 610
fib(15) = 610
one after the other: … s
fib(15) = 610
fib(15) = 610
side by side: … s
""",
    ),
    "pool_map": (
        [],
        """\
[0, 1, 4, 9, 16, 25, 36, 49, 64, 81]
400
285
An error in a worker is raised here: can't multiply sequence by non-int of type 'str'
""",
    ),
    "hello_over_a_pipe": (
        [],
        """\
the parent was told ['hello', 42, None]
the child was told {'how': 'are you?'}
the child has hung up
""",
    ),
    "manager_shared_state": (
        [],
        """\
results: {0: 0, 1: 1, 2: 4, 3: 9}
finished: [0, 1, 2, 3]
total: 14
""",
    ),
    "manager_of_your_own": (
        [],
        """\
Ada: 60
refused: Ada cannot deposit -5
countdown: [3, 2, 1]
""",
    ),
    "threads_instead": (
        [],
        """\
processes: [0, 1, 2, 3, 4, 5, 6, 7], in other processes
threads: [0, 1, 2, 3, 4, 5, 6, 7], in this process
""",
    ),
    "value_and_array": (
        [],
        """\
3.1415927
[0, -1, -2, -3, -4, -5, -6, -7, -8, -9]
four children counted to 4000
""",
    ),
    "shared_memory_with_numpy": (
        [],
        """\
[0.    1.    1.414 1.732 2.   ] 999.999
as computed here: True
""",
    ),
    "parmap": (
        [],
        """\
['7692c3ad', '3fc4ccfe', '8b5b9db0']
[100, 101, 102, 103, 104]
[0, 3, 6, 9, 12]
[32, 9, 64]
[[0, 0, 0, 0], [0, 1, 2, 3], [0, 2, 4, 6]]
An error in a worker is raised here: integer division or modulo by zero
""",
    ),
    "parmap_on_pipes": (
        [],
        """\
[0, 3, 6, 9, 12, 15, 18, 21, 24, 27]
['A', 'B', 'C'] []
An error in a worker is raised here: integer division or modulo by zero
""",
    ),
    "producer_and_consumer": (
        [],
        """\
[0, 1, 4, 9, 16] 9801
as computed here: True
""",
    ),
    "start_methods": (
        [],
        """\
from now on: spawn
refused: context has already been set
a child by fork: forked
a child by spawn: spawned
a child by forkserver: forkservered
""",
    ),
    "life_of_a_process": (
        [],
        """\
before: None False None
a child: first, child of MainProcess: True
after: False 0
exit code: 3
alive: True True
killed by SIGTERM
closed: process object is closed
""",
    ),
    "pool_patterns": (
        [],
        """\
apply: 42
map: [None, 1, 2, None, 4, 5, None]
starmap: [2, 12]
imap: [None, 1, 2, None]
imap_unordered: [0.25, 0.5, 1.0]
apply_async: [0, 1, 4, 9]
map_async: True False
callbacks: [0, 1, 4, 9, 'ZeroDivisionError']
an error among results: [0.5, 'division by zero', 0.25]
not there yet, but in the end: here
the same of an iterator: here
too late: Pool not running
after close and join: [1.0, 0.5, 0.25, 0.125]
""",
    ),
    "task_queue": (
        [],
        """\
unordered: ['times(0, 7) = 0', 'times(1, 7) = 7', 'times(2, 7) = 14']
and more: ['plus(0, 8) = 8', 'plus(1, 8) = 9', 'plus(2, 8) = 10']
workers left with [0, 0]
all ticked off: True
""",
    ),
    "listener_and_client": (
        [],
        """\
an object: [2.25, None, 'junk', <class 'float'>]
bytes: b'hello'
into an array: 2 numbers: [42, 1729, 0, 0, 0]
accepted from: 127.0.0.1
turned away
somebody did not know the key
""",
    ),
    "wait_for_several": (
        [],
        """\
heard: [('a', 0), ('a', 1), ('a', 2), ('a', 3), ('b', 0), ('b', 1), ('b', 2), ('b', 3), ('c', 0), ('c', 1), ('c', 2), ('c', 3)]
each in order: True
exit codes: [0, 0, 0]
""",
    ),
    "shared_structures": (
        [],
        """\
49 0.25 b'HELLO WORLD'
after: [(2.25, 39.0625), (33.0625, 4.0), (5.640625, 90.25)]
before: [(1.5, -6.25), (-5.75, 2.0), (2.375, 9.5)]
swapped: (39.0625, 2.25)
""",
    ),
    "shareable_list": (
        [],
        """\
b'howdy'
the block is gone
['howdy', b'HoWdY', -546.308, 200, None, True, 84] 7 3 1
refused: bytes/str item exceeds available storage
[0, 2, 8, 18, 32]
""",
    ),
    "synchronizing": (
        [],
        """\
one has spoken: True
the gate is open: False
never more than two inside: True 0
refused: semaphore or lock released too many times
""",
    ),
    "logging_of_the_library": (
        [],
        """\
worker 0: task 0
worker 1: task 1
MainProcess: task 2
[WARNING/MainProcess] doomed
True multiprocessing
""",
    ),
}


def output_of(line: list[str], example: str, arguments: list[str]) -> str:
    path = EXAMPLES / f"{example}.py"
    done = subprocess.run(
        [*line, path, *arguments], env=ENVIRONMENT, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return SECONDS_SHOWN.sub("… s", done.stdout)


def is_shoals_own(example: str) -> bool:
    return "import shoal" in (EXAMPLES / f"{example}.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("example", EXPECTED)
@pytest.mark.parametrize("line", [PLAIN, ON_SHOAL], ids=["python", "shoal run"])
def test_an_example_prints_what_it_says(line: list[str], example: str):
    if line is ON_SHOAL and is_shoals_own(example):
        line = PLAIN
    arguments, expected = EXPECTED[example]
    assert output_of(line, example, arguments) == expected


@pytest.mark.parametrize("line", [PLAIN, ON_SHOAL], ids=["python", "shoal run"])
def test_under_a_lock_lines_stay_together(line: list[str]):
    lines = output_of(line, "lock_around_printing", []).splitlines()
    assert sorted(lines) == sorted(f"process {n}: {word}" for n in range(5) for word in ("one", "two", "three"))
    for first in range(0, len(lines), 3):
        name = lines[first].partition(":")[0]
        assert lines[first : first + 3] == [f"{name}: {word}" for word in ("one", "two", "three")]
