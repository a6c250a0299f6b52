"""The target for a manager's server; its seeds, and what hypothesis makes of them, are played with those of the others."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import manager_requests

import shoal
from shoal import managers


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


def test_what_a_thread_pickles_after_it_has_served_a_standard_client_is_its_own_again():
    manager_requests.serving.serve_standard(manager_requests.a_server(), manager_requests.Connection([]))
    with shoal.get_context("fork").Manager() as manager:
        assert type(pickle.loads(pickle.dumps(manager.dict()))) is managers.DictProxy
