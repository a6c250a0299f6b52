"""What deaths and pickling do to shoal's synchronisation objects.

What they have in common with the standard library's is in contract/, what signals do in test_synchronize_signals.py.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import threading
import warnings
from contextlib import ExitStack, contextmanager
from threading import BrokenBarrierError
from typing import TYPE_CHECKING, Any

import pytest

import shoal
from shoal import _native
from shoal.errors import AbandonedLockError, AbandonedLockWarning, StaleReferenceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

mp = shoal.get_context("fork")

LONG = 20.0  # seconds: what must happen happens within them, on a busy machine too
SHORT = 0.05  # seconds: to look at something that must not happen


@contextmanager
def child(work: Callable[..., object], *args: Any) -> Iterator[Any]:
    """Run the work in a process of its own; it may go on when ``work`` calls the ``ready`` that it is given."""
    ready = mp.Semaphore(0)
    process = mp.Process(target=work, args=(ready.release, *args))
    process.start()
    try:
        assert ready.acquire(timeout=LONG)
        yield process
    finally:
        process.kill()
        process.join()


def kill(process: Any) -> None:
    process.kill()
    process.join()


@contextmanager
def later(action: Callable[[], object], seconds: float = 2 * SHORT) -> Iterator[None]:
    """Do something while this thread waits (or, on a busy machine, just before: it must not matter)."""
    timer = threading.Timer(seconds, action)
    timer.start()
    try:
        yield
    finally:
        timer.join()


def hold(ready: Callable[[], object], *things: Any) -> None:
    with ExitStack() as stack:
        for thing in things:
            stack.enter_context(thing)
        ready()
        signal.pause()


def acquire_and_leave(ready: Callable[[], object], lock: Any) -> None:
    lock.acquire()
    ready()


# --- who is killed while holding ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("while_waiting", [True, False], ids=["while somebody waits", "before anybody waits"])
@pytest.mark.parametrize("kind", ["Lock", "RLock", "Condition"])
def test_the_lock_of_a_killed_holder_goes_to_the_next_who_is_told(kind: str, while_waiting: bool):
    lock = getattr(mp, kind)()
    with child(hold, lock) as holder:
        assert lock.acquire(block=False) is False
        if not while_waiting:
            kill(holder)
        with later(holder.kill), pytest.warns(AbandonedLockWarning, match="was killed"):
            assert lock.acquire(timeout=LONG) is True
    lock.release()
    assert lock.acquire(timeout=0) is True, "and nobody is told twice"
    lock.release()


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_a_lock_may_refuse_to_be_taken_over(kind: str):
    lock = getattr(shoal.synchronize, kind)(ctx=mp, on_abandoned="raise")
    with child(hold, lock) as holder:
        kill(holder)
        with pytest.raises(AbandonedLockError), lock:
            pytest.fail("the body of the with statement ran")
    with lock:
        assert lock.locked()
    assert not lock.locked()
    with pytest.raises(ValueError, match="on_abandoned"):
        getattr(shoal.synchronize, kind)(ctx=mp, on_abandoned="ignore")


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_a_warning_that_is_an_error_leaves_the_lock_free(kind: str):
    lock = getattr(mp, kind)()
    with child(hold, lock) as holder:
        kill(holder)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(AbandonedLockWarning):
                lock.acquire()
    assert not lock.locked()


def test_all_who_wait_for_locks_of_one_killed_process_go_on():
    locks = [mp.Lock() for _ in range(5)]
    taken = mp.Semaphore(0)

    def wait(ready: Callable[[], object], lock: Any) -> None:
        warnings.simplefilter("ignore")
        ready()
        if lock.acquire(timeout=LONG):
            lock.release()
            taken.release()

    with child(hold, *locks) as holder, ExitStack() as stack:
        for lock in locks:
            stack.enter_context(child(wait, lock))
        kill(holder)
        for _ in locks:
            assert taken.acquire(timeout=LONG)


def test_a_semaphore_gets_back_what_a_with_statement_held_and_no_more():
    semaphore = mp.BoundedSemaphore(3)

    def hold_both(ready: Callable[[], object]) -> None:
        semaphore.acquire()
        hold(ready, semaphore, semaphore)

    with child(hold_both) as holder:
        assert semaphore.get_value() == 0
        with later(holder.kill):
            assert semaphore.acquire(timeout=LONG) is True
            assert semaphore.acquire(timeout=LONG) is True
        assert semaphore.acquire(timeout=SHORT) is False, "the bare token is not given back"


def test_nested_with_statements_of_a_semaphore_give_back_each_once():
    semaphore = mp.BoundedSemaphore(3)
    with semaphore, semaphore:
        semaphore.acquire()
        assert semaphore.get_value() == 0
        semaphore.release()
    assert semaphore.get_value() == 3


# --- who leaves -----------------------------------------------------------------------------------------------------------


def test_a_lock_stays_held_when_its_holder_exits_and_anybody_may_release_it():
    lock = mp.Lock()
    with child(acquire_and_leave, lock) as process:
        process.join()
    assert process.exitcode == 0
    assert lock.locked()
    assert lock.acquire(timeout=SHORT) is False
    with later(lock.release):
        assert lock.acquire(timeout=LONG) is True


def test_an_rlock_goes_on_when_its_holder_exits():
    lock = mp.RLock()
    with child(acquire_and_leave, lock) as process:
        process.join()
        with pytest.warns(AbandonedLockWarning):
            assert lock.acquire(timeout=LONG) is True


# --- who is killed while waiting ------------------------------------------------------------------------------------------


def wait_at(ready: Callable[[], object], barrier: Any) -> None:
    ready()
    barrier.wait()


def until(condition: Callable[[], object]) -> None:
    event, limit = threading.Event(), LONG / 0.002
    while not condition():
        event.wait(0.002)
        limit -= 1
        assert limit > 0


def test_a_killed_party_breaks_the_barrier():
    barrier = mp.Barrier(3)
    with child(wait_at, barrier) as doomed:
        until(lambda: barrier.n_waiting == 1)
        with later(doomed.kill), pytest.raises(BrokenBarrierError):
            barrier.wait()  # a timeout would break it, too
    assert barrier.broken
    barrier.reset()
    assert (barrier.broken, barrier.n_waiting) == (False, 0)


def test_a_party_that_was_killed_before_it_was_back_from_a_round_breaks_the_next_one():
    barrier = mp.Barrier(2)
    with child(wait_at, barrier) as doomed:
        until(lambda: barrier.n_waiting == 1)
        os.kill(doomed.pid, signal.SIGSTOP)
        assert barrier.wait(LONG) == 1, "it has come, and does not know yet that all have"
        with later(doomed.kill), pytest.raises(BrokenBarrierError):
            barrier.wait()  # a timeout would break it, too
    assert barrier.broken
    barrier.reset()
    assert (barrier.broken, barrier.n_waiting) == (False, 0)


def test_a_barrier_breaks_when_the_process_that_runs_its_action_is_killed():
    acting, broken = mp.Semaphore(0), mp.Semaphore(0)

    def action() -> None:
        acting.release()
        signal.pause()

    def wait_until_broken(ready: Callable[[], object]) -> None:
        try:
            wait_at(ready, barrier)
        except BrokenBarrierError:
            broken.release()

    barrier = mp.Barrier(2, action)
    with child(wait_until_broken):
        until(lambda: barrier.n_waiting == 1)
        with child(wait_at, barrier) as doomed:
            assert acting.acquire(timeout=LONG)
            kill(doomed)
            assert broken.acquire(timeout=LONG)


def wait_on(ready: Callable[[], object], condition: Any, told: Any) -> None:
    with condition:
        ready()
        if condition.wait(LONG):
            told.release()


def test_a_notification_is_not_lost_on_a_killed_waiter():
    condition, told = mp.Condition(), mp.Semaphore(0)
    with child(wait_on, condition, told) as doomed:
        condition.acquire()  # so it waits
        condition.release()
        with child(wait_on, condition, told):
            condition.acquire()
            kill(doomed)
            condition.notify()
            condition.release()
            assert told.acquire(timeout=LONG)


def test_a_waiter_killed_after_it_was_notified_leaves_nothing_behind():
    condition, told = mp.Condition(), mp.Semaphore(0)
    with child(wait_on, condition, told) as doomed, condition:
        condition.notify()
        kill(doomed)  # notified, and waiting for the lock that is held here
    with child(wait_on, condition, told):
        with condition:
            condition.notify()
        assert told.acquire(timeout=LONG)
    assert told.get_value() == 0
    assert repr(condition) == "<Condition(<RLock(None, 0)>, 0)>"


def test_random_kills_never_stop_the_others():
    """Four processes that use everything at once and are killed at any moment; each one's place is taken by another."""
    lock, semaphore, counter = mp.Lock(), mp.Semaphore(2), mp.Semaphore(0)
    condition = mp.Condition()

    def work() -> None:
        warnings.simplefilter("ignore")
        while True:
            with lock, semaphore:
                counter.release()
            with condition:
                condition.notify_all()
                condition.wait(0.001)

    def start() -> Any:
        process = mp.Process(target=work)
        process.start()
        return process

    processes = [start() for _ in range(4)]
    try:
        for turn in range(40):
            kill(processes[turn % 4])
            before = counter.get_value()
            until(lambda before=before: counter.get_value() > before + 20)
            processes[turn % 4] = start()
    finally:
        for process in processes:
            kill(process)
    until(lambda: semaphore.get_value() == 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert lock.acquire(timeout=LONG)


# --- the rest -------------------------------------------------------------------------------------------------------------


def test_an_event_set_and_cleared_at_once_releases_who_waited():
    event, passed = mp.Event(), mp.Semaphore(0)
    threads = [threading.Thread(target=lambda: event.wait(LONG) and passed.release()) for _ in range(3)]
    for thread in threads:
        thread.start()
    with later(lambda: (event.set(), event.clear()), 4 * SHORT):
        pass
    for thread in threads:
        thread.join()
    assert passed.get_value() == 3
    assert not event.is_set()


def test_a_wait_lets_go_of_a_plain_lock_only_if_this_thread_has_it():
    condition = mp.Condition(mp.Lock())
    with condition:
        outcome: list[type[BaseException]] = []

        def notify() -> None:
            try:
                condition.notify()
            except AssertionError as error:
                outcome.append(type(error))

        thread = threading.Thread(target=notify)
        thread.start()
        thread.join()
    assert outcome == [AssertionError]


def test_a_condition_takes_any_lock():
    condition = mp.Condition(mp.Semaphore(1))
    with condition:
        assert condition.wait(SHORT) is False
        condition.notify()
    assert condition.acquire(block=False) is True


MAKERS: dict[str, Callable[[], Any]] = {
    "Lock": mp.Lock,
    "RLock": mp.RLock,
    "Semaphore": lambda: mp.Semaphore(2),
    "BoundedSemaphore": lambda: mp.BoundedSemaphore(2),
    "Event": mp.Event,
    "Condition": mp.Condition,
    "Condition of a Lock": lambda: mp.Condition(mp.Lock()),
    "Barrier": lambda: mp.Barrier(2, print, 5.0),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_an_unpickled_object_is_the_same_object(kind: str):
    thing = MAKERS[kind]()
    twin = pickle.loads(pickle.dumps(thing))
    assert type(twin) is type(thing)
    if kind.endswith("Semaphore"):
        twin.acquire()
        assert thing.get_value() == 1
    elif kind.endswith("Lock") and not kind.startswith("Condition"):
        twin.acquire()
        assert thing.locked()
        thing.release()
    elif kind == "Event":
        twin.set()
        assert thing.is_set()
    elif kind.startswith("Condition"):
        with twin:
            assert thing._lock.locked()
            thing.notify()
    else:
        twin.abort()
        assert thing.broken
        assert twin._defaults() == (print, 5.0)


@pytest.mark.parametrize(
    "kind", [kind for kind in MAKERS if kind != "Event"]
)  # whose reference is no part of its state
def test_an_object_given_another_state_is_the_other_object(kind: str):
    thing, other = MAKERS[kind](), MAKERS[kind]()
    repr(thing)  # it has been used
    index = thing._index
    thing.__setstate__(other.__getstate__())
    assert thing._index == other._index != index
    assert repr(thing).partition("at ")[0] == repr(other).partition("at ")[0]


def test_an_object_given_its_own_state_is_still_held():
    lock = mp.Lock()
    lock.__setstate__(lock.__getstate__())
    lock.acquire()
    for _ in range(1000):
        mp.Lock()  # so that what nobody holds is swept
    assert lock.locked()
    assert pickle.loads(pickle.dumps(lock)).locked()


def test_a_reference_to_what_is_gone_says_so():
    pickled = pickle.dumps(mp.Lock())
    with pytest.raises(StaleReferenceError):
        pickle.loads(pickled)


def test_what_is_dropped_leaves_the_arena_as_it_was():
    def in_use() -> dict[str, int]:
        gc.collect()
        return {key: value for key, value in _native.arena_statistics().items() if key in {"objects", "nodes", "bytes"}}

    def use_all() -> None:
        for kind, make in MAKERS.items():
            thing = make()
            if kind not in {"Event", "Barrier"}:
                with thing:
                    pass

    use_all()
    before = in_use()
    for _ in range(2000):
        use_all()
    assert in_use() == before
