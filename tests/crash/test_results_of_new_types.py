"""What a worker sends for the first time is loaded there in trial: a type that kills whoever loads it costs its own task, in any pool."""

from __future__ import annotations

import ctypes
import datetime
import enum
import os
import threading
from collections import Counter, namedtuple
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import handed_over
import new_types
import numpy as np
import pool_tasks as tasks
import pytest
from crash_table import SECONDS, Case, each, raised_by
from test_pool_deaths import CRASHED, call, lost, raises

import shoal
from shoal._pickling import kinds
from shoal.errors import WorkerLostError

if TYPE_CHECKING:
    from collections.abc import Iterator

FATAL = [
    Case("returns what crashes whoever loads it", call(tasks.make, "crashes"), lost(*CRASHED, "make")),
    Case("returns what ends whoever loads it", call(tasks.make, "exits 3"), lost(3, None, "make")),
    Case(
        "raises what crashes whoever loads it",
        call(tasks.raise_what_kills_whoever_loads_it),
        lost(*CRASHED, "raise_what_kills_whoever_loads_it"),
    ),
    Case("returns a plain object with such a thing in it", call(new_types.beside, "crashes"), lost(*CRASHED, "beside")),
    Case("returns such a thing by value", call(new_types.by_value, "crashes"), lost(*CRASHED, "by_value")),
    Case(
        "returns what raises when it is loaded",
        call(tasks.make, "raises"),
        raises(RuntimeError, "not to be loaded"),
    ),
    Case(
        "raises what is taken apart in its own way",
        call(new_types.raise_two_words),
        raises(new_types.TwoWordsError, "very wrong", "Traceback", "in raise_two_words"),
    ),
]


@each(FATAL)
def test_a_task_among_twenty_others_fails_alone_if_it(case: Case, method: str, lasting_pool: Any) -> None:  # noqa: ARG001
    function, arguments = case.act
    results = [
        lasting_pool.apply_async(function, arguments)
        if i == 7
        else lasting_pool.apply_async(tasks.plain_or_pickled, (i,))
        for i in range(21)
    ]
    case.outcome(raised_by(lambda: results.pop(7).get(SECONDS)))
    assert [result.get(SECONDS) for result in results] == [i for i in range(21) if i != 7]
    for _ in range(3):  # by one that has sent it before, too
        case.outcome(raised_by(lambda: lasting_pool.apply(function, arguments)))


def outcomes_of(pool: Any, function: Any, items: list[Any]) -> list[Any]:
    """In one chunk; `WorkerLostError` for what was lost."""
    results, found = pool.imap(function, items, len(items)), []
    for _ in items:
        try:
            found.append(results.next(SECONDS))
        except WorkerLostError:
            found.append(WorkerLostError)
    return found


AMONG = [*range(10), "crashes", *range(10)]


@each([Case("of items that take longer than publishing", None)])
def test_in_a_chunk_it_costs_one_item(case: Case, method: str, lasting_pool: Any) -> None:  # noqa: ARG001
    wanted = [WorkerLostError if item == "crashes" else item for item in AMONG]
    assert outcomes_of(lasting_pool, new_types.after_a_while, AMONG) == wanted


@each([Case("of quick items", None)])
def test_in_a_chunk_it_costs_what_was_published_with_it(case: Case, method: str, lasting_pool: Any) -> None:  # noqa: ARG001
    found = outcomes_of(lasting_pool, tasks.plain_or_pickled, AMONG)
    assert found[10] is WorkerLostError
    assert all(outcome is WorkerLostError or outcome == item for outcome, item in zip(found, AMONG, strict=True))


# --- each pickle is loaded once ----------------------------------------------------------------------------------------


@each([Case("one by one", 1), Case("in a chunk", 6)])
def test_what_moves_by_being_loaded_arrives(case: Case, method: str, tmp_path: Path) -> None:
    with shoal.get_context(method).Pool(2) as pool:
        arguments = [(str(tmp_path / f"moved{i}"), f"text {i}") for i in range(12)]
        came = pool.starmap(new_types.moved, arguments, case.act)
        assert [moved.text for moved in came] == [text for _, text in arguments]
    assert list(tmp_path.iterdir()) == []


@each([Case("an open file", None)])
def test_what_cannot_be_pickled_again_arrives(case: Case, method: str, tmp_path: Path) -> None:  # noqa: ARG001
    path = tmp_path / "text"
    path.write_text("text", encoding="utf-8")
    with shoal.get_context(method).Pool(1) as pool, pool.apply(new_types.Opened, (str(path),)) as file:
        assert file.read() == "text"


HANDED_OVER = [
    Case("a pipe", handed_over.pipe, lambda end: end.recv() == "sent"),
    Case("a socket", handed_over.connected_socket, lambda end: end.recv(4) == b"sent"),
    Case("what is taken from a queue by being loaded", handed_over.first_of_two, lambda came: came == ("sent", False)),
    Case("a Value", handed_over.shared_number, lambda number: number.value == 7),
]


