"""The target for a manager's server; its seeds, and what hypothesis makes of them, are played with those of the others."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import manager_requests


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
