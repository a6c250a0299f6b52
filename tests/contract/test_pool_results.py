"""A pool's result is loaded once, in the program, and that is what it gets: whether or not it would be the same if it were pickled again."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from contract_children import results

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.context import BaseContext
    from multiprocessing.pool import Pool
    from pathlib import Path

TIMES = range(3)  # the first result of a type is as the next ones


@pytest.fixture
def pool(mp: BaseContext) -> Iterator[Pool]:
    with mp.Pool(1) as pool:
        yield pool


def test_an_exception_is_made_again_once(pool: Pool):
    for _ in TIMES:
        with pytest.raises(results.PrefixedError) as caught:
            pool.apply(results.fail, ("so",))
        assert str(caught.value) == "failed: failed: so"


def test_an_object_goes_through_its_pickling_once(pool: Pool):
    assert [pool.apply(results.Packed, ("text",)).text for _ in TIMES] == [b"text" for _ in TIMES]


def test_it_is_loaded_in_the_program(pool: Pool):
    assert [pool.apply(results.LoadedWhere) for _ in TIMES] == [os.getpid() for _ in TIMES]


def test_what_the_program_has_already_is_found(pool: Pool, monkeypatch: pytest.MonkeyPatch):
    ours = object()
    monkeypatch.setitem(results.ONLY, "it", ours)
    for _ in TIMES:
        assert pool.apply(results.TheOnly, ("it",)) is ours


def test_what_can_be_loaded_once_arrives(pool: Pool, tmp_path: Path):
    paths = [str(tmp_path / f"text{i}") for i in TIMES]
    assert [pool.apply(results.write, (path,)) for path in paths] == ["written" for _ in TIMES]
    assert pool.map(results.write, paths) == ["written" for _ in TIMES]


def test_what_can_be_loaded_once_and_not_pickled_arrives(pool: Pool, tmp_path: Path):
    for i in TIMES:
        with pool.apply(results.write_to_open, (str(tmp_path / f"text{i}"),)) as file:
            came: Any = file.read()
        assert came == "written"
