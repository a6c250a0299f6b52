"""Whatever a killed process held goes to who waits for it, who is told; what a process that exits was to keep, it keeps."""

from __future__ import annotations

import os
import signal
import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import crash_tasks as tasks
import psutil
import pytest
from crash_table import SECONDS, Case, each

from shoal import get_context, synchronize
from shoal.errors import AbandonedLockError, AbandonedLockWarning
from shoal.synchronize import Lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def a_moment_later(act: Callable[[], object], seconds: float = 0.1) -> Iterator[None]:
    """Do something while the block waits."""
    timer = threading.Timer(seconds, act)
    timer.start()
    try:
        yield
    finally:
        timer.join()


def the_lock_is_taken_over(thing: Any) -> None:
    with pytest.warns(AbandonedLockWarning, match="was killed"):
        assert thing.acquire(timeout=SECONDS)
    thing.release()


def the_lock_refuses_and_is_free(thing: Any) -> None:
    with pytest.raises(AbandonedLockError):
        thing.acquire(timeout=SECONDS)
    assert thing.acquire(timeout=SECONDS)
    thing.release()


def the_permit_comes_back(thing: Any) -> None:
    assert thing.acquire(timeout=SECONDS)
    thing.release()


def the_condition_is_taken_over(thing: Any) -> None:
    with pytest.warns(AbandonedLockWarning), thing:
        assert not thing.wait(0.01)


def the_barrier_breaks(thing: Any) -> None:
    with pytest.raises(threading.BrokenBarrierError):
        thing.wait()  # a timeout would break it, too
    assert thing.broken


def join_returns(thing: Any) -> None:
    thing.join()


KILLED = [
    Case("a lock", ("Lock", (), "take"), the_lock_is_taken_over),
    Case("a lock that refuses", ("Lock", "raise", "take"), the_lock_refuses_and_is_free),
    Case("an rlock", ("RLock", (), "take"), the_lock_is_taken_over),
    Case("a semaphore in a with statement", ("Semaphore", (1,), "enter"), the_permit_comes_back),
    Case("a bounded semaphore in a with statement", ("BoundedSemaphore", (1,), "enter"), the_permit_comes_back),
    Case("a condition", ("Condition", (), "enter"), the_condition_is_taken_over),
    Case("a place at a barrier", ("Barrier", (3,), "wait_at"), the_barrier_breaks),
    Case("an item of a joinable queue", ("JoinableQueue", (), "get_one"), join_returns),
]


def made(context: Any, kind: str, arguments: Any) -> Any:
    thing = Lock(on_abandoned="raise") if arguments == "raise" else getattr(context, kind)(*arguments)
    if kind == "JoinableQueue":
        thing.put("something")
    return thing


@each(KILLED)
def test_who_waits_goes_on_when_one_is_killed_that_held(case: Case, method: str, context: Any) -> None:  # noqa: ARG001
    kind, arguments, how = case.act
    thing, event = made(context, kind, arguments), context.Event()
    holder = context.Process(target=tasks.hold, args=(thing, how, event), daemon=True)
    holder.start()
    assert event.wait(SECONDS)
    with a_moment_later(holder.kill):
        case.outcome(thing)
    holder.join()


@each([Case("raises an exception", "raise"), Case("leaves with an exit code", "leave")])
def test_a_lock_goes_on_whose_holder(case: Case, method: str, context: Any) -> None:  # noqa: ARG001
    for lock in (context.Lock(), context.Condition()):
        holder = context.Process(target=tasks.hold_and_fail, args=(lock, case.act))
        holder.start()
        holder.join()
        assert holder.exitcode
        with pytest.warns(AbandonedLockWarning):
            assert lock.acquire(timeout=SECONDS) if isinstance(lock, Lock) else lock.acquire()
        lock.release()


def passed_with(context: Any, barrier: Any, how: str, go: Any) -> Any:
    """Pass a barrier of two together with a new process, which ends as `how` says when it may `go`."""
    party = context.Process(target=tasks.pass_and, args=(barrier, how, go))
    party.start()
    assert barrier.wait(SECONDS) in {0, 1}
    return party


@each([Case("was killed", "kill"), Case("raised an exception", "raise"), Case("left with an exit code", "leave")])
def test_a_barrier_breaks_when_a_party_of_the_last_round(case: Case, method: str, context: Any) -> None:  # noqa: ARG001
    for somebody_waits in (True, False):
        barrier, go = context.Barrier(2), context.Event()
        party = passed_with(context, barrier, case.act, go)
        if somebody_waits:
            with a_moment_later(go.set):
                the_barrier_breaks(barrier)
            party.join()
        else:
            go.set()
            party.join()
            the_barrier_breaks(barrier)
        barrier.reset()
        assert (barrier.broken, barrier.n_waiting) == (False, 0)


