"""No request takes a manager's server down, goes without an answer, or leaves its table in disorder."""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

import manager_requests


def test_the_seeds_break_no_promise():
    for seed in manager_requests.SEEDS:
        manager_requests.requests(seed)


@settings(max_examples=300, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.one_of(
        st.binary(max_size=200),
        st.tuples(st.sampled_from(manager_requests.SEEDS), st.binary(max_size=40), st.integers(0, 60)).map(
            lambda parts: parts[0][: parts[2]] + parts[1] + parts[0][parts[2] :]
        ),
    )
)
def test_what_hypothesis_makes_up_breaks_no_promise(data: bytes):
    manager_requests.requests(data)


def test_the_grammar_gets_as_far_as_the_objects():
    """Otherwise the target would show nothing."""
    played = manager_requests.Connection([])
    server = manager_requests.a_server()
    ident, _ = server.create(None, "dict")
    played.requests = [(ident, "__setitem__", ("a", 1), {}), (ident, "__getitem__", ("a",), {})]
    manager_requests.serving.serve_standard(server, played)
    assert played.answers == [("#RETURN", None), ("#RETURN", 1)]
    words = manager_requests.Grammar(manager_requests.spelled(0, "__setitem__", ("key", "i")), ["first"]).value()
    assert words == ("first", "__setitem__", ("key", "i"))
