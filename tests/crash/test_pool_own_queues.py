"""The same promises where a subclass of ``Pool`` brought queues of its own, which pickle and load a message as a whole."""

from __future__ import annotations

import itertools
import signal
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pool_tasks as tasks
import pytest
from alarms import AlarmError, alarms
from crash_table import SECONDS, Case, each, raised_by
from own_queues import OwnQueues, with_tasks_by
from test_pool_deaths import TASKS, raised_by_or_value

from shoal.errors import WorkerLostError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shoal.pool import Pool


@pytest.fixture
def pool(context: Any) -> Iterator[Pool]:
    with OwnQueues(2, context=context) as pool:
        yield pool


@each(TASKS)
def test_a_task_among_twenty_others_fails_alone_if_it(case: Case, method: str, pool: Pool) -> None:  # noqa: ARG001
    function, arguments = case.act
    results = [
        pool.apply_async(function, arguments) if i == 7 else pool.apply_async(tasks.double, (i,)) for i in range(21)
    ]
    case.outcome(raised_by(lambda: results.pop(7).get(SECONDS)))
    assert [result.get(SECONDS) for result in results] == [2 * i for i in range(21) if i != 7]


@each([Case("one by one", 1), Case("in chunks", 4)])
def test_items_that_cannot_be_loaded_fail_alone(case: Case, method: str, pool: Pool) -> None:  # noqa: ARG001
    items = [tasks.LoadsNowhere() if i in {2, 9} else i for i in range(12)]
    results = pool.imap(tasks.double, items, chunksize=case.act)
    for i in range(12):
        if i in {2, 9}:
            assert "not to be loaded" in str(raised_by(lambda: results.next(SECONDS)))
        else:
            assert results.next(SECONDS) == 2 * i
    assert pool.map(tasks.double, range(5)) == [0, 2, 4, 6, 8]


@each([Case("the item that it had taken", None)])
def test_a_worker_that_dies_of_loading_costs(case: Case, method: str, pool: Pool) -> None:  # noqa: ARG001
    results = pool.imap(tasks.double, [1, tasks.KillsWhoLoadsIt(), 3])
    assert results.next(SECONDS) == 2
    assert isinstance(raised_by(lambda: results.next(SECONDS)), WorkerLostError)
    assert results.next(SECONDS) == 6


@each([Case("every few milliseconds", None)])
def test_a_signal_handler_that_raises(case: Case, method: str, pool: Pool) -> None:  # noqa: ARG001
    results = [pool.apply_async(tasks.double, (i,)) for i in range(2000)]
    with alarms(0.003):
        while not results[-1]._done:
            with suppress(AlarmError):
                results[-1].wait(SECONDS)
    assert [result.get(SECONDS) for result in results] == [2 * i for i in range(2000)]


@each([Case("one", 1), Case("a chunk", 4)])
def test_a_task_whose_worker_is_killed_before_it_has_loaded_any_of_it_fails_alone(
    case: Case,
    method: str,  # noqa: ARG001
    context: Any,
) -> None:
    with with_tasks_by(tasks.SnatchingQueue)(2, context=context) as pool:
        results = pool.imap(tasks.double, range(8), chunksize=case.act)
        outcomes = [raised_by_or_value(results) for _ in range(8)]
    lost = [outcome for outcome in outcomes if isinstance(outcome, WorkerLostError) and "SIGKILL" in str(outcome)]
    assert len(lost) == case.act, outcomes
    assert [outcome for outcome in outcomes if outcome not in lost] == [
        2 * i for i in range(8) if outcomes[i] not in lost
    ]


@each([Case("waits for a task", None)])
def test_nobody_is_warned_of_the_lock_of_a_worker_that_is_killed_while_it(
    case: Case,  # noqa: ARG001
    method: str,  # noqa: ARG001
    context: Any,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with with_tasks_by(tasks.PipedQueue)(2, context=context) as pool:
        for _ in range(3):
            assert pool.map(tasks.double, range(8)) == [2 * i for i in range(8)]
            # One has the lock, the other waits for it, and who comes in its place finds it abandoned.
            for worker in list(pool._pool):
                worker.kill()
                worker.join()
        assert pool.map(tasks.double, range(8)) == [2 * i for i in range(8)]
    assert "AbandonedLockWarning" not in capfd.readouterr().err


@each([Case("more than the queue holds", b"x" * (1 << 20))])
def test_a_pool_that_is_terminated_leaves_no_thread_with_unsent_work_of(case: Case, method: str, context: Any) -> None:  # noqa: ARG001
    before = set(threading.enumerate())
    with with_tasks_by(tasks.PipedQueue)(1, context=context) as pool:
        pool.apply_async(tasks.hang)
        for _ in range(64):
            pool.apply_async(len, (case.act,))
    for thread in set(threading.enumerate()) - before:
        thread.join(SECONDS)
        assert not thread.is_alive()


@each([Case("is noticed", None)])
def test_a_death_while_results_keep_coming(case: Case, method: str, pool: Pool) -> None:  # noqa: ARG001
    coming = pool.imap_unordered(tasks.double, itertools.count())
    doomed = pool.apply_async(tasks.die_of, ("SIGKILL",))
    until = time.monotonic() + SECONDS
    while not doomed._done:  # `ready` would look by itself
        coming.next(SECONDS)
        assert time.monotonic() < until
    assert isinstance(raised_by(lambda: doomed.get(SECONDS)), WorkerLostError)


@each([Case("ends all the same", None, methods=("fork",))])
def test_a_pool_whose_end_mark_went_with_a_worker_that_was_killed(case: Case, method: str, context: Any) -> None:  # noqa: ARG001
    class Fatal(OwnQueues):
        def _setup_queues(self) -> None:
            super()._setup_queues()
            self._inqueue = tasks.DeadlyQueue(self._inqueue, self._ctx.Semaphore(1))

    pool = Fatal(2, context=context)
    assert pool.map(tasks.double, range(5)) == [0, 2, 4, 6, 8]
    pool.close()
    pool.join()
    assert sorted(worker.exitcode for worker in pool._pool) == [-signal.SIGKILL, 0]


@each([Case("fails with that", None)])
def test_a_task_that_the_queues_own_pickler_refuses(case: Case, method: str, context: Any) -> None:  # noqa: ARG001
    class Choosy(OwnQueues):
        def _setup_queues(self) -> None:
            super()._setup_queues()
            send = self._quick_put

            def put(message: Any) -> None:
                if message is not None and message[1][2] == (13,):
                    raise LookupError("the pickler does not like it")
                send(message)

            self._quick_put = put

    with Choosy(2, context=context) as pool:
        results = [pool.apply_async(tasks.double, (i,)) for i in range(11, 16)]
        assert isinstance(raised_by(lambda: results.pop(2).get(SECONDS)), LookupError)
        assert [result.get(SECONDS) for result in results] == [22, 24, 28, 30]
