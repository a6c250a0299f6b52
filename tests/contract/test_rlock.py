"""``RLock``: taken again by who has it, and released only by them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from contract_children import sharing
from contract_children.waiting import LONG, SHORT

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import BaseContext

    from contract_children.partner import Partner


def test_as_many_releases_as_acquisitions_set_it_free(mp: BaseContext, partners: Callable[..., Partner]):
    lock = mp.RLock()
    partner = partners(lock=lock)
    for _ in range(3):
        assert lock.acquire() is True
    with lock as entered:
        assert entered is True
    lock.release()
    lock.release()
    assert partner.ask("lock.acquire", block=False) is False
    partner.tell("lock.acquire", timeout=LONG)
    assert not partner.answered(SHORT)
    lock.release()
    assert partner.answer() is True
    assert lock.acquire(timeout=SHORT) is False
    assert partner.ask("lock.acquire") is True
    partner.ask("lock.release")
    assert lock.acquire(block=False) is False
    partner.ask("lock.release")
    assert lock.acquire(block=False) is True
    lock.release()


def test_only_the_owning_process_and_thread_releases_it(mp: BaseContext, partners: Callable[..., Partner]):
    lock = mp.RLock()
    with pytest.raises(AssertionError):
        lock.release()
    partner = partners(lock=lock)
    lock.acquire()
    with pytest.raises(AssertionError):
        partner.ask("lock.release")
    lock.release()

    partner.ask("lock.acquire")
    assert partner.ask(sharing.from_another_thread, "acquire", block=False) is False
    assert isinstance(partner.ask(sharing.from_another_thread, "release"), AssertionError)
    partner.ask("lock.release")
    assert partner.ask(sharing.from_another_thread, "acquire", block=False) is True


@pytest.mark.methods("fork")
def test_a_forked_child_does_not_own_what_its_parent_owns(mp: BaseContext, partners: Callable[..., Partner]):
    lock = mp.RLock()
    with lock:
        partner = partners(lock=lock)
        assert partner.ask("lock.acquire", block=False) is False
        with pytest.raises(AssertionError):
            partner.ask("lock.release")
    assert partner.ask("lock.acquire", timeout=LONG) is True


def test_an_exception_leaves_the_lock_free(mp: BaseContext, partners: Callable[..., Partner]):
    lock = mp.RLock()
    with pytest.raises(LookupError, match="inside"):
        partners(lock=lock).ask(sharing.raise_inside)
    assert lock.acquire(timeout=LONG) is True
    lock.release()


def test_its_owner_and_depth_are_shown(mp: BaseContext, partners: Callable[..., Partner]):
    lock = mp.RLock()
    assert repr(lock) == "<RLock(None, 0)>"
    with lock, lock:
        assert repr(lock) == "<RLock(MainProcess, 2)>"
    partner = partners(lock=lock)
    partner.ask("lock.acquire")
    assert repr(lock) == "<RLock(SomeOtherProcess, nonzero)>"
    assert partner.ask(sharing.from_another_thread, "__repr__") == "<RLock(SomeOtherThread, nonzero)>"
    partner.ask("lock.release")
