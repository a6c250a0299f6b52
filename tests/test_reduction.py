"""What shoal's pickling does beyond the standard library's: code by value, buffers beside the pickle, the path to a culprit."""

from __future__ import annotations

import copyreg
import functools
import gc
import io
import multiprocessing.reduction
import pickle
import subprocess
import sys
import threading
import weakref
from collections import OrderedDict, deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import shoal
from shoal import reduction


@dataclass
class Holder:
    handle: Any


class Slotted:
    __slots__ = ("inner",)

    def __init__(self, inner: Any) -> None:
        self.inner = inner


class Registered:
    pass


class Late:
    pass


def travel(obj: Any) -> Any:
    return reduction.loads(*reduction.dumps(obj))


def notes_of(obj: Any, kind: type[BaseException] = TypeError) -> str:
    with pytest.raises(kind) as caught:
        reduction.dumps(obj)
    return "\n".join(getattr(caught.value, "__notes__", []))


def closure_over(held: Any) -> Any:
    return lambda: held


# --- by value -----------------------------------------------------------------------------------------------------------


def test_a_lambda_travels():
    assert travel(lambda x: x + 1)(2) == 3


def test_a_lambda_that_travels_knows_its_file_so_a_traceback_shows_its_line():
    assert travel(lambda x: x + 1).__code__.co_filename == __file__


def test_a_closure_takes_what_it_encloses_along():
    def adder(n: int) -> Any:
        return lambda x: x + n

    assert travel([adder(5)])[0](1) == 6


def test_a_local_class_travels_with_its_instances():
    class Point:
        def __init__(self, x: int) -> None:
            self.x = x

        def twice(self) -> int:
            return 2 * self.x

    assert travel(Point(4)).twice() == 8


def test_what_can_be_imported_goes_by_name():
    assert travel(Holder) is Holder
    assert travel([lambda: 0, Holder])[1] is Holder
    assert b"cloudpickle" not in reduction.dumps(Holder(1))[0]


def test_an_open_file_is_not_replaced_by_a_copy():
    with Path(__file__).open(encoding="utf-8") as file:
        note = notes_of([file])  # from 3.12 on the C pickler leaves out the module
        assert "[0]: cannot pickle" in note
        assert "TextIOWrapper'" in note


def test_a_main_without_a_file_goes_by_value_to_another_interpreter():
    program = """
import shoal, sys
def double(x): return 2 * x
class Pair:
    def __init__(self, a): self.a = a
def child(f, pair): sys.exit(f(pair.a))
for method in ("spawn", "forkserver"):
    process = shoal.get_context(method).Process(target=child, args=(double, Pair(21)))
    process.start(); process.join()
    print(process.exitcode)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False)
    assert (done.stdout.split(), done.stderr) == (["42", "42"], "")


# --- buffers ------------------------------------------------------------------------------------------------------------


def test_large_buffers_stay_outside_and_small_ones_inside():
    large, small = bytearray(reduction.THRESHOLD), bytearray(reduction.THRESHOLD - 1)
    data, buffers = reduction.dumps([pickle.PickleBuffer(large), pickle.PickleBuffer(small)])
    assert [buffer.raw().nbytes for buffer in buffers] == [len(large)]
    assert len(small) < len(data) < len(small) + 1000
    assert [bytes(part) for part in reduction.loads(data, buffers)] == [bytes(large), bytes(small)]


def test_arrays_beside_the_pickle_share_the_receivers_memory():
    numpy = pytest.importorskip("numpy")
    data, buffers = reduction.dumps(numpy.zeros(100_000))
    memory = [bytearray(buffer.raw()) for buffer in buffers]
    array = reduction.loads(data, memory)
    array[0] = 1.0
    assert memory[0][:8] != bytes(8)


def test_buffers_of_one_message_do_not_show_up_in_the_next():
    reduction.dumps(pickle.PickleBuffer(bytearray(1 << 20)))
    assert not reduction.dumps("next")[1]


# --- registrations ------------------------------------------------------------------------------------------------------


def test_what_is_registered_with_the_standard_pickler_is_honoured_at_once():
    reduction.dumps(1)  # a pickler is kept from here on
    multiprocessing.reduction.register(Registered, lambda _: (str, ("first",)))
    assert travel(Registered()) == "first"
    reduction.register(Registered, lambda _: (str, ("second",)))
    assert travel(Registered()) == "second"


def test_what_is_registered_with_copyreg_is_honoured_at_once():
    reduction.dumps(1)
    copyreg.pickle(Late, lambda _: (str, ("here",)))
    try:
        assert travel(Late()) == "here"
    finally:
        del copyreg.dispatch_table[Late]
    assert isinstance(travel(Late()), Late)


def test_the_pickler_class_is_the_standard_one_and_its_dumps_gives_a_buffer():
    assert issubclass(reduction.ForkingPickler, multiprocessing.reduction.ForkingPickler)
    assert pickle.loads(reduction.ForkingPickler.dumps({"a": 1})) == {"a": 1}
    assert reduction.ForkingPickler.loads(reduction.ForkingPickler.dumps(lambda: 3))() == 3
    file = io.BytesIO()
    reduction.dump([1, bytearray(1 << 20)], file)
    assert pickle.loads(file.getvalue()) == [1, bytearray(1 << 20)]


# --- the path to a culprit ----------------------------------------------------------------------------------------------

LOCK = threading.Lock()
CYCLE: list[Any] = [LOCK]
CYCLE.insert(0, CYCLE)


@pytest.mark.parametrize(
    ("obj", "path"),
    [
        ([1, [LOCK]], "object[1][0]"),
        ({"a": {"b": LOCK}}, "object['a']['b']"),
        (Holder(Holder(LOCK)), "object.handle.handle"),
        (Slotted(LOCK), "object.inner"),
        (deque([LOCK]), "object[0]"),
        (OrderedDict(x=LOCK), "object['x']"),
        (functools.partial(print, file=LOCK), "object.keywords['file']"),
        (Holder(LOCK).__eq__, "object.__self__.handle"),
        ([None] * 10_000 + [LOCK], "object[10000]"),
        (ValueError(LOCK), "object.args[0]"),
        (CYCLE, "object[1]"),
        (closure_over(LOCK), "object.<closure>.held"),
    ],
)
def test_a_note_names_the_path(obj: Any, path: str):
    notes = notes_of(obj)
    assert path.replace("object.args[0]", "object") in notes
    assert "cannot pickle '_thread.lock'" in notes


def test_an_error_of_the_objects_own_keeps_its_type():
    class Refuses:
        def __reduce__(self) -> Any:
            raise LookupError("not today")

    assert notes_of([Refuses()], LookupError) == "object[0]: not today"


def test_a_failure_does_not_spoil_the_next_message():
    notes_of([LOCK])
    assert travel([1, 2]) == [1, 2]


@pytest.mark.parametrize("error", [pickle.PicklingError, TypeError, ValueError])
def test_what_cannot_be_pickled_keeps_nothing_of_those_who_tried_alive(error: type[Exception]):
    """An exception that its own traceback leads back to would: their frames, with all that is in them, until the garbage collector came."""

    class Refuses:
        def __reduce__(self) -> Any:
            raise error("no")

    class Local:
        pass

    def attempt() -> weakref.ref[Local]:
        local = Local()
        with pytest.raises(error):
            shoal.SimpleQueue().put([local.__class__.__name__, Refuses()])
        return weakref.ref(local)

    gc.disable()
    try:
        assert attempt()() is None
    finally:
        gc.enable()
