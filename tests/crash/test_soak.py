"""A sample of ``make soak`` (see ``tests/soak/README.md``), and its judge."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "soak"))

from soak_history import PoolHistory, QueueHistory

SOAK = Path(__file__).resolve().parent.parent / "soak"
SECONDS = 20
LIMIT = 400


@pytest.mark.limit(LIMIT)
def test_random_kills_lose_what_was_in_flight_and_nothing_else() -> None:
    command = [sys.executable, str(SOAK), "--seconds", str(SECONDS), "--seed", "11"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT - 20, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all is well" in done.stdout


TWO = {1: 2, 2: 4}
PUT = {(1, 0), (1, 1), (2, 0)}


@pytest.mark.parametrize(
    ("got", "kills", "words"),
    [
        ({7: [(1, 0), (1, 1), (2, 0)]}, 0, None),
        ({7: [(1, 0), (2, 0)], 8: [(1, 1)]}, 0, None),
        ({7: [(1, 1), (2, 0)]}, 1, None),
        ({7: [(1, 0), (1, 1), (2, 0), (2, 1)]}, 0, None),  # begun: it may have been put before the producer was killed
        ({7: [(1, 0), (2, 0)]}, 0, "1 items lost by 0 kills"),
        ({7: [(1, 0)]}, 1, "2 items lost by 1 kills"),
        ({7: [(1, 0), (1, 1)], 8: [(1, 0), (2, 0)]}, 0, r"more than once: \(1, 0\)"),
        ({7: [(1, 1), (1, 0), (2, 0)]}, 0, "consumer 7 got 0 of producer 1 after 1"),
        ({7: [(1, 0), (1, 1), (2, 0), (3, 0)]}, 0, r"never put: \(3, 0\)"),
    ],
)
def test_a_queue_is_judged(got: dict[int, list[tuple[int, int]]], kills: int, words: str | None) -> None:
    history = QueueHistory(begun=PUT | {(2, 1)}, done=set(PUT), got=got, killed_consumers=kills)
    assert_judged(history, words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, None),
        ({"values": TWO, "lost": {3}, "kills": 1}, None),
        ({"values": TWO, "lost": {3}, "kills": 1, "run": [1, 2]}, None),  # killed before it had begun
        ({"values": TWO, "dropped": {3}}, None),
        ({"values": TWO}, "without an outcome: 3"),
        ({"values": {1: 2, 2: 5, 3: 6}}, "wrong result: 2"),
        ({"run": [1, 2, 3, 2]}, "run more than once: 2"),
        ({"run": [1, 2, 3, 4]}, "never submitted: 4"),
        ({"run": [1, 2]}, "never run: 3"),
        ({"values": TWO, "lost": {3}}, "1 tasks lost by 0 kills"),
        ({"lost": {3}, "kills": 1}, "with a result and lost: 3"),
    ],
)
def test_a_pool_is_judged(change: dict[str, object], words: str | None) -> None:
    history = PoolHistory(submitted={1, 2, 3}, run=[1, 2, 3], values={1: 2, 2: 4, 3: 6})
    for name, value in change.items():
        setattr(history, name, value)
    assert_judged(history, words)


def assert_judged(history: PoolHistory | QueueHistory, words: str | None) -> None:
    found = history.violations()
    if words is None:
        assert found == []
    else:
        assert len(found) == 1
        assert re.search(words, found[0]), found
