"""``Lock``: one holder at a time, among processes; anybody may release it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from contract_children import sharing
from contract_children.waiting import LONG, SHORT

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import BaseContext
    from pathlib import Path

    from contract_children.partner import Partner


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition"])
def test_additions_under_it_are_not_lost(mp: BaseContext, partners: Callable[..., Partner], tmp_path: Path, kind: str):
    path = tmp_path / "number"
    path.write_bytes(bytes(8))
    guard = getattr(mp, kind)()
    both = [partners(guard=guard), partners(guard=guard)]
    for partner in both:
        partner.tell(sharing.count, path, 500)
    for partner in both:
        partner.answer()
    assert int.from_bytes(path.read_bytes(), "little") == 1000


def test_a_lock_held_here_is_held_there(mp: BaseContext, partners: Callable[..., Partner]):
    lock = mp.Lock()
    assert lock.acquire() is True
    partner = partners(lock=lock)
    assert partner.ask("lock.acquire", block=False) is False
    assert partner.ask("lock.acquire", timeout=SHORT) is False
    assert partner.ask("lock.acquire", True, 0) is False
    partner.tell("lock.acquire", timeout=LONG)
    assert not partner.answered(SHORT)
    lock.release()
    assert partner.answer() is True
    assert lock.acquire(block=False) is False


def test_a_lock_is_released_by_whoever_wants(mp: BaseContext, partners: Callable[..., Partner]):
    lock = mp.Lock()
    partner = partners(lock=lock)
    lock.acquire()
    partner.ask("lock.release")
    assert lock.acquire(block=False) is True

    assert partner.ask("lock.acquire", block=False) is False
    lock.release()
    partner.ask("lock.acquire")
    lock.release()
    assert lock.acquire(timeout=0) is True


def test_a_lock_that_is_not_held_cannot_be_released(mp: BaseContext, partners: Callable[..., Partner]):
    lock = mp.Lock()
    with pytest.raises(ValueError, match="released too many times"):
        lock.release()
    lock.acquire()
    lock.release()
    with pytest.raises(ValueError, match="released too many times"):
        partners(lock=lock).ask("lock.release")
    assert lock.acquire(block=False) is True, "the failed releases changed nothing"
    assert lock.acquire(block=False) is False


def test_a_lock_is_not_reentrant(mp: BaseContext):
    lock = mp.Lock()
    with lock as entered:
        assert entered is True
        assert lock.acquire(block=False) is False
        assert lock.acquire(timeout=SHORT) is False
        assert lock.acquire(timeout=-1) is False, "a negative timeout is one of zero"


def test_an_exception_leaves_the_lock_free(mp: BaseContext, partners: Callable[..., Partner]):
    lock = mp.Lock()
    with pytest.raises(LookupError, match="inside"):
        partners(lock=lock).ask(sharing.raise_inside)
    assert lock.acquire(timeout=LONG) is True


def test_a_lock_handed_over_by_a_process_that_ended_well_stays_held(mp: BaseContext, partners: Callable[..., Partner]):
    lock = mp.Lock()
    partner = partners(lock=lock)
    partner.ask("lock.acquire")
    partner.leave()
    assert partner.process.exitcode == 0
    assert lock.acquire(timeout=SHORT) is False
    lock.release()
    assert lock.acquire(timeout=SHORT) is True


def test_locks_are_told_apart_and_show_their_owner(mp: BaseContext, partners: Callable[..., Partner]):
    one, other = mp.Lock(), mp.Lock()
    partner = partners(lock=one)
    with other:
        assert partner.ask("lock.acquire", block=False) is True
    assert repr(one) == "<Lock(owner=SomeOtherProcess)>"
    assert partner.ask(sharing.from_another_thread, "__repr__") == "<Lock(owner=SomeOtherThread)>"
    assert repr(other) == "<Lock(owner=None)>"
    with other:
        assert repr(other) == "<Lock(owner=MainProcess)>"


@pytest.mark.shoal_only("the standard library shares locks through inheritance only")
def test_a_lock_travels_in_a_message(mp: BaseContext, partners: Callable[..., Partner]):
    queue, lock = mp.Queue(), mp.Lock()
    partner = partners(queue=queue)
    lock.acquire()
    queue.put(lock)
    assert partner.ask(sharing.acquire_what_comes, SHORT) is False
    queue.put(lock)
    partner.tell(sharing.acquire_what_comes, LONG)
    lock.release()
    assert partner.answer() is True
    assert lock.acquire(block=False) is False
