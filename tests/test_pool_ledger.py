"""The pool's bookkeeping, without a process: whatever workers do, each item has one outcome."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from shoal._pool.chunking import Chunks
from shoal._pool.failures import FAILURES, Bounce, Failure
from shoal._pool.functions import EACH, ITEMS, ONE, Function
from shoal._pool.iterators import IMapIterator, IMapUnorderedIterator
from shoal._pool.ledger import FIRST_TASK, LOST, Batch, Chunk, Ledger, Parcel
from shoal._pool.restarts import RestartLimit
from shoal._pool.results import MapResult

double = Function(abs)


class Lost:
    """As a transport reports it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid


LOST.add(Lost)


class DiedError(Exception):
    """In the place of WorkerLostError."""


class Recorder:
    """A job that keeps every outcome of every item."""

    def __init__(self) -> None:
        self.open: set[int] = set()
        self.outcomes: dict[int, list[Any]] = {}

    def one(self, index: int, payload: Any) -> None:
        self.outcomes.setdefault(index, []).append(payload)

    def many(self, start: int, payloads: Any) -> None:
        for index, payload in enumerate(payloads, start):
            self.one(index, payload)

    def gap(self, start: int, count: int, failure: Any) -> None:
        for index in range(start, start + count):
            self.one(index, failure)

    def closed(self, task: int) -> None:
        pass


def spoken(_what: int, _payload: Any) -> None:
    """No worker speaks of itself here."""


def deliver(ledger: Ledger, *messages: tuple[int, bool, Any]) -> None:
    ledger.inbox.extend(messages)
    ledger.settle()


def chunk_of(ledger: Ledger, job: Recorder, count: int, *, start: int = 0, mode: int = ITEMS) -> Chunk:
    task = ledger.reserve()
    chunk = Chunk(job, task, start, tuple(range(start, start + count)), mode, double, Chunks(count, 1, count))
    ledger.enter(task, 1, chunk, job)
    return chunk


def test_numbers_are_never_given_twice_and_leave_room_for_what_workers_say_of_themselves() -> None:
    ledger = Ledger(spoken)
    first = ledger.reserve(10)
    assert first >= FIRST_TASK
    assert ledger.reserve() == first + 10


def test_messages_of_workers_about_themselves_are_no_outcomes() -> None:
    said = []
    ledger = Ledger(lambda what, payload: said.append((what, payload)))
    deliver(ledger, (2, False, (123,)))
    assert said == [(2, (123,))]


def test_a_batch_numbers_its_items() -> None:
    ledger, job = Ledger(spoken), Recorder()
    first = ledger.reserve(3)
    ledger.enter(first, 3, Batch(job, first - 10, "double"), job)
    deliver(ledger, (first + 2, True, "c"), (first, True, "a"), (first + 1, True, "b"))
    assert job.outcomes == {10: ["a"], 11: ["b"], 12: ["c"]}
    assert not ledger.rows
    assert not job.open


def test_a_message_for_a_forgotten_task_is_ignored() -> None:
    ledger = Ledger(spoken)
    deliver(ledger, (FIRST_TASK + 99, True, "late"))
    assert not ledger.rows


def test_an_interrupted_settling_can_be_repeated() -> None:
    ledger, job = Ledger(spoken), MapSpy(4)
    chunk = chunk_of(ledger, job, 4)
    ledger.inbox.extend([(chunk.task, False, (0, 2, 0.1, ("a", "b")))])
    chunk.settle(*ledger.inbox[0])  # as far as the interrupted thread came
    deliver(ledger, (chunk.task, True, (2, 0, 0.1, ("c", "d"))))
    assert job._value == ["a", "b", "c", "d"]


def test_a_lost_single_task_fails_alone() -> None:
    ledger, job = Ledger(spoken), Recorder()
    first = ledger.reserve(2)
    ledger.enter(first, 2, Batch(job, first, "double"), job)
    assert ledger.lose(first, DiedError)
    deliver(ledger, (first + 1, True, "fine"))
    assert isinstance(job.outcomes[0][0].exception, DiedError)
    assert "double (item 0)" in str(job.outcomes[0][0].exception)
    assert job.outcomes[1] == ["fine"]


