"""Shared ctypes where shoal has more to say than the standard library: deaths, memory, atomic additions, views.

What both have in common is in contract/.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import shoal
from shoal import _native, heap, reduction, sharedctypes
from shoal.errors import AbandonedLockWarning, StaleReferenceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

mp = shoal.get_context("fork")

LONG = 20.0  # seconds: what must happen happens within them, on a busy machine too


def in_use() -> dict[str, int]:
    gc.collect()
    return {name: _native.arena_statistics()[name] for name in ("objects", "blobs", "nodes", "bytes")}


@contextmanager
def child(work: Callable[..., object], *args: Any) -> Iterator[tuple[Any, Any]]:
    """Run the work in a process of its own, with a pipe as its first argument; wait for its first word."""
    here, there = mp.Pipe()
    process = mp.Process(target=work, args=(there, *args))
    process.start()
    try:
        assert here.poll(LONG)
        here.recv()
        yield process, here
    finally:
        process.kill()
        process.join()


def run(program: str, **environment: str) -> str:
    """Run a program of its own; it must say nothing on stderr."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=LONG, check=False, env=environment or None
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# --- add ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", [ctypes.c_byte, ctypes.c_ubyte, ctypes.c_short, ctypes.c_int, ctypes.c_uint, ctypes.c_long, ctypes.c_ulong]
)
def test_add_returns_the_new_value_and_wraps_as_an_assignment_does(kind: Any):
    value = mp.Value(kind, 5)
    for summand in (1, -3, 0, True, 2**31, 2**63 + 1, -(2**70) + 3):
        expected = kind(value.value + summand).value
        assert value.add(summand) == expected
        assert value.value == expected
    for wrong in (1.5, "1", None, ctypes.c_int(1)):
        with pytest.raises(TypeError, match=f"int expected instead of {type(wrong).__name__} instance"):
            value.add(wrong)
    assert value.value == expected


def test_add_of_floats_rounds_as_an_assignment_does():
    single, double = mp.Value("f", 0.1), mp.Value("d", 0.1)
    assert double.add(0.2) == 0.1 + 0.2
    assert single.add(0.2) == single.value == np.float32(np.float32(0.1) + 0.2)
    assert double.add(np.float32(0.5)) == 0.1 + 0.2 + 0.5
    assert double.add(1) == 0.1 + 0.2 + 0.5 + 1
    with pytest.raises(TypeError, match="must be real number, not str"):
        double.add("1")
    with pytest.raises(OverflowError):
        double.add(10**400)


def test_add_is_for_numbers():
    for value in (mp.Value(ctypes.c_bool), mp.Value("c"), mp.Value("u")):
        with pytest.raises(TypeError, match=r"add\(\) is for numbers; this is a c_"):
            value.add(1)
    assert mp.Value(ctypes.c_longdouble, 0.5).add(1) == 1.5
    assert sharedctypes.synchronized(ctypes.c_int(5)).add(2**32) == 5
    lock = threading.Lock()
    assert mp.Value("i", 5, lock=lock).add(1) == 6
    assert not lock.locked()


def test_threads_add_and_none_is_lost():
    value, array = mp.Value("i"), mp.Array("i", 2)

    def work() -> None:
        for _ in range(20_000):
            value.add(1)
            with array.get_lock():
                array[1] += 1

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert value.value == array[1] == 60_000


# --- views --------------------------------------------------------------------------------------------------------------


def test_wrappers_are_buffers():
    value, array, text = mp.Value("h", 3), mp.Array("d", [1, 2, 3]), mp.Array("c", b"abc")
    assert (memoryview(value).format, memoryview(array).format, memoryview(array).shape) == ("<h", "<d", (3,))
    view = np.asarray(array)
    assert view.dtype == np.float64
    view += 1
    assert array[:] == [2, 3, 4]
    assert np.frombuffer(text, dtype="S1").tolist() == [b"a", b"b", b"c"]
    assert np.asarray(value)[()] == 3
    field = np.asarray(mp.Array(ctypes.c_int * 3, 2))
    assert field.shape == (2, 3)
    del array
    gc.collect()
    mp.Array("d", 3)[:] = [9, 9, 9]
    assert view.tolist() == [2, 3, 4], "a view keeps its memory"


# --- memory -------------------------------------------------------------------------------------------------------------


def use_all() -> None:
    for code in ("i", "d", "c"):
        mp.Value(code).get_obj()
        mp.Array(code, 10)[5]
        mp.RawArray(code, 2000)
    mp.RawArray("B", 1_000_000)[0] = 1
    with mp.Value("i") as held:
        assert held


def test_what_is_dropped_leaves_the_arena_and_the_pickler_as_they_were():
    use_all()
    before, registered = in_use(), len(reduction._extra)
    for _ in range(1000):
        use_all()
    assert in_use() == before
    for length in range(3000, 3100):
        mp.RawArray("i", length)
    assert len(reduction._extra) == registered
    assert in_use()["objects"] == before["objects"]


