"""``Event``: a flag that processes set, clear and wait for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from contract_children.waiting import LONG, SHORT

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import BaseContext

    from contract_children.partner import Partner


def test_what_one_sets_and_clears_others_see(mp: BaseContext, partners: Callable[..., Partner]):
    event = mp.Event()
    partner = partners(event=event)
    assert (event.is_set(), partner.ask("event.is_set")) == (False, False)
    event.set()
    event.set()
    assert (event.is_set(), partner.ask("event.is_set")) == (True, True)
    partner.ask("event.clear")
    assert (event.is_set(), partner.ask("event.is_set")) == (False, False)
    event.clear()
    assert event.is_set() is False


def test_an_event_set_before_the_start_is_set_in_the_child(mp: BaseContext, partners: Callable[..., Partner]):
    event = mp.Event()
    event.set()
    assert partners(event=event).ask("event.wait", LONG) is True


def test_wait_tells_whether_it_was_set(mp: BaseContext):
    event = mp.Event()
    assert event.wait(0) is False
    assert event.wait(SHORT) is False
    event.set()
    assert event.wait() is True
    assert event.wait(0) is True
    assert event.wait(timeout=SHORT) is True
    event.clear()
    assert event.wait(0) is False


def test_setting_lets_all_waiters_go_on(mp: BaseContext, partners: Callable[..., Partner]):
    event = mp.Event()
    first, second = partners(event=event), partners(event=event)
    first.tell("event.wait")
    second.tell("event.wait", LONG)
    assert not first.answered(SHORT)
    assert not second.answered()
    event.set()
    assert (first.answer(), second.answer()) == (True, True)
    assert event.is_set() is True


def test_a_child_sets_it_for_its_parent(mp: BaseContext, partners: Callable[..., Partner]):
    event, answer = mp.Event(), mp.Event()
    partner = partners(event=event, answer=answer)
    for _ in range(100):
        partner.tell("event.wait", LONG)
        partner.tell("event.clear")
        partner.tell("answer.set")
        event.set()
        assert answer.wait(LONG) is True
        answer.clear()
        assert [partner.answer() for _ in range(3)] == [True, None, None]


def test_its_state_is_shown(mp: BaseContext):
    event = mp.Event()
    assert "unset" in repr(event)
    event.set()
    assert "unset" not in repr(event)


@pytest.mark.shoal_only("setting the standard Event waits for acknowledgements from waiters that have died")
def test_a_waiter_that_was_killed_holds_nobody_up(mp: BaseContext, partners: Callable[..., Partner]):
    event = mp.Event()
    doomed, patient = partners(event=event), partners(event=event)
    for partner in (doomed, patient):
        partner.tell("event.wait", LONG)
    assert not doomed.answered(SHORT)
    doomed.process.kill()
    doomed.process.join(LONG)
    event.set()
    assert patient.answer() is True
