"""The examples of managers print what they say, on shoal and on the standard library; the work queue does so on three hosts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import networks

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
LONG = 30.0
OUTPUT = {
    "manager_shared_state": "results: {0: 0, 1: 1, 2: 4, 3: 9}\nfinished: [0, 1, 2, 3]\ntotal: 14\n",
    "manager_of_your_own": "Ada: 60\nrefused: Ada cannot deposit -5\ncountdown: [3, 2, 1]\n",
}


@pytest.mark.parametrize("runner", [[], ["-m", "shoal", "run"]], ids=["standard", "shoal"])
@pytest.mark.parametrize("name", OUTPUT)
def test_an_example_prints_what_it_says(name: str, runner: list[str]):
    command = [sys.executable, *runner, str(EXAMPLES / f"{name}.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LONG)
    assert (done.returncode, done.stdout, done.stderr) == (0, OUTPUT[name], "")


def test_a_work_queue_is_served_to_two_other_hosts():
    if reason := networks.why_not():
        pytest.skip(reason)
    program = ["-W", "ignore", str(EXAMPLES / "work_queue.py")]
    with networks.network(2) as network:
        workers = [network.start(host, *program, "work", network.address(host), "50000") for host in (1, 2)]
        server = network.start(0, *program, "serve", "0.0.0.0", "50000", "2")  # noqa: S104 - of a network of its own
        try:
            assert server.communicate(timeout=LONG)[0] == (
                "squares: [0, 1, 4, 9, 16, 25, 36, 49, 64, 81]\nworkers: 2\n"
            )
            for worker in workers:
                assert worker.communicate(timeout=LONG)[0] == "worked\n"
                assert worker.returncode == 0
        finally:
            for process in (server, *workers):
                process.kill()
                process.communicate()
