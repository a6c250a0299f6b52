"""``parmap``: ``list(map(…))`` by several processes, for any callable, with nothing left behind."""

from __future__ import annotations

import functools
import itertools
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

import shoal
from shoal.errors import WorkerLostError

if TYPE_CHECKING:
    from shoal.context import BaseContext

LONG = 30.0  # seconds


@pytest.fixture(params=["fork", "spawn", "forkserver"])
def ctx(request: pytest.FixtureRequest) -> BaseContext:
    return shoal.get_context(request.param)


class Scale:
    def __init__(self, factor: int) -> None:
        self.factor = factor

    def times(self, number: int) -> int:
        return self.factor * number


def test_every_callable_is_mapped_in_order(ctx: BaseContext):
    factor = 3
    wanted = [3 * number for number in range(50)]

    def closure(number: int) -> int:
        return factor * number

    for function in (
        lambda number: 3 * number,
        closure,
        Scale(3).times,
        functools.partial(lambda factor, number: factor * number, 3),
    ):
        assert ctx.parmap(function, range(50), processes=1) == wanted
    assert ctx.parmap(abs, [-1, 2]) == [1, 2]


def test_the_package_offers_it_with_the_default_context():
    assert shoal.parmap(lambda x: x + 1, [1, 2, 3], processes=2) == [2, 3, 4]
    assert "parmap" in shoal.__all__


def test_several_iterables_go_together_as_with_map(ctx: BaseContext):
    endless = itertools.count()
    assert ctx.parmap(lambda *args: args, "abc", endless, [1.5, 2.5]) == [("a", 0, 1.5), ("b", 1, 2.5)]


def test_any_iterable_will_do_and_an_empty_one_starts_no_process(ctx: BaseContext, monkeypatch: pytest.MonkeyPatch):
    assert ctx.parmap(str, (number for number in range(3))) == ["0", "1", "2"]
    assert sorted(ctx.parmap(str, {1, 2})) == ["1", "2"]
    monkeypatch.setattr(type(ctx), "Pool", None)
    for nothing in ([], iter(()), {}, range(0)):
        assert ctx.parmap(str, nothing) == []
    assert ctx.parmap(str, [1], []) == []


def test_the_number_of_workers_is_that_asked_for_or_of_items_or_cpus(ctx: BaseContext):
    def where(_: Any) -> int:
        return os.getpid()

    assert len(set(ctx.parmap(where, range(40), processes=1))) == 1
    pids = set(ctx.parmap(where, range(40), processes=3, chunksize=1))
    assert len(pids) <= 3
    assert os.getpid() not in pids


def test_what_makes_no_sense_is_refused_before_anything_is_started(ctx: BaseContext, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(type(ctx), "Pool", None)
    for arguments, options, error in (
        (("no function", [1]), {}, TypeError),
        ((None, []), {}, TypeError),
        ((str, 5), {}, TypeError),
        ((str, [1]), {"processes": 0}, ValueError),
        ((str, [1]), {"chunksize": 0}, ValueError),
        ((str, []), {"chunksize": -1}, ValueError),
    ):
        with pytest.raises(error):
            ctx.parmap(*arguments, **options)


def test_an_error_is_raised_with_its_remote_traceback_and_what_was_not_begun_is_left_out(ctx: BaseContext):
    begun = ctx.Queue()

    def work(number: int) -> int:
        begun.put(number)
        return 1 // number

    with pytest.raises(ZeroDivisionError) as raised:
        ctx.parmap(work, [2, 1, 0, 3, 4, 5], processes=1, chunksize=1)
    assert "1 // number" in str(raised.value.__cause__)
    assert [begun.get() for _ in range(3)] == [2, 1, 0]
    assert begun.empty()


def test_a_killed_worker_is_an_error_that_names_it(ctx: BaseContext):
    with pytest.raises(WorkerLostError, match="SIGKILL"):
        ctx.parmap(lambda number: number or os.kill(os.getpid(), signal.SIGKILL), [1, 0, 2], processes=1)


def test_a_lost_worker_names_the_function_that_the_user_gave(ctx: BaseContext):
    def fatal(_: int) -> None:
        os._exit(3)

    with pytest.raises(WorkerLostError, match=r"that ran fatal \(item 0\) died: exit code 3") as caught:
        ctx.parmap(fatal, [1], processes=1)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_parmap_may_be_in_a_parmap(ctx: BaseContext):
    table = ctx.parmap(
        lambda row: ctx.parmap(lambda column: row * column, range(3), processes=2), range(3), processes=2
    )
    assert table == [[0, 0, 0], [0, 1, 2], [0, 2, 4]]


def test_a_fork_inherits_what_cannot_be_pickled():
    lock = threading.Lock()
    assert shoal.get_context("fork").parmap(lambda _: lock.acquire(blocking=False), [1, 2], processes=1) == [
        True,
        False,
    ]
    assert not lock.locked()


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_what_cannot_be_pickled_is_named_and_nothing_is_left(method: str):
    lock = threading.Lock()
    with pytest.raises(TypeError) as raised:
        shoal.get_context(method).parmap(lambda _: lock, [1, 2])
    assert "_thread.lock" in raised.value.__notes__[0]
    assert shoal.active_children() == []


# --- as a program ------------------------------------------------------------------------------------------------------------


def write(place: Path, text: str) -> Path:
    program = place / "program.py"
    program.write_text(text)
    return program


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_what_workers_print_is_printed(tmp_path: Path, method: str):
    program = write(
        tmp_path,
        f"""
import shoal
if __name__ == "__main__":
    shoal.set_start_method({method!r})
    print(shoal.parmap(lambda x: print(f"item {{x}}\\n", end=""), [1, 2, 3], processes=2))
""",
    )
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=LONG, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout.splitlines()) == ["[None, None, None]", "item 1", "item 2", "item 3"]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_ctrl_c_is_one_keyboard_interrupt_and_ends_all(tmp_path: Path, method: str):
    program = write(
        tmp_path,
        f"""
import os, shoal, time
def work(x):
    os.write(1, b"begun\\n")
    time.sleep({LONG})
if __name__ == "__main__":
    shoal.set_start_method({method!r})
    shoal.parmap(work, [1, 2], processes=2)
""",
    )
    with subprocess.Popen(
        [sys.executable, program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert [process.stdout.readline() for _ in range(2)] == ["begun\n"] * 2
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        rest, error = process.communicate(timeout=LONG)
    assert process.returncode == -signal.SIGINT
    assert rest == ""
    assert re.findall(r"^KeyboardInterrupt", error, re.MULTILINE) == ["KeyboardInterrupt"]
    assert error.count("Traceback") == 1


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_killing_the_root_of_nested_ones_leaves_no_descendants(tmp_path: Path, method: str):
    program = write(
        tmp_path,
        f"""
import os, shoal, time
def inner(x):
    os.write(1, f"{{os.getpid()}}\\n".encode())
    time.sleep({LONG})
def outer(x):
    return shoal.parmap(inner, [1, 2], processes=2)
if __name__ == "__main__":
    shoal.set_start_method({method!r})
    shoal.parmap(outer, [1, 2], processes=2)
""",
    )
    with subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True) as process:
        inner = [psutil.Process(int(process.stdout.readline())) for _ in range(4)]
        descendants = psutil.Process(process.pid).children(recursive=True)
        assert set(inner) <= set(descendants) or method == "forkserver"
        process.kill()
    deadline = time.monotonic() + LONG
    for each in {*inner, *descendants}:
        each.wait(max(0.0, deadline - time.monotonic()))