@each(HANDED_OVER)
def test_what_is_handed_over_arrives(case: Case, method: str, lasting_pool: Any) -> None:  # noqa: ARG001
    for _ in range(3):
        came = lasting_pool.apply(case.act)
        assert case.outcome(came)
        if hasattr(came, "close"):
            came.close()


@each([Case("is loaded once", None)])
def test_what_others_have_registered_with_the_pickler(
    case: Case,  # noqa: ARG001
    method: str,  # noqa: ARG001
    lasting_pool: Any,
    tmp_path: Path,
) -> None:
    assert lasting_pool.apply(handed_over.noted, (str(tmp_path / "note"),)) == "noted"


@each([Case("small", 10), Case("sent beside the pickle", 100_000)])
def test_a_trial_leaves_an_array_as_it_is(case: Case, method: str) -> None:
    with shoal.get_context(method).Pool(1) as pool:
        for _ in range(2):
            assert pool.apply(handed_over.ones_doubled, (case.act,)).tolist() == [2.0] * case.act


# --- how often ---------------------------------------------------------------------------------------------------------


def who_loaded(path: Path) -> Counter[int]:
    return Counter(int(line) for line in path.read_text(encoding="utf-8").split())


@each([Case("is tried once", 0, 1), Case("is not tried if it is large", 20 << 20, 0)])
def test_a_type(case: Case, method: str, tmp_path: Path) -> None:
    path = tmp_path / "loaded"
    with shoal.get_context(method).Pool(1) as pool:
        worker = pool.apply(os.getpid)
        for _ in range(3):
            pool.apply(new_types.counted, (str(path), case.act))
    times = who_loaded(path)
    assert times[os.getpid()] == 3
    assert times[worker] == case.outcome


# --- which types -------------------------------------------------------------------------------------------------------


class Plain:
    pass


class Slotted:
    __slots__ = ("a",)


@dataclass
class Data:
    a: int = 1


class StatefulError(Exception):
    pass


class Color(enum.Enum):
    RED = 1


class Pair(ctypes.Structure):
    _fields_ = (("a", ctypes.c_int),)


class Meta(type):
    def __getattribute__(cls, name: str) -> Any:
        if name == "__reduce_ex__":
            raise RuntimeError("not to be asked")
        return super().__getattribute__(name)


class Defiant(metaclass=Meta):
    pass


class Setting:
    def __setattr__(self, name: str, value: object) -> None:
        raise RuntimeError("not to be set")


Point = namedtuple("Point", "x y")  # noqa: PYI024 - as programs have it


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Iterator[kinds.Kinds]:
    monkeypatch.setattr(kinds, "_known", set())
    kinds.forget_noted()
    yield kinds.Kinds()
    kinds.forget_noted()


def ask(table: kinds.Kinds, kind: type) -> Any:
    try:
        return table[kind]
    except KeyError:
        return None


@pytest.mark.parametrize("kind", [Plain, Slotted, Data, datetime.date, ValueError, Counter, ctypes.c_int])
def test_types_whose_loading_runs_no_code_are_known(table: kinds.Kinds, kind: type) -> None:
    assert ask(table, kind) is not None
    assert kind in table  # it is not asked for again
    assert kinds.noted_here() == set()


@pytest.mark.parametrize(
    "kind", [new_types.Counted, new_types.Opened, StatefulError, Color, Pair, Defiant, Setting, Point, np.ndarray]
)
def test_others_are_noted_until_they_are_known(table: kinds.Kinds, kind: type) -> None:
    for _ in range(2):
        assert ask(table, kind) is None
    assert kinds.noted_here() == {kind}
    kinds.learn(kinds.noted_here())
    kinds.forget_noted()
    assert ask(table, kind)(3) == (3).__reduce_ex__(5)
    assert kinds.noted_here() == set()


def test_classes_are_left_to_the_pickler(table: kinds.Kinds) -> None:
    assert ask(table, Meta) is None
    assert kinds.noted_here() == set()


def test_types_of_other_threads_do_not_count(table: kinds.Kinds) -> None:
    other = threading.Thread(target=ask, args=(table, new_types.Counted))
    other.start()
    other.join()
    assert kinds.noted
    assert kinds.noted_here() == set()


def test_types_without_end_are_not_kept(table: kinds.Kinds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "MOST", 10)
    for i in range(50):
        ask(table, type(f"Made{i}", (), {}))
        ask(table, type(f"Odd{i}", (), {"__setstate__": None}))
        kinds.learn(kinds.noted_here())
        kinds.forget_noted()
    assert len(table) <= 10
    assert len(kinds._known) <= 11
