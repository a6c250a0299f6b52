"""What a killed client of a manager held goes to the next one; what a client that ended in order left locked stays so."""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any

import pytest

import shoal
from shoal import managers
from shoal.errors import AbandonedLockError, AbandonedLockWarning, ManagerDied

if TYPE_CHECKING:
    from collections.abc import Iterator

LONG = 20.0
MOMENT = 0.05
KINDS = ["Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore"]
RECURSIVE = {"RLock", "Condition"}


@pytest.fixture(params=["fork", "spawn", "forkserver"])
def context(request: pytest.FixtureRequest) -> Any:
    return shoal.get_context(request.param)


@pytest.fixture
def manager(context: Any) -> Iterator[managers.SyncManager]:
    with context.Manager() as manager:
        yield manager


def hold(lock: Any, how: str, pipe: Any, blocks: Any = None) -> None:
    """Take the lock; then end, or wait to be killed."""
    if blocks is not None:  # another thread of the client is in a call that does not return
        threading.Thread(target=blocks.get, daemon=True).start()
    if how == "with":
        with lock:
            pipe.send("held")
            signal.pause()
    lock.acquire()
    pipe.send("held")
    if how == "acquired":
        signal.pause()


def holder_of(context: Any, lock: Any, how: str, blocks: Any = None) -> Any:
    """Start a process that holds the lock."""
    near, far = context.Pipe()
    process = context.Process(target=hold, args=(lock, how, far, blocks))
    process.start()
    far.close()
    assert near.recv() == "held"
    return process


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_killed_client_had_entered_goes_to_the_next(context: Any, manager: Any, kind: str):
    lock = getattr(manager, kind)()
    process = holder_of(context, lock, "with", manager.Queue())
    process.kill()
    began = time.monotonic()
    with pytest.warns(AbandonedLockWarning, match=f"held this {kind} died"):
        assert lock.acquire(True, LONG)
    assert time.monotonic() - began < LONG / 2
    lock.release()
    process.join()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            with lock:
                assert lock.locked()
    assert not lock.locked()


@pytest.mark.parametrize("kind", ["Lock", *sorted(RECURSIVE)])
def test_what_a_killed_client_had_acquired_goes_to_who_waits_for_it(context: Any, manager: Any, kind: str):
    lock = getattr(manager, kind)()
    process = holder_of(context, lock, "acquired")
    got = []

    def wait() -> None:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            got.append(lock.acquire(True, LONG))
            got.extend(one.category for one in warned)

    waiter = threading.Thread(target=wait)
    waiter.start()
    process.kill()
    waiter.join()
    process.join()
    assert got == [True, AbandonedLockWarning]


def wait_at(barrier: Any, pipe: Any, ends: bool) -> None:
    threading.Thread(target=barrier.wait, daemon=True).start()
    pipe.recv()
    if not ends:
        signal.pause()


@pytest.mark.parametrize("ends", [False, True], ids=["killed", "ended in order"])
def test_a_barrier_breaks_when_a_client_is_killed_that_waits_at_it(context: Any, manager: Any, ends: bool):
    barrier = manager.Barrier(3)
    near, far = context.Pipe()
    process = context.Process(target=wait_at, args=(barrier, far, ends))
    process.start()
    thread = threading.Thread(target=barrier_outcome, args=(barrier, outcome := []))
    thread.start()
    deadline = time.monotonic() + LONG
    while barrier.n_waiting < 2:
        assert time.monotonic() < deadline
    near.send("now")
    if ends:
        process.join()
        assert (barrier.n_waiting, barrier.broken) == (2, False)
        barrier.wait(LONG)
        thread.join()
        assert outcome == ["passed"]
    else:
        process.kill()
        process.join()
        thread.join()
        assert outcome == ["broken"]
        assert barrier.broken
        barrier.reset()
        assert (barrier.n_waiting, barrier.broken) == (0, False)


def barrier_outcome(barrier: Any, outcome: list[str]) -> None:
    try:
        barrier.wait(LONG)
        outcome.append("passed")
    except threading.BrokenBarrierError:
        outcome.append("broken")


def test_a_semaphore_that_was_not_entered_counts_what_others_count(context: Any, manager: Any):
    semaphore = manager.Semaphore(1)
    process = holder_of(context, semaphore, "acquired")
    process.kill()
    process.join()
    assert semaphore.acquire(True, 5 * MOMENT) is False
    semaphore.release()
    assert semaphore.acquire(False) is True


@pytest.mark.parametrize("kind", ["Lock", "Semaphore", "BoundedSemaphore"])
def test_what_a_client_left_locked_when_it_ended_stays_so(context: Any, manager: Any, kind: str):
    lock = getattr(manager, kind)()
    process = holder_of(context, lock, "ends")
    process.join()
    assert process.exitcode == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert lock.acquire(True, 5 * MOMENT) is False
        lock.release()
        assert lock.acquire(False) is True


