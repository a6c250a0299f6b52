"""Nested containers of a manager: an edit at any depth is seen by all."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest

import shoal

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def manager() -> Iterator[Any]:
    with shoal.get_context("fork").Manager() as manager:
        yield manager


def edit(words: Any) -> None:
    words["a"]["b"] = 1
    words["a"]["c"].append({"deep": []})
    words["a"]["c"][-1]["deep"].append("seen")
    words["s"].add(3)
    words["new"] = {"x": {"y": 0}}
    words["new"]["x"]["y"] += 1


def test_edits_at_any_depth_are_seen_by_all(manager: Any):
    words = manager.dict({"a": {"b": 0, "c": []}, "s": {1, 2}}, nested=True)
    child = shoal.get_context("fork").Process(target=edit, args=(words,))
    child.start()
    child.join()
    assert child.exitcode == 0
    expected = {"a": {"b": 1, "c": [{"deep": ["seen"]}]}, "s": {1, 2, 3}, "new": {"x": {"y": 1}}}
    assert words == expected
    assert copy.deepcopy(words) == expected
    assert type(copy.deepcopy(words)["a"]) is dict
    assert str(words) == str(expected)


def test_without_asking_for_it_a_value_is_a_copy(manager: Any):
    words = manager.dict({"a": {}})
    words["a"]["b"] = 1
    assert words["a"] == {}


@pytest.mark.parametrize(
    "edit",
    [
        lambda numbers: numbers.append([0]),
        lambda numbers: numbers.extend([[0]]),
        lambda numbers: numbers.insert(2, [0]),
        lambda numbers: numbers.__setitem__(slice(2, 2), [[0]]),
        lambda numbers: numbers.__iadd__([[0]]),
    ],
    ids=["append", "extend", "insert", "slice", "+="],
)
def test_every_way_into_a_list_takes_containers_in(manager: Any, edit: Any):
    numbers = manager.list([[1], [2]], nested=True)
    edit(numbers)
    numbers[2].append("more")
    numbers[0][0] = "first"
    assert numbers == [["first"], [2], [0, "more"]]


@pytest.mark.parametrize(
    "edit",
    [
        lambda words: words.update(x=[0]),
        lambda words: words.update([("x", [0])]),
        lambda words: words.setdefault("x", [0]),
        lambda words: words.__ior__({"x": [0]}),
        lambda words: words.__setitem__("x", [0]),
    ],
    ids=["update", "pairs", "setdefault", "|=", "set"],
)
def test_every_way_into_a_dict_takes_containers_in(manager: Any, edit: Any):
    words = manager.dict(nested=True)
    edit(words)
    words["x"].append(1)
    assert words == {"x": [0, 1]}


def test_parts_that_are_looked_through_are_proxies(manager: Any):
    words = manager.dict({"a": [1], "b": {}}, nested=True)
    for value in words.values():
        value.clear()
    assert [(key, len(value)) for key, value in sorted(words.items())] == [("a", 0), ("b", 0)]
    assert sorted(words) == ["a", "b"]
    assert "a" in words
    assert (words | {"c": 1})["c"] == 1
    words.get("a").append("got")
    assert words.pop("a") == ["got"]


def test_a_part_under_two_names_is_one(manager: Any):
    words = manager.dict({"a": {}}, nested=True)
    words["b"] = words["a"]
    words["b"]["x"] = 1
    assert words["a"] == {"x": 1}
    plain = manager.list([words["a"]])
    plain[0]["y"] = 2
    assert words["b"] == {"x": 1, "y": 2}


def test_a_container_that_contains_itself(manager: Any):
    loop: dict[str, Any] = {"x": 0}
    loop["self"] = loop
    words = manager.dict(nested=True)
    words["loop"] = loop
    words["loop"]["self"]["self"]["x"] = 1
    assert words["loop"]["x"] == 1
    assert words._getvalue()["loop"]["self"]["x"] == 1


def test_a_part_that_was_taken_out_lives_as_long_as_its_proxy(manager: Any):
    numbers = manager.list([[1]], nested=True)
    part = numbers.pop()
    part.append(2)
    assert part == [1, 2]
    assert manager._number_of_objects() == 2
    del part
    assert manager._number_of_objects() == 1


def test_sets_are_sets(manager: Any):
    words = manager.dict({"s": {1, 2}}, nested=True)
    words["s"] |= {3}
    words["s"].discard(1)
    assert words["s"] == {2, 3}
    assert words["s"] - {2} == {3}
    assert {2} < words["s"]._getvalue()


def test_a_nested_list_is_gone_through_backwards(manager: Any):
    numbers = manager.list([[1], 2], nested=True)
    last, first = reversed(numbers)
    first.append(3)
    assert (last, numbers) == (2, [[1, 3], 2])
