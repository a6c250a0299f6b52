"""Managers: what a mistaken call is told, and what a method that raises does to the server: nothing."""

from __future__ import annotations

import copy
import os
import pickle
import sys
from typing import TYPE_CHECKING, Any

import pytest

import shoal
from shoal import managers
from shoal.errors import ManagerDied

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def manager() -> Iterator[managers.SyncManager]:
    with shoal.get_context("fork").Manager() as manager:
        yield manager


def test_an_attribute_that_is_not_there_names_the_type_and_what_it_exposes(manager: managers.SyncManager):
    words = manager.dict()
    with pytest.raises(AttributeError, match=r"'frobnicate'; type 'dict' exposes: .*\bpopitem, setdefault\b"):
        words.frobnicate()
    assert not hasattr(manager.Queue(), "frobnicate")
    with pytest.raises(AttributeError, match=r"type 'Queue' exposes: .*put_nowait"):
        manager.Queue().frobnicate()
    assert copy.copy(words) == pickle.loads(pickle.dumps(words)) == {}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        manager.Namespace().nothing  # noqa: B018 - it is asked for


def test_an_attribute_error_of_the_object_itself_is_not_hidden(manager: managers.SyncManager):
    value = manager.Value("i", 1)
    value._callmethod = lambda *_: (_ for _ in ()).throw(AttributeError("of the object"))
    with pytest.raises(AttributeError, match="of the object"):
        value.value  # noqa: B018 - it is asked for


class Leaving:
    """Its methods want to end the process."""

    def leave(self) -> None:
        sys.exit("by its own wish")

    def interrupt(self) -> None:
        raise KeyboardInterrupt

    def stay(self) -> int:
        return os.getpid()


def leaving_when_made() -> None:
    raise SystemExit(3)


class LeavingManager(managers.BaseManager):
    """Serves what wants to end the process."""


LeavingManager.register("Leaving", Leaving)
LeavingManager.register("never", leaving_when_made)


@pytest.mark.parametrize("address", [None, ("127.0.0.1", 0)], ids=["at home", "by TCP"])
def test_what_wants_to_end_the_server_does_not(address: Any):
    with LeavingManager(address, b"key", ctx=shoal.get_context("fork")) as manager:
        leaving = manager.Leaving()
        before = leaving.stay()
        with pytest.raises(SystemExit, match="by its own wish"):
            leaving.leave()
        with pytest.raises(KeyboardInterrupt):
            leaving.interrupt()
        with pytest.raises(managers.RemoteError, match="SystemExit: 3"):
            manager.never()
        assert leaving.stay() == before


def test_a_set_says_that_nothing_is_nested_in_it(manager: managers.SyncManager):
    with pytest.raises(TypeError, match="a set has no `nested`"):
        manager.set([1], nested=True)
    assert manager.set([1]).copy() == {1}


def test_a_manager_of_memory_that_is_shut_down_has_nobody_there():
    with managers.SharedMemoryManager() as memory:
        pass
    for make in (lambda: memory.SharedMemory(8), lambda: memory.ShareableList([1])):
        with pytest.raises(FileNotFoundError, match="shut down") as caught:
            make()
        assert not isinstance(caught.value, ManagerDied)