def test_a_lock_is_handed_over_by_a_thread_that_ends(manager: Any):
    lock = manager.Lock()
    thread = threading.Thread(target=lock.acquire)
    thread.start()
    thread.join()
    assert lock.acquire(True, 5 * MOMENT) is False
    lock.release()
    assert lock.acquire(False) is True


def test_a_lock_that_another_client_has_released_is_not_taken_from_the_next(context: Any, manager: Any):
    lock = manager.Lock()
    process = holder_of(context, lock, "acquired")
    lock.release()
    assert lock.acquire(False) is True
    process.kill()
    process.join()
    time.sleep(5 * MOMENT)  # the server has had the time to do the wrong thing
    assert lock.locked()
    lock.release()


def test_a_recursive_lock_is_given_back_as_often_as_it_was_acquired(context: Any, manager: Any):
    lock = manager.RLock()

    def twice() -> None:
        lock.acquire()
        lock.acquire()

    process = context.get_context("fork").Process(target=twice)
    process.start()
    process.join()
    with pytest.warns(AbandonedLockWarning):
        assert lock.acquire(True, LONG)
    lock.release()
    assert not lock.locked()


def wait_in(condition: Any, pipe: Any) -> None:
    with condition:
        pipe.send("waits")
        condition.wait()


def waiter_for(context: Any, condition: Any) -> Any:
    """Start a process that waits for a condition."""
    near, far = context.Pipe()
    process = context.Process(target=wait_in, args=(condition, far))
    process.start()
    far.close()
    assert near.recv() == "waits"
    with condition:  # so it waits
        return process


def test_a_client_that_was_killed_while_it_waited_for_a_condition_left_nothing_half_changed(context: Any, manager: Any):
    condition = manager.Condition()
    process = waiter_for(context, condition)
    with condition:
        process.kill()
        process.join()
        condition.notify()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert condition.acquire(True, LONG)
    condition.release()


def test_who_is_interrupted_in_a_wait_for_a_condition_is_told_of_that(manager: Any):
    """And not that the condition, which the server has given back by then, cannot be released."""

    def ring(*_: object) -> None:
        raise ZeroDivisionError

    condition = manager.Condition()
    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(ZeroDivisionError), condition:
            condition.wait(LONG)
    finally:
        signal.signal(signal.SIGALRM, before)
    with condition:
        condition.notify()
    with pytest.raises(RuntimeError, match="un-acquired"), condition:
        condition.release()


def test_a_notification_is_not_spent_on_a_client_that_was_killed(context: Any, manager: Any):
    condition = manager.Condition()
    killed, other = waiter_for(context, condition), waiter_for(context, condition)
    killed.kill()
    killed.join()
    with condition:
        condition.notify()
    other.join(LONG)
    assert other.exitcode == 0


def take_over(lock: Any, pipe: Any) -> None:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        pipe.send(lock.locked())
        pipe.send((lock.acquire(True, LONG), [one.category for one in warned]))
        pipe.recv()
        pipe.send(lock.locked())


def test_who_is_lost_sight_of_does_not_release_what_the_next_one_has(context: Any, manager: Any):
    lock = manager.Lock()
    link = lock._link
    near, far = context.Pipe()
    lock.acquire()
    next_one = context.Process(target=take_over, args=(lock, far))
    next_one.start()
    far.close()
    assert near.recv() is True
    for session in (link._keeper, link.local.session):  # the network breaks down; this process lives
        session.close()
    assert near.recv() == (True, [AbandonedLockWarning])
    with pytest.raises(ManagerDied):
        lock.release()
    with pytest.raises(AbandonedLockError, match="taken for dead"):
        lock.release()
    near.send("is it still yours?")
    assert near.recv() is True
    next_one.join()


def test_where_the_warning_is_an_error_the_lock_is_free(context: Any, manager: Any):
    lock = manager.Lock()
    holder_of(context, lock, "with").kill()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(AbandonedLockWarning):
            lock.acquire(True, LONG)
        assert lock.acquire(False) is True
        lock.release()


def test_a_pool_goes_on_when_a_worker_is_killed_that_held_the_managers_lock(context: Any, manager: Any):
    lock, counter = manager.Lock(), manager.Value("i", 0)
    with context.Pool(2) as pool:
        pool.map(count_up, [(lock, counter, False)] * 4)
        with pytest.raises(shoal.errors.WorkerLostError):
            pool.apply(count_up, ((lock, counter, True),))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pool.map_async(count_up, [(lock, counter, False)] * 4).get(LONG)
    assert counter.value == 8


def count_up(work: Any) -> None:
    lock, counter, dies = work
    warnings.simplefilter("ignore", AbandonedLockWarning)
    with lock:
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)
        counter.value += 1