def test_threads_may_make_and_drop_types_at_once():
    failures = []

    def work(seed: int) -> None:
        for turn in range(300):
            array = mp.RawArray("i", 4000 + (seed + turn) % 3)
            if b"BufferWrapper" not in reduction.dumps(array)[0]:  # it would go by value
                failures.append(turn)
            del array

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not failures
    assert not [kind for kind in reduction._extra if getattr(kind, "_length_", 0) in range(4000, 4003)]


def test_a_reference_to_what_is_gone_says_so():
    pickled = pickle.dumps(mp.Value("i"))
    gc.collect()
    with pytest.raises(StaleReferenceError):
        pickle.loads(pickled)


def make_and_hold(pipe: Any) -> None:
    things = [mp.Value("i"), mp.RawArray("d", 100_000), *(mp.Array("i", 1000) for _ in range(20))]
    pipe.send("ready")
    signal.pause()
    del things


@pytest.mark.parametrize("somebody_else_waits", [False, True])
def test_memory_of_the_dead_is_given_back(somebody_else_waits: bool):
    with child(make_and_hold):
        pass
    before = in_use()
    with child(make_and_hold) as (process, _):
        assert in_use()["objects"] > before["objects"] + 40
        assert in_use()["blobs"] >= before["blobs"] + 21
        process.kill()
        if somebody_else_waits:
            os.waitpid(process.pid, 0)
        process.join()
        after = in_use()
        assert (after["objects"], after["blobs"]) == (before["objects"], before["blobs"])


def sum_later(pipe: Any, arrays: list[Any]) -> None:
    pipe.send("ready")
    pipe.recv()
    pipe.send([sum(array[:]) for array in arrays])


def test_a_forked_child_keeps_what_its_parent_drops():
    arrays = [mp.Array("i", [1] * size) for size in (10, 1000, 50_000)]
    with child(sum_later, arrays) as (_, pipe):
        del arrays
        gc.collect()
        for size in (10, 1000, 50_000):
            mp.Array("i", [7] * size)
        pipe.send("go")
        assert pipe.poll(LONG)
        assert pipe.recv() == [10, 1000, 50_000]


def test_more_than_there_is_is_a_memory_error_with_the_sizes():
    before = None
    for size in (2**42, 2**50, 2**62):
        with pytest.raises(MemoryError, match=r"bytes wanted, \d+ of \d+ in use"):
            mp.RawArray("B", size)
        assert before in (None, in_use())
        before = in_use()


def test_a_full_arena_takes_again_once_something_is_dropped():
    said = run(
        """
        import gc, shoal
        mp = shoal.get_context("fork")
        arrays = []
        try:
            while True:
                arrays.append(mp.RawArray("B", 3_000_000))
        except MemoryError as error:
            print(len(arrays), "bytes wanted" in str(error))
        process = mp.Process(target=print, args=("child",))  # what existed at its fork is retired first
        process.start()
        process.join()
        arrays.clear()
        for _ in range(30):
            mp.RawArray("B", 16_000_000)[15_999_999] = 1
            process = mp.Process()
            process.start()
            process.join()
        print("done")
        """,
        SHOAL_ARENA_LIMIT=str(32 << 20),
    )
    count, *rest = said.split()
    assert 8 <= int(count) <= 11
    assert rest == ["True", "child", "done"]


def test_values_that_live_until_the_end_say_nothing_then():
    program = """
        import ctypes, shoal
        class Point(ctypes.Structure):
            _fields_ = [("x", ctypes.c_int)]
        things = [shoal.Value("i"), shoal.Array("c", 10), shoal.RawArray("d", 5000), shoal.Value(Point), memoryview(shoal.Array("i", 3))]
        circle = shoal.Value("i")
        circle.get_obj().itself = circle
        circle.itself = [circle]
        print("done")
        """
    assert run(program) == "done\n"


# --- the lock -----------------------------------------------------------------------------------------------------------


def hold(pipe: Any, thing: Any) -> None:
    with thing:
        pipe.send("ready")
        signal.pause()


def test_a_killed_holder_hangs_nobody():
    value, array = mp.Value("i", 3), mp.Array("i", 3)
    for thing, use in (
        (value, lambda: value.value),
        (value, lambda: value.add(0)),
        (array, lambda: array[0]),
        (array, lambda: array[:]),
    ):
        with child(hold, thing) as (process, _):
            timer = threading.Timer(0.1, process.kill)
            timer.start()
            with pytest.warns(AbandonedLockWarning, match="was killed"):
                assert use() in (3, 0, [0, 0, 0])
            timer.join()
        use()


def add_for_ever(pipe: Any, value: Any, array: Any) -> None:
    warnings.simplefilter("ignore")
    pipe.send("ready")
    while True:
        value.add(1)
        array[3] = value.value
        array[4:6] = [1, 2]


