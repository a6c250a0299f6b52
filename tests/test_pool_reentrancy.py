"""A pool in the hands of what interrupts it: signal handlers that raise, or that use the pool themselves; callbacks that do; hooks that fail."""

from __future__ import annotations

import gc
import itertools
import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

import shoal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shoal.pool import Pool

SECONDS = 20.0
WHILE = 1.0  # seconds for which a program is interrupted
ITEMS = 60


class AlarmError(Exception):
    """What a handler raises."""


@contextmanager
def handling(handler: Any) -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, handler)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def same(number: int) -> int:
    return number


def raise_alarm(_number: int, _frame: object) -> None:
    raise AlarmError


ITERATIONS = {
    "imap": lambda pool: pool.imap(same, range(ITEMS)),
    "imap of chunks": lambda pool: pool.imap(same, range(ITEMS), 4),
    "imap of a generator": lambda pool: pool.imap(same, iter(range(ITEMS))),
    "imap_unordered": lambda pool: pool.imap_unordered(same, range(ITEMS)),
    "imap_unordered of chunks": lambda pool: pool.imap_unordered(same, range(ITEMS), 4),
    "imap one by one": lambda pool: pool.imap(same, range(ITEMS), buffersize=1),
}


# A handler that raises in a weak reference's callback is told of, and no more: that is Python's way.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", ITERATIONS)
def test_an_iteration_goes_on_after_handlers_that_raise(pool: Pool, kind: str):
    end = time.monotonic() + WHILE
    pauses = itertools.cycle([0.00003 + 0.000003 * step for step in range(100)])
    alarms = 0
    with handling(raise_alarm):
        while time.monotonic() < end:
            try:
                results, got = ITERATIONS[kind](pool), []
            except AlarmError:  # the last one of the iteration before
                continue
            idle = 0
            while True:
                value = None
                try:
                    if idle < 300:  # so it comes to an end in any case
                        signal.setitimer(signal.ITIMER_REAL, next(pauses))
                    idle += 1
                    try:
                        value = results.next(SECONDS)
                        got.append(value)
                        idle = 0
                    finally:
                        signal.setitimer(signal.ITIMER_REAL, 0)
                except StopIteration:
                    break
                except AlarmError:
                    alarms += 1
                    if value is not None and value not in got[-1:]:
                        got.append(value)
            assert len(got) == len(set(got)), got
            # What `next` has returned may be lost to an alarm before it has a name here; no more than that.
            assert len(got) > ITEMS - 5, got
    assert alarms > 10


@pytest.mark.parametrize("kind", ITERATIONS)
def test_a_handler_uses_the_pool_while_its_program_iterates(pool: Pool, kind: str):
    asked = []
    end = time.monotonic() + WHILE
    with handling(lambda _number, _frame: asked.append(pool.apply(same, (1,)))):
        signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
        while time.monotonic() < end:
            results, got = ITERATIONS[kind](pool), []
            while (value := next(results, None)) is not None:
                got.append(value)
            assert sorted(got) == list(range(ITEMS))
            if not kind.startswith("imap_unordered"):
                assert got == sorted(got)
    assert asked == [1] * len(asked)
    assert asked


@contextmanager
def collecting_garbage_all_the_time() -> Iterator[None]:
    """Wherever an object is made, finalizers may run, and signal handlers in them."""
    thresholds = gc.get_threshold()
    gc.callbacks.append(run_python)
    gc.set_threshold(1)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.callbacks.remove(run_python)


def run_python(_phase: str, _info: dict[str, int]) -> None:
    for _ in range(3):
        pass


@pytest.mark.parametrize("kind", ITERATIONS)
def test_a_handler_uses_the_pool_out_of_a_finalizer(pool: Pool, kind: str):
    with collecting_garbage_all_the_time():
        test_a_handler_uses_the_pool_while_its_program_iterates(pool, kind)


@pytest.mark.parametrize("call", ["map", "get", "apply"])
def test_a_handler_uses_the_pool_while_its_program_waits(pool: Pool, call: str):
    calls: dict[str, Callable[[], object]] = {
        "map": lambda: pool.map(same, range(ITEMS), 1),
        "get": lambda: pool.map_async(same, range(ITEMS), 7).get(SECONDS),
        "apply": lambda: [pool.apply(same, (number,)) for number in range(ITEMS)],
    }
    asked = []
    end = time.monotonic() + WHILE
    with handling(lambda _number, _frame: asked.append(pool.map(same, range(3)))):
        signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
        while time.monotonic() < end:
            assert calls[call]() == list(range(ITEMS))
    assert asked == [[0, 1, 2]] * len(asked)
    assert asked


@pytest.mark.parametrize("kind", ITERATIONS)
def test_a_callback_iterates(pool: Pool, kind: str):
    got: list[list[int]] = []
    done = threading.Event()

    def call_back(_: object) -> None:
        got.append(sorted(ITERATIONS[kind](pool)))
        done.set()

    assert pool.apply_async(same, (1,), callback=call_back).get(SECONDS) == 1
    assert done.wait(SECONDS)
    assert got == [list(range(ITEMS))]
    assert pool.map(same, range(3)) == [0, 1, 2]


def test_a_callback_waits_for_a_call_whose_worker_dies():
    done = threading.Event()
    errors: list[BaseException] = []

    def call_back(_: object) -> None:
        try:
            pool.apply_async(signal.raise_signal, (signal.SIGKILL,)).get(SECONDS)
        except Exception as error:  # noqa: BLE001 - it is looked at
            errors.append(error)
        done.set()

    with shoal.get_context("fork").Pool(2) as pool:
        pool.apply_async(same, (1,), callback=call_back).get(SECONDS)
        assert done.wait(SECONDS)
        assert isinstance(errors[0], shoal.errors.WorkerLostError)
        assert pool.map(same, range(3)) == [0, 1, 2]


def test_a_hook_that_fails_ends_nothing(pool: Pool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    def fail(_: object) -> None:
        raise LookupError("in the hook")

    monkeypatch.setattr(threading, "excepthook", fail)
    pool.apply_async(same, (1,), callback=fail).get(SECONDS)
    got: list[int] = []
    pool.apply_async(same, (2,), callback=got.append).get(SECONDS)
    pool.close()
    pool.join()
    assert got == [2]
    assert "in the hook" in capfd.readouterr().err