@each([Case("was told to terminate", "terminate"), Case("was killed", "kill"), Case("left in order", "join")])
def test_another_may_take_the_place_of_a_party_that(case: Case, method: str, context: Any) -> None:  # noqa: ARG001
    barrier, go = context.Barrier(2), context.Event()
    for _ in range(3):
        party = passed_with(context, barrier, "return", go)
        if case.act == "join":
            go.set()
        else:
            getattr(party, case.act)()
        party.join()
    assert not barrier.broken


@each([Case("was killed", "kill"), Case("raised an exception", "raise"), Case("left with an exit code", "leave")])
def test_another_that_has_the_barrier_may_take_the_place_of_a_party_that(case: Case, method: str, context: Any) -> None:  # noqa: ARG001
    barrier = context.Barrier(2)
    told, ends = [context.Event() for _ in range(2)], [context.Event() for _ in range(2)]
    parties = [
        context.Process(target=tasks.come_when_told, args=(barrier, come, case.act, end))
        for come, end in zip(told, ends, strict=True)
    ]
    for party in parties:
        party.start()
    told[0].set()
    barrier.wait(SECONDS)
    ends[0].set()
    parties[0].join()
    with a_moment_later(told[1].set, 0.8):  # it is looked for one who may come after half a second
        assert barrier.wait(SECONDS) in {0, 1}
    ends[1].set()
    parties[1].join()


@each([Case("was killed", "kill"), Case("raised an exception", "raise"), Case("left with an exit code", "leave")])
def test_a_barrier_leaves_time_to_replace_a_party_that(case: Case, method: str, context: Any) -> None:  # noqa: ARG001
    barrier, go, rounds = context.Barrier(2), context.Event(), context.SimpleQueue()
    go.set()
    waits = context.Process(target=tasks.pass_often, args=(barrier, 3, rounds))
    waits.start()
    for _ in range(3):
        party = context.Process(target=tasks.pass_and, args=(barrier, case.act, go))
        party.start()
        party.join()  # who supervises learns of the end, and only then starts the next
    assert rounds.get() == 3
    waits.join()


def test_who_has_left_in_order_is_waited_for() -> None:
    context = get_context("fork")
    barrier, go = context.Barrier(2), context.Event()
    go.set()
    party = passed_with(context, barrier, "return", go)
    party.join()
    index: list[int] = []
    thread = threading.Thread(target=lambda: index.append(barrier.wait()))
    thread.start()
    thread.join(0.2)
    assert not barrier.broken
    index.append(barrier.wait(SECONDS))
    thread.join()
    assert sorted(index) == [0, 1]


@each([Case("came", None)])
def test_a_barrier_breaks_when_a_replacement_is_killed_before_it(case: Case, method: str, context: Any) -> None:  # noqa: ARG001
    barrier, go = context.Barrier(2), context.Event()
    party = passed_with(context, barrier, "return", go)
    party.kill()
    party.join()
    replacement = context.Process(target=tasks.sleep_long)
    replacement.start()
    with a_moment_later(replacement.kill):
        the_barrier_breaks(barrier)
    replacement.join()


def test_reset_forgets_that_a_party_is_missing() -> None:
    context = get_context("fork")
    barrier, go = context.Barrier(2), context.Event()
    party = passed_with(context, barrier, "return", go)
    party.kill()
    party.join()
    barrier.reset()
    thread = threading.Thread(target=barrier.wait)
    thread.start()
    assert barrier.wait(SECONDS) in {0, 1}
    thread.join()


@each([Case("a lock", "Lock"), Case("an rlock", "RLock")])
def test_a_wait_that_takes_its_lock_back_from_one_that_was_killed_is_left_with_it(
    case: Case,
    method: str,  # noqa: ARG001
    context: Any,
) -> None:
    condition, taken = context.Condition(getattr(synchronize, case.act)(on_abandoned="raise")), context.Event()
    holder = context.Process(target=tasks.hold, args=(condition, "enter", taken), daemon=True)

    def kill_once_it_holds() -> None:
        taken.wait(SECONDS)
        holder.kill()

    def wait() -> None:
        with condition:
            holder.start()
            with a_moment_later(kill_once_it_holds):
                while True:
                    assert not condition.wait(0.05)

    # What leaves the block is that it is told, not that its end has nothing to let go of.
    with pytest.raises(AbandonedLockError):
        wait()
    holder.join()
    with condition:
        assert not condition.wait(0)


