"""The fuzzing targets hold for their seeds, and for what hypothesis makes of them. (`make fuzz` looks for longer.)"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

import targets


@pytest.mark.parametrize("name", targets.TARGETS)
def test_the_seeds_break_no_promise(name: str):
    for seed in targets.SEEDS[name]:
        targets.TARGETS[name](seed)


@pytest.mark.parametrize("name", targets.TARGETS)
def test_what_hypothesis_makes_up_breaks_no_promise(name: str):
    seeds = st.sampled_from(targets.SEEDS[name])
    spliced = st.tuples(seeds, st.binary(max_size=60), st.integers(0, 300)).map(
        lambda parts: parts[0][: parts[2]] + parts[1] + parts[0][parts[2] :]
    )

    @settings(max_examples=200, database=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.one_of(st.binary(max_size=600), spliced))
    def play(data: bytes) -> None:
        targets.TARGETS[name](data)

    play()


def test_the_scripts_get_all_the_way_and_only_with_the_key():
    """Otherwise the targets would show nothing."""
    for begin, script in (
        (targets.accept_conversation, targets.ALL_OF_A_CLIENT),
        (targets.client_conversation, targets.ALL_OF_A_SERVER),
    ):
        peer = targets.Peer(script)
        admission = targets.Admission(targets.Played(peer, 256), begin(targets.KEY, allow_legacy=False))
        connection = None
        while connection is None:
            connection = admission.step()
        connection.close()
        assert peer.proved


def test_without_atheris_fuzzing_is_skipped_with_the_reason():
    program = f"import sys, runpy; sys.modules['atheris'] = None; import importlib.util as u; u.find_spec = lambda name: None; sys.argv = ['run']; runpy.run_path({str(Path(__file__).with_name('run.py'))!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=True)
    assert "skipped, atheris is not installed" in done.stdout
