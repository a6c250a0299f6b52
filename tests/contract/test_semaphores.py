"""``Semaphore`` and ``BoundedSemaphore``: a number of permits that processes share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from contract_children.waiting import LONG, SHORT

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import BaseContext

    from contract_children.instances import Instance
    from contract_children.partner import Partner


@pytest.fixture(params=["Semaphore", "BoundedSemaphore"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def test_there_are_as_many_permits_as_were_made(mp: BaseContext, partners: Callable[..., Partner], kind: str):
    semaphore = getattr(mp, kind)(3)
    partner = partners(semaphore=semaphore)
    assert semaphore.acquire() is True
    assert partner.ask("semaphore.acquire") is True
    assert (semaphore.get_value(), partner.ask("semaphore.get_value")) == (1, 1)
    with semaphore as entered:
        assert entered is True
        assert semaphore.get_value() == 0
        assert partner.ask("semaphore.acquire", block=False) is False
        assert partner.ask("semaphore.acquire", timeout=SHORT) is False
        assert semaphore.acquire(timeout=-1) is False
    assert semaphore.get_value() == 1
    assert partner.ask("semaphore.acquire", timeout=LONG) is True
    partner.tell("semaphore.acquire", timeout=LONG)
    assert not partner.answered(SHORT)
    semaphore.release()
    assert partner.answer() is True
    assert semaphore.get_value() == 0


def test_one_permit_unless_told(mp: BaseContext, kind: str):
    semaphore = getattr(mp, kind)()
    assert semaphore.get_value() == 1
    assert semaphore.acquire(block=False) is True
    assert semaphore.acquire(block=False) is False


def test_each_release_lets_one_in(mp: BaseContext, instance: Instance, partners: Callable[..., Partner]):
    semaphore = mp.Semaphore(0)
    both = {partner.connection: partner for partner in (partners(semaphore=semaphore), partners(semaphore=semaphore))}
    for partner in both.values():
        partner.tell("semaphore.acquire", timeout=LONG)
    semaphore.release()
    (connection, *more) = instance.module("connection").wait([*both], LONG)
    assert more == []
    assert both.pop(connection).answer() is True
    (other,) = both.values()
    assert not other.answered(SHORT)
    assert semaphore.get_value() == 0
    semaphore.release()
    assert other.answer() is True


def test_a_semaphore_grows_beyond_its_first_value(mp: BaseContext, partners: Callable[..., Partner]):
    semaphore = mp.Semaphore(1)
    partner = partners(semaphore=semaphore)
    semaphore.release()
    partner.ask("semaphore.release")
    assert semaphore.get_value() == 3
    assert [semaphore.acquire(block=False) for _ in range(4)] == [True, True, True, False]


def test_a_bounded_semaphore_refuses_to_grow(mp: BaseContext, partners: Callable[..., Partner]):
    semaphore = mp.BoundedSemaphore(2)
    partner = partners(semaphore=semaphore)
    with pytest.raises(ValueError, match="released too many times"):
        semaphore.release()
    semaphore.acquire()
    partner.ask("semaphore.release")
    with pytest.raises(ValueError, match="released too many times"):
        partner.ask("semaphore.release")
    assert semaphore.get_value() == 2


def test_a_semaphore_counts_from_zero(mp: BaseContext):
    with pytest.raises((ValueError, OSError)):
        mp.Semaphore(-1)


def test_its_value_is_shown(mp: BaseContext):
    assert repr(mp.Semaphore(3)) == "<Semaphore(value=3)>"
    assert repr(mp.BoundedSemaphore(3)) == "<BoundedSemaphore(value=3, maxvalue=3)>"