@each([Case("raised an exception", "raise"), Case("left with an exit code", "leave")])
def test_join_does_not_wait_for_an_item_whose_consumer(case: Case, method: str, context: Any) -> None:  # noqa: ARG001
    queue = context.JoinableQueue()
    queue.put("something")
    consumer = context.Process(target=tasks.get_and_fail, args=(queue, case.act))
    consumer.start()
    queue.join()
    consumer.join()
    assert consumer.exitcode == (1 if case.act == "raise" else 3)


@each([Case("arrive", None)])
def test_items_of_killed_consumers_that_another_process_reports(case: Case, method: str, context: Any) -> None:  # noqa: ARG001
    queue, received = context.JoinableQueue(), context.SimpleQueue()
    consumers = [context.Process(target=tasks.hand_on, args=(queue, received), daemon=True) for _ in range(2)]
    for consumer in consumers:
        consumer.start()
    for _ in range(20):
        queue.put("something")
        received.get()
        queue.task_done()
    queue.join()
    queue.put("kept")  # in the hands of one of them, until the end
    pid = received.get()
    next(consumer for consumer in consumers if consumer.pid == pid).kill()
    queue.join()
    with pytest.raises(ValueError, match="too many"):
        queue.task_done()
    for consumer in consumers:
        consumer.kill()
        consumer.join()


@each([Case("another waiter", None)])
def test_a_notification_of_one_that_is_killed_before_it_has_the_lock_back_reaches(
    case: Case,  # noqa: ARG001
    method: str,  # noqa: ARG001
    context: Any,
) -> None:
    condition, entered = context.Condition(), context.Semaphore(0)
    told = [context.Event(), context.Event()]
    waiters = []
    for event in told:  # one after the other: the first is the oldest
        arguments = condition, entered, event
        waiters.append(context.Process(target=tasks.wait_for_notification, args=arguments, daemon=True))
        waiters[-1].start()
        assert entered.acquire(timeout=SECONDS)
        with condition:
            pass  # now it waits
    with condition:
        condition.notify()
        waiters[0].kill()
        waiters[0].join()
    assert told[1].wait(SECONDS)
    assert not told[0].is_set()
    waiters[1].join()


@each([Case("kept", None)])
def test_a_lock_that_a_process_took_and_exited_is(case: Case, method: str, context: Any) -> None:  # noqa: ARG001
    lock, rlock = context.Lock(), context.RLock()
    process = context.Process(target=tasks.take_and_exit, args=(lock, rlock))
    process.start()
    process.join()
    assert process.exitcode == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AbandonedLockWarning)
        assert rlock.acquire(timeout=SECONDS)  # it belongs to a thread, so it goes on
    rlock.release()
    assert not lock.acquire(timeout=0.05)
    lock.release()  # anybody may
    assert lock.acquire(timeout=SECONDS)


@each([Case("loses nothing", None)])
def test_ten_megabytes_put_by_a_process_that_is_joined_first(case: Case, method: str, context: Any) -> None:  # noqa: ARG001
    queue = context.Queue()
    process = context.Process(target=tasks.put_bytes, args=(queue, 10 << 20))
    process.start()
    process.join(SECONDS)
    assert process.exitcode == 0
    assert len(queue.get(timeout=SECONDS)) == 10 << 20
    with pytest.raises(TypeError, match="lock"):
        queue.put(threading.Lock())
    assert queue.empty()


@each([Case("a watcher", None, methods=("fork",))])
def test_there_is_always(case: Case, method: str, context: Any) -> None:  # noqa: ARG001
    from shoal import _native  # noqa: PLC0415 - nobody else here looks below the surface

    event, semaphore = context.Event(), context.Semaphore(1)
    holder = context.Process(target=tasks.hold, args=(semaphore, "enter", event), daemon=True)
    holder.start()
    assert event.wait(SECONDS)
    watcher = 0
    for _ in range(3):  # nothing is started meanwhile; the test's watchdog counts
        while _native.watcher_pid() in {0, watcher}:
            threading.Event().wait(0.005)
        watcher = _native.watcher_pid()
        while not psutil.Process(watcher).children():  # its stand-by
            threading.Event().wait(0.005)
        os.kill(watcher, signal.SIGKILL)
    with a_moment_later(holder.kill):
        assert semaphore.acquire(timeout=SECONDS)
    holder.join()
