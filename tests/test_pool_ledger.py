"""The pool's bookkeeping, without a process: whatever workers do, each item has one outcome."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from shoal._pool.chunking import Chunks
from shoal._pool.failures import FAILURES, Bounce, Failure, NotRun
from shoal._pool.functions import EACH, ITEMS, ONE, Function
from shoal._pool.iterators import IMapIterator, IMapUnorderedIterator
from shoal._pool.ledger import FIRST_TASK, LOST, Batch, Chunk, Ledger, Parcel
from shoal._pool.restarts import RestartLimit
from shoal._pool.results import MapResult

if TYPE_CHECKING:
    from collections.abc import Sequence

double = Function(abs)


class Lost:
    """As a transport reports it."""

    def __init__(self, pid: int = 99, begun: int = 0, first: int = 0, outcomes: Sequence[Any] = ()) -> None:
        self.pid = pid
        self.begun = begun
        self.first = first
        self.outcomes = outcomes


LOST.add(Lost)


class Unloadable:
    """As a transport reports an outcome that cannot be loaded."""

    exception = ValueError("not to be loaded")


FAILURES.add(Unloadable)


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
    ledger.inbox.extend([(chunk.task, False, (0, 0.1, ("a", "b")))])
    chunk.settle(*ledger.inbox[0])  # as far as the interrupted thread came
    deliver(ledger, (chunk.task, True, (2, 0.1, ("c", "d"))))
    assert job._value == ["a", "b", "c", "d"]


def test_a_lost_single_task_fails_alone() -> None:
    ledger, job = Ledger(spoken), Recorder()
    first = ledger.reserve(2)
    ledger.enter(first, 2, Batch(job, first, "double"), job)
    assert ledger.lose(first, DiedError, Lost())
    deliver(ledger, (first + 1, True, "fine"))
    assert isinstance(job.outcomes[0][0].exception, DiedError)
    assert "double (item 0)" in str(job.outcomes[0][0].exception)
    assert job.outcomes[1] == ["fine"]


def test_a_reported_loss_waits_for_the_exit_code() -> None:
    ledger, job = Ledger(spoken), Recorder()
    task = ledger.reserve()
    ledger.enter(task, 1, Batch(job, task, "double"), job)
    report = Lost(99)
    deliver(ledger, (task, True, report))
    assert list(ledger.lost) == [(task, report)]
    assert not job.outcomes
    assert ledger.lose(task, DiedError, report)
    assert not ledger.lose(task, DiedError, report)  # reported twice
    assert len(job.outcomes[0]) == 1


def test_a_result_that_was_published_before_the_death_counts() -> None:
    ledger, job = Ledger(spoken), Recorder()
    task = ledger.reserve()
    ledger.enter(task, 1, Batch(job, task, "double"), job)
    deliver(ledger, (task, True, "done"))
    assert not ledger.lose(task, DiedError, Lost())
    assert job.outcomes == {0: ["done"]}


@pytest.mark.parametrize(
    ("progress", "lost", "resent"),
    [
        (Lost(begun=6, first=2, outcomes=["r2", "r3", "r4"]), [5], range(6, 10)),
        (
            Lost(begun=5, first=0, outcomes=["r0", "r1", "r2"]),
            [3, 4],
            range(5, 10),
        ),  # it had begun to publish what is known
        (Lost(begun=4, first=2, outcomes=["r2", "r3"]), [], range(4, 10)),  # it died between two items
        (Lost(begun=2, first=0, outcomes=["r0", "r1"]), [], range(2, 10)),  # … or just after it had published
        (Lost(begun=10, first=2, outcomes=[f"r{i}" for i in range(2, 9)]), [9], []),
        (None, range(2, 10), []),  # nobody knows what it ran
    ],
)
def test_of_a_lost_chunk_only_the_item_that_was_running_fails(progress: Any, lost: Any, resent: Any) -> None:
    ledger, job = Ledger(spoken), Recorder()
    chunk = chunk_of(ledger, job, 10)
    deliver(ledger, (chunk.task, False, (0, 0.1, ("r0",))), (chunk.task, False, (1, 0.1, ("r1",))))
    old = chunk.task
    assert ledger.lose(old, DiedError, progress)
    failed = [i for i, outcomes in job.outcomes.items() if outcomes[0].__class__ is Failure]
    assert failed == list(lost)
    assert all(isinstance(job.outcomes[i][0].exception, DiedError) for i in failed)
    assert all(job.outcomes[i] == [f"r{i}"] for i in job.outcomes if i not in failed)
    if not resent:
        assert not ledger.again
        assert not job.open
        return
    row = ledger.again.popleft()
    assert old in job.open  # the job is not over
    new = ledger.renew(row)
    assert new is not None
    assert job.open == {new}
    assert row.message()[2] == tuple(resent)
    deliver(ledger, (new, True, (0, 0.1, tuple(f"r{i}" for i in resent))))
    assert set(job.outcomes) == set(range(10))
    assert not job.open


def test_a_chunk_that_kills_whoever_loads_it_is_halved_until_the_item_is_found() -> None:
    ledger, job = Ledger(spoken), Recorder()
    chunk = chunk_of(ledger, job, 20)
    deaths = 0
    waiting: list[Any] = [chunk]
    while waiting:
        row = waiting.pop()
        items = row.message()[2]
        if 13 in items:
            deaths += 1
            ledger.lose(row.task, DiedError, Lost())
        else:
            deliver(ledger, (row.task, True, (0, 0.1, tuple(items))))
        while ledger.again:
            row = ledger.again.popleft()
            if not ledger.divide(row):
                assert ledger.renew(row) is not None
                waiting.append(row)
    assert deaths <= 6
    assert isinstance(job.outcomes.pop(13)[0].exception, DiedError)
    assert job.outcomes == {i: [i] for i in range(20) if i != 13}
    assert not job.open


def test_outcomes_that_cannot_be_loaded_fail_up_to_the_next_report() -> None:
    ledger, job = Ledger(spoken), Recorder()
    chunk = chunk_of(ledger, job, 6, mode=ITEMS + EACH)
    bad = Unloadable()
    deliver(
        ledger,
        (chunk.task, False, (0, 0.1, ("r0",))),
        (chunk.task, False, bad),
        (chunk.task, True, (3, 0.1, ("r3", "r4", "r5"))),
    )
    assert job.outcomes == {i: [bad] if i in (1, 2) else [f"r{i}"] for i in range(6)}


def test_a_chunk_that_raises_fails_from_the_first_item_without_outcome() -> None:
    ledger, job = Ledger(spoken), Recorder()
    chunk = chunk_of(ledger, job, 3)
    failure = Failure(ValueError("x"))
    deliver(ledger, (chunk.task, False, (0, 0.1, ("a",))), (chunk.task, True, failure))
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


def test_a_chunk_that_cannot_be_loaded_is_divided_once_however_often_it_is_listed() -> None:
    ledger, job = Ledger(spoken), Recorder()
    chunk = chunk_of(ledger, job, 3, start=5, mode=ITEMS + EACH)
    chunk.settle(chunk.task, True, NotRun(ValueError()))  # as far as an interrupted thread came
    deliver(ledger, (chunk.task, True, NotRun(ValueError())))
    ledger.again.append(chunk)
    assert ledger.divide(ledger.again[0])
    assert ledger.divide(ledger.again[0])
    parts = list(ledger.again)[2:]
    assert [(part.start, part.items) for part in parts] == [(5, (5,)), (6, (6, 7))]
    assert job.open == {part.task for part in parts}


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
            results._arrivals._set_length(12)
        results._arrivals.one(index, index * 2)
    results._arrivals._set_length(12)
    assert list(results) == [index * 2 for index in range(12)]


@given(st.permutations(range(6)))
def test_unordered_imap_gives_each_outcome_once_even_if_settled_twice(order: list[int]) -> None:
    results = iterator(IMapUnorderedIterator)
    for index in order:
        results._arrivals.one(index, index)
        results._arrivals.one(index, index)
    results._arrivals._set_length(6)
    assert list(results) == order


def test_imap_goes_on_after_a_failed_item() -> None:
    results = iterator(IMapIterator)
    results._arrivals.one(0, "a")
    results._arrivals.one(1, Failure(ValueError("b")))
    results._arrivals.one(2, "c")
    results._arrivals._set_length(3)
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
        step = data.draw(st.integers(1, left))
        outcomes = tuple(range(chunk.start + done, chunk.start + done + step))
        deliver(self.ledger, (chunk.task, step == left, (done, 0.001, outcomes)))

    @rule(chunk=chunks, data=st.data())
    def lose(self, chunk: Chunk, data: st.DataObject) -> None:
        if chunk.task not in self.ledger.rows:
            return
        begun = data.draw(st.integers(chunk.done, len(chunk.items)))
        first = data.draw(st.integers(0, chunk.done))
        known = data.draw(st.integers(first, begun))
        outcomes = list(range(chunk.start + first, chunk.start + known))
        self.ledger.lose(chunk.task, DiedError, Lost(begun=begun, first=first, outcomes=outcomes))

    @precondition(lambda self: self.ledger.again)
    @rule()
    def send_again(self) -> None:
        row = self.ledger.again[0]
        if not self.ledger.divide(row):
            assert self.ledger.renew(row) is not None
            row.message()
        self.ledger.again.popleft()

    @rule(chunk=chunks)
    def not_loaded(self, chunk: Chunk) -> None:
        if chunk.task in self.ledger.rows and not chunk.done:
            deliver(self.ledger, (chunk.task, True, NotRun(ValueError())))

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