def test_a_reported_loss_waits_for_the_exit_code() -> None:
    ledger, job = Ledger(spoken), Recorder()
    task = ledger.reserve()
    ledger.enter(task, 1, Batch(job, task, "double"), job)
    deliver(ledger, (task, True, Lost(99)))
    assert list(ledger.lost) == [(task, 99)]
    assert not job.outcomes
    assert ledger.lose(task, DiedError)
    assert not ledger.lose(task, DiedError)  # reported twice
    assert len(job.outcomes[0]) == 1


def test_a_result_that_was_published_before_the_death_counts() -> None:
    ledger, job = Ledger(spoken), Recorder()
    task = ledger.reserve()
    ledger.enter(task, 1, Batch(job, task, "double"), job)
    deliver(ledger, (task, True, "done"))
    assert not ledger.lose(task, DiedError)
    assert job.outcomes == {0: ["done"]}


def test_of_a_lost_chunk_what_was_reported_stands_the_step_fails_and_the_rest_is_sent_again() -> None:
    ledger, job = Ledger(spoken), Recorder()
    chunk = chunk_of(ledger, job, 10)
    deliver(ledger, (chunk.task, False, (0, 1, 0.1, ("r0",))), (chunk.task, False, (1, 2, 0.1, ("r1",))))
    old = chunk.task
    ledger.lose(old, DiedError)
    assert [job.outcomes[i] for i in (0, 1)] == [["r0"], ["r1"]]
    assert all(isinstance(job.outcomes[i][0].exception, DiedError) for i in (2, 3))
    row = ledger.again.popleft()
    assert old in job.open  # the job is not over
    new = ledger.renew(row)
    assert new is not None
    assert job.open == {new}
    assert row.message()[2] == tuple(range(4, 10))
    deliver(ledger, (new, True, (0, 0, 0.1, tuple("456789"))))
    assert {i: o for i, o in job.outcomes.items() if i >= 4} == {i: [str(i)] for i in range(4, 10)}
    assert not job.open


def test_a_chunk_lost_in_its_last_step_is_over() -> None:
    ledger, job = Ledger(spoken), Recorder()
    chunk = chunk_of(ledger, job, 1)
    ledger.lose(chunk.task, DiedError)
    assert not ledger.again
    assert not job.open
    assert not ledger.rows


def test_a_chunk_that_raises_fails_from_the_first_item_without_outcome() -> None:
    ledger, job = Ledger(spoken), Recorder()
    chunk = chunk_of(ledger, job, 3)
    failure = Failure(ValueError("x"))
    deliver(ledger, (chunk.task, False, (0, 2, 0.1, ("a",))), (chunk.task, True, failure))
    assert job.outcomes == {0: ["a"], 1: [failure], 2: [failure]}


def test_a_worker_that_has_not_got_the_function_sends_the_task_back() -> None:
    ledger, job = Ledger(spoken), Recorder()
    task = ledger.reserve()
    parcel = Parcel(job, task, 5, ONE, double, "argument")
    ledger.enter(task, 1, parcel, job)
    deliver(ledger, (task, True, Bounce()))
    assert not job.outcomes
    assert ledger.renew(ledger.again[0]) is not None
    assert ledger.renew(ledger.again[0]) is not None  # the new number is in flight: may be asked for again
    deliver(ledger, (parcel.task, True, "done"))
    assert job.outcomes == {5: ["done"]}
    assert not job.open


def no_pool() -> SimpleNamespace:
    def ignore(_job: Any) -> None:
        pass

    return SimpleNamespace(_cache={}, _collector=SimpleNamespace(finished=ignore, call_back=ignore))


class MapSpy(MapResult):
    """A map's result without a pool."""

    def __init__(self, length: int) -> None:
        super().__init__(no_pool(), 1, length, None, None)


def iterator(kind: type[IMapIterator]) -> IMapIterator:
    return kind(no_pool())