def test_random_kills_never_stop_the_others():
    value, array = mp.Value("q"), mp.Array("d", 10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(20):
            with child(add_for_ever, value, array), child(add_for_ever, value, array):
                seen = value.value
                deadline = time.monotonic() + LONG
                while value.value < seen + 50:
                    assert time.monotonic() < deadline
        assert array[3] <= value.value
        assert array[4:6] == [1, 2]


class InterruptionError(Exception):
    pass


def test_a_signal_ends_the_wait_for_the_lock():
    value, array = mp.Value("i", 3), mp.Array("i", 3)
    holds, release = threading.Event(), threading.Event()

    def keep() -> None:
        with value, array:
            holds.set()
            release.wait()

    def interrupt(*_: object) -> None:
        raise InterruptionError

    holder = threading.Thread(target=keep)
    holder.start()
    holds.wait()
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for use in (
            lambda: value.value,
            lambda: setattr(value, "value", 7),
            lambda: value.add(1),
            lambda: array[0],
            lambda: array[:],
            lambda: array.__setitem__(slice(None), [7, 7, 7]),
        ):
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(InterruptionError):
                use()
    finally:
        signal.signal(signal.SIGALRM, before)
        release.set()
        holder.join()
    assert (value.value, array[:]) == (3, [0, 0, 0])
    assert not value.get_lock().locked()


def test_a_lock_of_a_class_of_its_own_is_asked():
    taken = []

    class Lock(shoal.synchronize.Lock):
        def __enter__(self) -> bool:
            taken.append(True)
            return super().__enter__()

    value = mp.Value("i", lock=Lock())
    value.value += 1
    assert len(taken) == 2
    assert not value.get_lock().locked()


def test_what_has_not_been_initialised_says_so():
    for cls, use in (
        (sharedctypes.Synchronized, lambda thing: thing.value),
        (sharedctypes.Synchronized, lambda thing: thing.add(1)),
        (sharedctypes.SynchronizedArray, lambda thing: thing[0]),
        (sharedctypes.SynchronizedArray, len),
        (sharedctypes.SynchronizedArray, memoryview),
        (sharedctypes.SynchronizedBase, lambda thing: thing.get_lock()),
    ):
        with pytest.raises(ValueError, match=r"super\(\).__init__"):
            use(cls.__new__(cls))
    value = mp.Value("i")
    with pytest.raises(ValueError, match="already"):
        value.__init__(ctypes.c_int(3))


# --- among other things -------------------------------------------------------------------------------------------------


def set_all(value: Any, array: Any) -> None:
    value.value = 7
    array[1:] = [value.add(1), value.value]


def test_a_forked_process_of_the_standard_library_has_them_too():
    value, array = mp.Value("i"), mp.Array("d", 3)
    process = multiprocessing.get_context("fork").Process(target=set_all, args=(value, array))
    process.start()
    process.join()
    assert (process.exitcode, value.value, array[:]) == (0, 8, [0, 8, 8])


def test_values_of_the_standard_library_may_be_wrapped():
    raw, lock = multiprocessing.RawValue("i", 3), multiprocessing.Lock()
    value = sharedctypes.synchronized(raw, lock)
    assert value.add(1) == raw.value == 4
    with value:
        assert lock.acquire(block=False) is False


def test_a_private_copy_is_not_taken_for_what_is_shared():
    raw = mp.RawValue("i", 3)
    copied = type(raw).from_buffer_copy(raw)
    copied.__dict__.update(raw.__dict__)
    queue = mp.SimpleQueue()
    queue.put(copied)
    got = queue.get()
    got.value = 5
    assert (raw.value, copied.value) == (3, 3)
    queue.close()


def test_heap_has_blocks_of_shared_memory():
    block = heap.BufferWrapper(100)
    view = block.create_memoryview()
    assert (view.nbytes, view.readonly, bytes(view)) == (100, False, bytes(100))
    queue = mp.SimpleQueue()
    queue.put(block)
    queue.get().create_memoryview()[:3] = b"abc"
    assert bytes(view[:4]) == b"abc\0"
    queue.close()
    assert heap.BufferWrapper(0).create_memoryview().nbytes == 0
    with pytest.raises(ValueError, match="Size -1 out of range"):
        heap.BufferWrapper(-1)
    with pytest.raises(OverflowError, match="too large"):
        heap.BufferWrapper(sys.maxsize)
    with pytest.raises(TypeError, match="cannot be pickled by itself"):
        pickle.dumps(block)
    assert heap.Arena is sys.modules["multiprocessing.heap"].Arena


# --- large slices --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["b", "H", "i", "Q", "f", "d"])
@pytest.mark.parametrize("part", [slice(None), slice(1, None, 2), slice(None, None, -3), slice(50_000, 20, -1)])
def test_large_slices_are_those_of_a_list(code: str, part: slice):
    """Their numbers go through memory that is used again, for slices of other sizes and types."""
    numbers = [index % 100 for index in range(60_001)]
    array = shoal.Array(code, numbers)
    assert array[part] == numbers[part]
    other = [number + 1 for number in numbers[part]]
    array[part] = other
    numbers[part] = other
    assert array[:] == numbers
