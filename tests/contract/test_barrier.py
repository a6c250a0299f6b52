"""``Barrier``: nobody passes before all have come, and a broken one tells everybody."""

from __future__ import annotations

import threading
from threading import BrokenBarrierError
from typing import TYPE_CHECKING

import pytest
from contract_children import barriers as child
from contract_children import sharing
from contract_children.waiting import LONG, SHORT, eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import BaseContext

    from contract_children.partner import Partner


def test_all_parties_pass_together_each_with_a_number_of_its_own(mp: BaseContext, partners: Callable[..., Partner]):
    barrier = mp.Barrier(3)
    crowd = [partners(barrier=barrier), partners(barrier=barrier)]
    assert (barrier.parties, barrier.n_waiting, barrier.broken) == (3, 0, False)
    for number, partner in enumerate(crowd, 1):
        partner.tell("barrier.wait")
        assert eventually(lambda number=number: barrier.n_waiting == number)
    assert not any(partner.answered() for partner in crowd)
    ours = barrier.wait(LONG)
    assert {ours, *(partner.answer() for partner in crowd)} == {0, 1, 2}
    assert eventually(lambda: barrier.n_waiting == 0)
    assert barrier.broken is False


def test_a_barrier_is_used_again_and_again(mp: BaseContext, partners: Callable[..., Partner]):
    barrier, arrived = mp.Barrier(2), mp.Semaphore(0)
    crowd = [partners(barrier=barrier, arrived=arrived) for _ in range(2)]
    for partner in crowd:
        partner.tell(sharing.pass_rounds, 50)
    for partner in crowd:
        assert partner.answer() == [2 * number for number in range(1, 51)]


def test_the_action_runs_once_a_round_before_anybody_passes(mp: BaseContext, partners: Callable[..., Partner]):
    receiver, sender = mp.Pipe(duplex=False)
    barrier = mp.Barrier(2, action=child.Tell(sender))
    partner = partners(barrier=barrier)
    for _ in range(3):
        partner.tell("barrier.wait")
        barrier.wait(LONG)
        assert receiver.poll(0), "the action is over when the wait is"
        assert receiver.recv() == "action"
        partner.answer()
        assert not receiver.poll(0)


def test_an_action_that_fails_breaks_the_barrier(mp: BaseContext, partners: Callable[..., Partner]):
    barrier = mp.Barrier(2, child.fail)
    partner = partners(barrier=barrier)
    partner.tell("barrier.wait")
    assert eventually(lambda: barrier.n_waiting == 1)
    with pytest.raises(LookupError, match="action"):
        barrier.wait(LONG)
    with pytest.raises(BrokenBarrierError):
        partner.answer()
    assert barrier.broken is True


def test_abort_breaks_it_for_those_who_wait_and_those_who_come(mp: BaseContext, partners: Callable[..., Partner]):
    barrier = mp.Barrier(3)
    partner = partners(barrier=barrier)
    partner.tell("barrier.wait")
    assert eventually(lambda: barrier.n_waiting == 1)
    barrier.abort()
    with pytest.raises(BrokenBarrierError):
        partner.answer()
    assert barrier.broken is True
    with pytest.raises(BrokenBarrierError):
        barrier.wait(LONG)
    with pytest.raises(BrokenBarrierError):
        partner.ask("barrier.wait")


def test_reset_mends_a_broken_barrier(mp: BaseContext, partners: Callable[..., Partner]):
    barrier = mp.Barrier(2)
    partner = partners(barrier=barrier)
    barrier.abort()
    barrier.reset()
    assert (barrier.broken, barrier.n_waiting) == (False, 0)
    partner.tell("barrier.wait")
    assert {barrier.wait(LONG), partner.answer()} == {0, 1}


def test_reset_sends_those_who_wait_away(mp: BaseContext, partners: Callable[..., Partner]):
    barrier = mp.Barrier(2)
    partner = partners(barrier=barrier)
    partner.tell("barrier.wait")
    assert eventually(lambda: barrier.n_waiting == 1)
    barrier.reset()
    with pytest.raises(BrokenBarrierError):
        partner.answer()
    assert barrier.broken is False
    partner.tell("barrier.wait")
    assert {barrier.wait(LONG), partner.answer()} == {0, 1}


def test_reset_sends_nobody_away_who_waits_for_the_action_alone(mp: BaseContext):
    acting, reset = threading.Event(), threading.Event()

    def action() -> None:
        acting.set()
        reset.wait(SHORT)  # the standard library's reset() waits for the end of the action

    barrier, indices = mp.Barrier(2, action), []
    parties = [threading.Thread(target=lambda: indices.append(barrier.wait(LONG))) for _ in range(2)]
    for party in parties:
        party.start()
    assert acting.wait(LONG)
    barrier.reset()
    reset.set()
    for party in parties:
        party.join()
    assert sorted(indices) == [0, 1]
    assert barrier.broken is False


@pytest.mark.parametrize("own", [True, False], ids=["of the wait", "of the barrier"])
def test_a_timeout_breaks_the_barrier_for_all(mp: BaseContext, partners: Callable[..., Partner], own: bool):
    barrier = mp.Barrier(3, timeout=None if own else SHORT)
    partner = partners(barrier=barrier)
    partner.tell("barrier.wait", LONG)
    assert eventually(lambda: barrier.n_waiting == 1)
    with pytest.raises(BrokenBarrierError):
        barrier.wait(*([SHORT] if own else []))
    with pytest.raises(BrokenBarrierError):
        partner.answer()
    assert barrier.broken is True


def test_one_party_never_waits(mp: BaseContext):
    barrier = mp.Barrier(1)
    assert [barrier.wait(0), barrier.wait()] == [0, 0]
    assert barrier.broken is False


@pytest.mark.shoal_only("the standard Barrier waits for a party that has died")
def test_a_party_that_was_killed_while_waiting_breaks_the_barrier(mp: BaseContext, partners: Callable[..., Partner]):
    barrier = mp.Barrier(3)
    doomed, patient = partners(barrier=barrier), partners(barrier=barrier)
    for number, partner in enumerate((doomed, patient), 1):
        partner.tell("barrier.wait")
        assert eventually(lambda number=number: barrier.n_waiting == number)
    doomed.process.kill()
    doomed.process.join(LONG)
    with pytest.raises(BrokenBarrierError):
        patient.answer()
    assert barrier.broken is True