@given(st.permutations(range(12)), st.data())
def test_imap_gives_outcomes_in_order_whatever_order_they_come_in(order: list[int], data: st.DataObject) -> None:
    results = iterator(IMapIterator)
    told = data.draw(st.integers(0, 12))
    for number, index in enumerate(order):
        if number == told:
            results._set_length(12)
        results.one(index, index * 2)
    results._set_length(12)
    assert list(results) == [index * 2 for index in range(12)]


@given(st.permutations(range(6)))
def test_unordered_imap_gives_each_outcome_once_even_if_settled_twice(order: list[int]) -> None:
    results = iterator(IMapUnorderedIterator)
    for index in order:
        results.one(index, index)
        results.one(index, index)
    results._set_length(6)
    assert list(results) == order


def test_imap_goes_on_after_a_failed_item() -> None:
    results = iterator(IMapIterator)
    results.one(0, "a")
    results.one(1, Failure(ValueError("b")))
    results.one(2, "c")
    results._set_length(3)
    assert next(results) == "a"
    with pytest.raises(ValueError, match="b"):
        next(results)
    assert next(results) == "c"
    with pytest.raises(StopIteration):
        next(results)


def test_only_deaths_before_readiness_in_a_row_break_a_pool() -> None:
    limit = RestartLimit()
    assert not limit.died_unready(1)
    assert not limit.died_unready(1)
    limit.ready()
    assert not limit.died_unready(1)
    assert not limit.died_unready(-11)
    assert limit.died_unready(3)


def test_kills_from_outside_say_little_about_the_workers() -> None:
    limit = RestartLimit()
    assert not any(limit.died_unready(-9) for _ in range(50))
    assert any(limit.died_unready(-9) for _ in range(50))


class AnyOrder(RuleBasedStateMachine):
    """Chunks are sent, reported on step by step, lost and sent again in any order; then each item has exactly one outcome."""

    chunks = Bundle("chunks")

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(spoken)
        self.job = Recorder()
        self.count = 0
        self.progress: dict[int, int] = {}

    @rule(target=chunks, size=st.integers(1, 20), each=st.booleans())
    def send(self, size: int, each: bool) -> Chunk:
        chunk = chunk_of(self.ledger, self.job, size, start=self.count, mode=ITEMS + (EACH if each else 0))
        self.count += size
        self.progress[chunk.task] = 0
        return chunk

    @rule(chunk=chunks, data=st.data())
    def report(self, chunk: Chunk, data: st.DataObject) -> None:
        if chunk.task not in self.ledger.rows:
            return
        done, left = chunk.done, len(chunk.items) - chunk.done
        step = min(chunk.step, left)
        following = data.draw(st.integers(1, 8))
        outcomes = tuple(range(chunk.start + done, chunk.start + done + step))
        deliver(self.ledger, (chunk.task, step == left, (done, following, 0.001, outcomes)))

    @rule(chunk=chunks)
    def lose(self, chunk: Chunk) -> None:
        self.ledger.lose(chunk.task, DiedError)

    @precondition(lambda self: self.ledger.again)
    @rule()
    def send_again(self) -> None:
        row = self.ledger.again.popleft()
        assert self.ledger.renew(row) is not None
        row.message()

    @rule(chunk=consumes(chunks))
    def fail(self, chunk: Chunk) -> None:
        if chunk.task in self.ledger.rows:
            deliver(self.ledger, (chunk.task, True, Failure(ValueError())))

    @invariant()
    def no_item_has_two_outcomes(self) -> None:
        assert all(len(outcomes) == 1 for outcomes in self.job.outcomes.values())

    @invariant()
    def no_item_is_forgotten(self) -> None:
        waiting = len(self.ledger.rows) + len(self.ledger.again)
        assert len(self.job.open) == waiting
        if not waiting:
            assert set(self.job.outcomes) == set(range(self.count))

    @invariant()
    def outcomes_belong_to_their_items(self) -> None:
        for index, (outcome,) in self.job.outcomes.items():
            assert outcome.__class__ in FAILURES or outcome == index


TestAnyOrder = AnyOrder.TestCase
