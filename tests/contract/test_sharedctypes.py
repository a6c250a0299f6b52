"""``Value``, ``Array`` and their raw kin: ctypes objects that processes share."""

from __future__ import annotations

import copy
import ctypes
import math
import multiprocessing.sharedctypes
import pickle
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from contract_children import cells
from contract_children.waiting import LONG, SHORT

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import BaseContext

    from contract_children.instances import Instance
    from contract_children.partner import Partner

WHOLE = {
    "b": ctypes.c_byte,
    "B": ctypes.c_ubyte,
    "h": ctypes.c_short,
    "H": ctypes.c_ushort,
    "i": ctypes.c_int,
    "I": ctypes.c_uint,
    "l": ctypes.c_long,
    "L": ctypes.c_ulong,
    "q": ctypes.c_longlong,
    "Q": ctypes.c_ulonglong,
}
REAL = {"f": ctypes.c_float, "d": ctypes.c_double}
NUMBERS = WHOLE | REAL


def outcome(call: Callable[[], Any]) -> Any:
    """What it returns, or with which words it fails."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - to be compared
        return type(error), str(error)


def test_what_is_shared_is_not_copied(mp: BaseContext):
    for shared in (mp.Value("i", 1), mp.Array("i", 3), mp.Array("c", b"abc")):
        for how in (copy.copy, copy.deepcopy, lambda each: copy.deepcopy({"nested": [each]})):
            with pytest.raises(RuntimeError):
                how(shared)


# --- values -------------------------------------------------------------------------------------------------------------


def test_numbers_of_every_type_are_changed_by_children(mp: BaseContext, partners: Callable[..., Partner]):
    values = [mp.Value(code, 5) for code in NUMBERS]
    arrays = [mp.Array(code, [1, 2, 3]) for code in NUMBERS]
    raw_values = [mp.RawValue(code, 5) for code in NUMBERS]
    raw_arrays = [mp.RawArray(code, [1, 2, 3]) for code in NUMBERS]
    partners(things=[*values, *arrays, *raw_values, *raw_arrays]).ask(cells.double_all)
    assert [value.value for value in values + raw_values] == [10] * 24
    assert [array[:] for array in arrays + raw_arrays] == [[2, 4, 6]] * 24


@pytest.mark.parametrize("code", NUMBERS)
def test_a_value_takes_what_its_ctypes_object_takes(mp: BaseContext, code: str):
    value, like = mp.Value(code), NUMBERS[code]()
    for new in (0, 1, -1, 127, 128, 2**31, 2**32 + 5, -(2**63) - 1, 2**64, 2**2000, True, 1.5, -0.0, 1e300, math.inf, "7", b"7", None,
                1j, [1], np.int64(3), np.float64(2.5), ctypes.c_int(3), like):  # fmt: skip
        told = outcome(lambda new=new: setattr(value, "value", new))
        assert told == outcome(lambda new=new: setattr(like, "value", new)), repr(new)
        assert value.value == like.value
        assert type(value.value) is type(like.value)


@pytest.mark.parametrize("code", NUMBERS)
def test_a_value_starts_as_its_ctypes_object_would(mp: BaseContext, code: str):
    assert mp.Value(code).value == 0
    for args in ((3,), (-1,), (2**70,), (1.5,), ("x",), (1, 2)):
        assert outcome(lambda args=args: mp.Value(code, *args).value) == outcome(
            lambda args=args: NUMBERS[code](*args).value
        )


def test_a_value_may_be_of_any_simple_type(mp: BaseContext, partners: Callable[..., Partner]):
    kinds = {
        "flag": (ctypes.c_bool, False, True),
        "byte": ("c", b"a", b"z"),
        "letter": ("u", "ä", "ö"),
        "long": (ctypes.c_longdouble, 0.5, 1.25),
        "handle": (cells.Handle, 3, 4),
    }
    values = {name: mp.Value(kind, first) for name, (kind, first, _) in kinds.items()}
    partner = partners(**values)
    for name, (_, first, second) in kinds.items():
        assert values[name].value == first
        partner.ask(cells.set_to, second, name)
        assert values[name].value == second
        assert type(values[name].value) is type(second)
    turned = mp.Value(ctypes.c_int.__ctype_be__, 0x01020304)
    turned.value += 1
    assert turned.value == 0x01020305
    assert bytes(turned.get_obj()) == b"\x01\x02\x03\x05"
    flag = mp.Value(ctypes.c_bool)
    flag.value = [0]
    assert flag.value is True


def test_what_is_unknown_is_refused(mp: BaseContext):
    for make in (mp.Value, mp.RawValue):
        with pytest.raises(TypeError, match="this type has no size"):
            make("x")
    for make in (mp.Array, mp.RawArray):
        with pytest.raises(ValueError, match="Array length must be >= 0"):
            make("i", -1)
        with pytest.raises(TypeError, match="has no len"):
            make("i", 1.5)
        assert outcome(lambda make=make: make("i", ["one"])) == outcome(lambda: (ctypes.c_int * 1)("one"))
    with pytest.raises(AttributeError):
        del mp.Value("i").value


# --- the lock -----------------------------------------------------------------------------------------------------------


def test_additions_under_the_lock_are_not_lost(mp: BaseContext, partners: Callable[..., Partner]):
    value = mp.Value("i")
    both = [partners(thing=value), partners(thing=value)]
    for partner in both:
        partner.tell(cells.count, 500)
    for partner in both:
        partner.answer()
    assert value.value == 1000


def test_the_lock_is_one_that_its_holder_may_take_again(mp: BaseContext):
    value, array = mp.Value("d", 1), mp.Array("d", 3)
    with value.get_lock() as entered, array.get_lock():
        assert entered is True
        value.value += 1
        array[0] = value.value
        array[1:] = [value.value] * 2
        with value, array:
            value.value += 1
    assert value.acquire() is True
    assert value.value == 3
    value.release()
    assert array[:] == [2, 2, 2]
    with pytest.raises(AssertionError):
        value.release()
    assert type(value.get_lock()) is type(mp.RLock())


def test_readers_and_writers_wait_for_whoever_holds_the_lock(mp: BaseContext, partners: Callable[..., Partner]):
    value, array, text = mp.Value("i", 1), mp.Array("i", 3), mp.Array("c", b"abc")
    partner = partners(value=value, thing=array, text=text)
    for guarded, what, args in (
        (value, cells.get, ("value",)),
        (value, cells.set_to, (5, "value")),
        (array, cells.get_item, (0,)),
        (array, cells.set_item, (0, 5)),
        (array, cells.get_item, (slice(None),)),
        (array, cells.set_item, (slice(0, 2), [7, 8])),
        (array, cells.set_item, (slice(0, 2), (0.5, 1))),
        (text, cells.get, ("text",)),
    ):
        with guarded:
            partner.tell(what, *args)
            assert not partner.answered(SHORT), what
        try:
            partner.answer()
        except TypeError as error:
            assert "float" in str(error)  # noqa: PT017 - from the one that is to fail
    assert value.value == 5
    assert array[:] == [7, 8, 0]
    assert partner.ask("value.acquire", timeout=SHORT) is True, "who failed let go of the lock"


def test_a_value_has_the_lock_it_was_given(mp: BaseContext, partners: Callable[..., Partner]):
    locks = {"lock": mp.Lock(), "rlock": mp.RLock(), "semaphore": mp.Semaphore(), "condition": mp.Condition()}
    values = {name: mp.Value("i", 3, lock=lock) for name, lock in locks.items()}
    partner = partners(**values)
    for name, lock in locks.items():
        assert values[name].get_lock() is lock
        with lock:
            partner.tell(cells.get, name)
            assert not partner.answered(SHORT)
        assert partner.answer() == 3
        array = mp.Array("i", 3, lock=lock)
        assert array.get_lock() is lock
        array[0] = values[name].value
        assert array[:] == [3, 0, 0]


def test_a_lock_of_threads_will_do_where_there_is_one_process(mp: BaseContext):
    log = []

    class Bare:
        def acquire(self) -> None:
            log.append("acquire")

        def release(self) -> None:
            log.append("release")

    value = mp.Value("i", lock=threading.Lock())
    with value:
        assert value.get_lock().locked()
        assert value.get_lock().acquire(blocking=False) is False
    value.value = 3
    assert value.value == 3
    assert not value.get_lock().locked()
    bare = mp.Value("i", lock=Bare())
    bare.value += 1
    with pytest.raises(TypeError):
        bare.value = "x"
    assert log == ["acquire", "release"] * 3


def test_without_a_lock_values_and_arrays_are_bare_ctypes(mp: BaseContext):
    assert type(mp.Value("i", lock=False)) is ctypes.c_int
    assert type(mp.Array("i", 3, lock=False)) is ctypes.c_int * 3
    assert not hasattr(mp.Array("i", 3, lock=False), "get_lock")
    for lock in (True, None):
        assert type(mp.Value("i", lock=lock).get_lock()) is type(mp.RLock())


def test_a_lock_that_is_none_is_refused(mp: BaseContext):
    for lock in ("navalue", object(), 2.5):
        for make in (lambda lock=lock: mp.Value("i", lock=lock), lambda lock=lock: mp.Array("i", 3, lock=lock)):
            assert outcome(make) == (AttributeError, f"{lock!r} has no method 'acquire'")


# --- arrays -------------------------------------------------------------------------------------------------------------

KEYS = (0, 1, 6, 7, -1, -7, -8, 2**70, -(2**70), True, 1.0, "0", None, (0, 1), np.int64(2), slice(None), slice(2, 5), slice(5, 2), slice(-3, None),
        slice(None, None, 2), slice(None, None, -1), slice(5, 1, -2), slice(0, 100), slice(0, 5, 0), slice("a", 2), slice(3, 3))  # fmt: skip


@pytest.mark.parametrize("code", [*NUMBERS, "c", "u", ctypes.c_bool, cells.Handle])
def test_an_array_is_indexed_as_a_ctypes_array(mp: BaseContext, code: Any):
    first = {"c": b"abcdefg", "u": "abcdefg"}.get(code, [1, 0, 3, 4, 5, 6, 7])
    array = mp.Array(code, first)
    like = (type(array.get_obj()))(*first)
    assert len(array) == 7
    for key in KEYS:
        got, expected = outcome(lambda key=key: array[key]), outcome(lambda key=key: like[key])
        assert type(got) is type(expected)
        if not isinstance(got, cells.Handle) and not (code is cells.Handle and isinstance(key, slice)):
            assert got == expected, key
    if code is not cells.Handle:
        assert list(array) == list(like)
        assert list(reversed(array)) == list(reversed(like))
        assert like[2] in array


@pytest.mark.parametrize("code", [*NUMBERS, "c", "u", ctypes.c_bool])
def test_an_array_is_written_as_a_ctypes_array(mp: BaseContext, code: Any):
    array = mp.Array(code, 7)
    like = type(array.get_obj())()
    news = (5, -1, 2**70, 1.5, "x", b"x", None, True, [1, 2, 3], (1, 2, 3), [1, "x", 3], [1.5, 2, 3], b"abc", "abc", [], range(3), iter([1]),
            ctypes.c_int(4), np.float64(2.5), [2**2000, 1, 1])  # fmt: skip
    for key in KEYS:
        for new in news:
            expected = outcome(lambda key=key, new=new: like.__setitem__(key, new))
            assert outcome(lambda key=key, new=new: array.__setitem__(key, new)) == expected, (key, new)
            assert array[:] == like[:]
    with pytest.raises(AttributeError, match="__delitem__"):
        del array[0]


def test_an_array_starts_as_a_ctypes_array_would(mp: BaseContext):
    assert mp.Array("i", 3)[:] == [0, 0, 0]
    assert mp.Array("i", range(4))[:] == [0, 1, 2, 3]
    assert mp.Array("d", (0.5, 1))[:] == [0.5, 1.0]
    assert mp.Array("i", 0)[:] == []
    assert len(mp.RawArray("d", [])) == 0
    assert mp.Array("i", mp.Array("i", [3, 4]))[:] == [3, 4]
    assert bytes(mp.Array("h", [1, 2, 255])) == b"\x01\x02\xff"
    assert sum(mp.Array("d", [1.5, 2])) == 3.5


def test_strings_have_a_value_and_raw_bytes(mp: BaseContext, partners: Callable[..., Partner]):
    text = mp.Array("c", 10)
    partners(thing=text).ask(cells.set_to, b"hello")
    assert text.value == b"hello"
    assert text.raw == b"hello" + bytes(5)
    assert text[1] == b"e"
    assert text[:2] == b"he"
    text[0] = b"H"
    text.raw = b"0123456789"
    assert text.value == b"0123456789"
    with pytest.raises(ValueError, match=r"byte string too long|bytes too long|too long"):
        text.value = b"01234567890"
    assert not hasattr(mp.Array("u", 3), "value")
    assert mp.Array("u", "abc")[:] == "abc"


# --- objects of other types ---------------------------------------------------------------------------------------------


def test_structures_are_shared_with_their_fields(mp: BaseContext, partners: Callable[..., Partner]):
    point, raw = mp.Value(cells.Point, 1.5, 2.5, b"first"), mp.RawValue(cells.Point, 1.5, 2.5)
    assert (point.x, point.y, point.tag) == (1.5, 2.5, b"first")
    assert type(point).__name__ == "SynchronizedPoint"
    partner = partners(point=point, raw=raw)
    for name, thing in (("point", point), ("raw", raw)):
        partner.ask(cells.move, name)
        assert (thing.x, thing.y, thing.tag, thing.weights[:]) == (2.5, 1.5, b"moved", [0, 7, 0])
    with point.get_lock():
        point.x = 7
    assert type(mp.Value(cells.Point)) is type(point)
    assert type(point.get_obj()) is cells.Point
    assert point.get_obj().x == 7
    color = mp.Value(cells.Color, 0x01020304)
    color.parts[0] = 9
    assert color.word == 0x01020309


def test_arrays_of_structures_and_of_arrays_are_shared(mp: BaseContext, partners: Callable[..., Partner]):
    points = mp.Array(cells.Point, [(1, 2), (3, 4)])
    assert [(point.x, point.y) for point in points] == [(1, 2), (3, 4)]
    partners(thing=points).ask(cells.set_item, 1, (5, 6))
    assert (points[1].x, points[1].y) == (5, 6)
    points[0].x = 9
    assert points[0].x == 9
    whole = mp.Value(ctypes.c_double * 4)
    partners(thing=whole).ask(cells.set_item, 3, 2.5)
    assert whole[:] == [0, 0, 0, 2.5]


@pytest.mark.parametrize("size", [1, 100, 384, 385, 4032, 5_000, 100_000, 5_000_000])
def test_memory_of_any_size_is_zero_at_first_and_shared(mp: BaseContext, partners: Callable[..., Partner], size: int):
    for _ in range(2):  # the second time it may be what the first one left
        array = mp.RawArray("B", size)
        assert bytes(array) == bytes(size)
        ctypes.memset(array, 7, size)
    partners(thing=array).ask(cells.set_item, size - 1, 9)
    assert array[size - 1] == 9
    assert bytes(array[: size - 1]) == b"\x07" * (size - 1)


def test_get_obj_gives_the_ctypes_object_itself(mp: BaseContext):
    value, array = mp.Value("i", 3), mp.Array("d", 10)
    assert type(value.get_obj()) is ctypes.c_int
    assert type(array.get_obj()) is ctypes.c_double * 10
    assert value.get_obj() is value.get_obj()
    value.get_obj().value = 5
    ctypes.c_int.from_address(ctypes.addressof(value.get_obj())).value += 1
    assert value.value == 6
    array.get_obj()[9] = 0.5
    assert array[9] == 0.5
    assert repr(value) == "<Synchronized wrapper for c_int(6)>"


def test_numpy_looks_at_the_memory_itself(mp: BaseContext, partners: Callable[..., Partner]):
    for array in (mp.Array("d", 1000), mp.RawArray("d", 1000)):
        view = np.frombuffer(getattr(array, "get_obj", lambda array=array: array)())
        assert view.flags.writeable
        view[:] = 1
        partners(thing=array).ask(cells.add_in_numpy, 0.5)
        assert set(view) == {1.5}
        assert array[999] == 1.5
    whole = mp.RawArray("H", [1, 2, 3])
    view = np.asarray(whole)
    assert view.dtype == np.uint16
    view[0] = 7
    assert whole[:] == [7, 2, 3]


def test_a_copy_has_memory_of_its_own(mp: BaseContext, instance: Instance, partners: Callable[..., Partner]):
    copy = instance.module("sharedctypes").copy
    for original in (mp.RawValue(cells.Point, 1, 2), ctypes.c_int(5), mp.RawArray("i", [1, 2, 3])):
        twin = copy(original)
        assert type(twin) is type(original)
        assert bytes(twin) == bytes(original)
        ctypes.memset(ctypes.addressof(original), 255, 4)
        assert bytes(twin) != bytes(original)
    partners(thing=twin).ask(cells.set_item, 0, 9)
    assert twin[:] == [9, 2, 3]
    with pytest.raises(TypeError):
        copy(mp.Value("i"))


def test_synchronized_puts_a_lock_around_any_ctypes_object(mp: BaseContext, instance: Instance):
    shared = instance.module("sharedctypes")
    lock = mp.RLock()
    raw = mp.RawValue("i", 3)
    value = shared.synchronized(raw, lock)
    assert value.get_obj() is raw
    assert value.get_lock() is lock
    value.value += 1
    assert raw.value == 4
    private = shared.synchronized(ctypes.c_double(0.5))
    private.value *= 3
    assert private.get_obj().value == 1.5
    items = shared.synchronized((ctypes.c_int * 3)(1, 2, 3))
    items[1:] = [7, 8]
    assert items[:] == [1, 7, 8]
    with pytest.raises(AssertionError, match="already synchronized"):
        shared.synchronized(value)


def test_the_classes_are_there_to_be_recognised(mp: BaseContext, instance: Instance):
    shared = instance.module("sharedctypes")
    for thing, name in ((mp.Value("i"), "Synchronized"), (mp.Array("i", 3), "SynchronizedArray"), (mp.Array("c", 3), "SynchronizedString"),
                        (mp.Value(cells.Point), "SynchronizedBase")):  # fmt: skip
        assert isinstance(thing, getattr(shared, name))
        assert isinstance(thing, getattr(multiprocessing.sharedctypes, name)), "whoever knows the standard classes only"
        assert isinstance(thing, shared.SynchronizedBase)
    assert not isinstance(mp.Value("i"), shared.SynchronizedArray)
    assert isinstance(mp.Array("c", 3), shared.SynchronizedArray)
    assert shared.typecode_to_type == NUMBERS | {"c": ctypes.c_char, "u": ctypes.c_wchar}


# --- how they travel ----------------------------------------------------------------------------------------------------


@pytest.mark.shoal_only("the standard library shares them through inheritance only")
def test_values_travel_in_messages(mp: BaseContext, partners: Callable[..., Partner]):
    there, back = mp.Queue(), mp.Queue()
    partner = partners(queue=there, back=back)
    for make, first, second in (
        (lambda: mp.Value("i", 1), 1, 2),
        (lambda: mp.Value("c", b"a", lock=mp.Lock()), b"a", b"z"),
        (lambda: mp.RawValue("d", 0.5), 0.5, 2.5),
        (lambda: mp.Array("c", b"abc"), b"abc", b"xyz"),
    ):
        thing = make()
        there.put(thing)
        assert thing.value == first
        partner.ask(cells.put_in_queue, second)
        assert thing.value == second
        del thing
        again = back.get(timeout=LONG)
        assert again.value == second, "the message kept it alive"
        assert type(again) is type(make())
    nested = mp.RawArray(ctypes.c_int * 3, 4)
    nested[3][1] = 7
    there.put(nested)
    del nested
    assert there.get(timeout=LONG)[3][:] == [0, 7, 0]


@pytest.mark.shoal_only("the standard library counts in two steps, under the lock")
def test_additions_in_one_call_are_not_lost(mp: BaseContext, partners: Callable[..., Partner]):
    value = mp.Value("i")
    both = [partners(thing=value), partners(thing=value)]
    for partner in both:
        partner.tell(cells.add, 1000)
    seen = [partner.answer() for partner in both]
    assert sorted(seen[0] + seen[1]) == list(range(1, 2001)), "each addition returned a value of its own"


@pytest.mark.shoal_only("the standard library refuses them once it has shared one of the same type")
def test_ctypes_objects_that_are_not_shared_are_sent_by_value(mp: BaseContext):
    shared, queue = mp.RawValue("i", 3), mp.SimpleQueue()
    private = ctypes.c_int(5)
    queue.put(private)
    assert queue.get().value == 5
    queue.put((ctypes.c_int * 2 * 2)((1, 2), (3, 4)))
    assert [item[:] for item in queue.get()] == [[1, 2], [3, 4]], "a class that no module has"
    queue.put(mp.RawArray(ctypes.c_short * 2, 2)[1])
    assert queue.get()[:] == [0, 0], "a copy of what is within a shared object"
    with pytest.raises(TypeError):
        pickle.dumps(shared)
    queue.close()
