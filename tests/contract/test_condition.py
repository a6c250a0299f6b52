"""``Condition``: waiting for news that another process gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from contract_children import sharing
from contract_children.waiting import LONG, SHORT

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import BaseContext
    from multiprocessing.synchronize import Condition

    from contract_children.instances import Instance
    from contract_children.partner import Partner


@pytest.fixture
def waiting(partners: Callable[..., Partner]) -> Callable[..., list[Partner]]:
    """Partners that wait on the condition."""

    def start(condition: Condition, number: int, timeout: float | None = None) -> list[Partner]:
        crowd = [partners(condition=condition) for _ in range(number)]
        for partner in crowd:
            partner.ask("condition.acquire")
            partner.tell("condition.wait", timeout)
            with condition:
                pass  # it is ours only when the partner has begun to wait
        return crowd

    return start


def finish(partners: list[Partner], *, answer: bool = True) -> None:
    """Each holds the condition when its wait is over; the next one is through when it has let go."""
    left = list(partners)
    while left:
        partner = next((partner for partner in left if partner.answered(SHORT / 10)), None) or left[0]
        assert partner.answer() is answer
        partner.ask("condition.release")
        left.remove(partner)


def test_a_notified_waiter_goes_on_and_holds_the_lock(mp: BaseContext, waiting: Callable[..., list[Partner]]):
    condition = mp.Condition()
    (partner,) = waiting(condition, 1)
    with condition:
        condition.notify()
        assert not partner.answered(SHORT), "it needs the lock that we still hold"
    assert partner.answer() is True
    assert condition.acquire(block=False) is False
    partner.ask("condition.release")
    assert condition.acquire(timeout=LONG) is True
    condition.release()


def test_a_wait_that_nobody_ends_runs_out_with_the_lock_held(mp: BaseContext, partners: Callable[..., Partner]):
    condition = mp.Condition()
    partner = partners(condition=condition)
    with condition:
        assert condition.wait(SHORT) is False
        assert condition.wait(0) is False
        assert partner.ask("condition.acquire", block=False) is False
    partner.ask("condition.acquire")
    assert partner.ask("condition.wait", SHORT) is False
    assert condition.acquire(block=False) is False
    partner.ask("condition.release")


def test_notify_wakes_as_many_as_told(mp: BaseContext, instance: Instance, waiting: Callable[..., list[Partner]]):
    condition = mp.Condition()
    crowd = waiting(condition, 3)
    by_connection = {partner.connection: partner for partner in crowd}
    wait = instance.module("connection").wait

    def woken(expected: int) -> list[Partner]:
        """Those that answer one after the other: as many as are expected, and then until nobody else does."""
        found = []
        while ready := wait(
            [c for c in by_connection if by_connection[c] not in found], SHORT if len(found) >= expected else LONG
        ):
            for connection in ready:
                partner = by_connection[connection]
                assert partner.answer() is True
                partner.ask("condition.release")
                found.append(partner)
            if len(found) == len(by_connection):
                break
        return found

    with condition:
        condition.notify()
    first = woken(1)
    assert len(first) == 1
    del by_connection[first[0].connection]
    with condition:
        condition.notify(n=2)
    assert len(woken(2)) == 2


def test_notify_all_wakes_all(mp: BaseContext, waiting: Callable[..., list[Partner]]):
    condition = mp.Condition()
    crowd = waiting(condition, 2)
    with condition:
        condition.notify_all()
    finish(crowd)


def test_notify_more_than_there_are_wakes_those_there_are(mp: BaseContext, waiting: Callable[..., list[Partner]]):
    condition = mp.Condition()
    crowd = waiting(condition, 1)
    with condition:
        condition.notify(5)
    finish(crowd)


def test_a_notification_that_nobody_waited_for_is_not_kept(mp: BaseContext):
    condition = mp.Condition()
    with condition:
        condition.notify()
        condition.notify_all()
        assert condition.wait(SHORT) is False


def test_a_waiter_that_gave_up_takes_no_notification(mp: BaseContext, waiting: Callable[..., list[Partner]]):
    condition = mp.Condition()
    impatient = waiting(condition, 1, timeout=SHORT)
    finish(impatient, answer=False)
    patient = waiting(condition, 1)
    with condition:
        condition.notify()
    finish(patient)


def test_wait_for_waits_until_its_predicate_holds(mp: BaseContext, partners: Callable[..., Partner]):
    condition, number = mp.Condition(), mp.Semaphore(0)
    partner = partners(condition=condition, number=number)
    assert partner.ask(sharing.wait_for_value, 0) == ("reached", 1), "what is true already is not waited for"
    value, asked = partner.ask(sharing.wait_for_value, 1, SHORT)
    assert value == ""
    assert asked >= 2

    partner.tell(sharing.wait_for_value, 2, LONG)
    for step in range(2):
        with condition:
            number.release()
            condition.notify()
        assert partner.answered(SHORT if step == 0 else LONG) is (step == 1)
    assert partner.answer()[0] == "reached"


def test_the_lock_must_be_held(mp: BaseContext):
    condition = mp.Condition()
    for use in (condition.wait, condition.notify, condition.notify_all, lambda: condition.wait_for(bool, SHORT)):
        with pytest.raises(AssertionError):
            use()
    assert condition.acquire(block=False) is True
    condition.release()


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_a_condition_uses_the_lock_it_is_given(mp: BaseContext, waiting: Callable[..., list[Partner]], kind: str):
    lock = getattr(mp, kind)()
    condition = mp.Condition(lock)
    other = mp.Condition(lock)
    crowd = waiting(condition, 1)
    with lock:
        other.notify_all()
        assert other.wait(SHORT) is False
        condition.notify()
    finish(crowd)


def test_a_wait_lets_go_of_a_lock_taken_twice_and_takes_it_twice(mp: BaseContext, partners: Callable[..., Partner]):
    condition, started = mp.Condition(), mp.Semaphore(0)
    partner = partners(condition=condition, started=started)
    partner.tell(sharing.wait_twice_acquired)
    assert started.acquire(timeout=LONG)
    with condition:
        condition.notify()
    assert partner.answer() is True
    assert condition.acquire(timeout=LONG) is True
    condition.release()


@pytest.mark.shoal_only("the standard Condition waits for acknowledgements from waiters that have died")
def test_a_waiter_that_was_killed_holds_nobody_up(mp: BaseContext, waiting: Callable[..., list[Partner]]):
    condition = mp.Condition()
    doomed, patient = waiting(condition, 2)
    doomed.process.kill()
    doomed.process.join(LONG)
    with condition:
        condition.notify()
        condition.notify()
    finish([patient])
