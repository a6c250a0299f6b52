"""Whatever dies in a pool, or cannot be sent, costs the task that it happened in, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import shoal
from shoal.errors import BrokenPoolError, PoolTerminatedError, WorkerLostError
from shoal.pool import MaybeEncodingError, Pool

# Spawned children import the functions that they run; they are given this process's sys.path.
sys.path.insert(0, str(Path(__file__).parent))

import pool_tasks as tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECONDS = 20  # far more than anything here takes


@pytest.fixture(params=["fork", "spawn", "forkserver"])
def context(request: pytest.FixtureRequest) -> Any:
    return shoal.get_context(request.param)


@pytest.fixture
def pool(context: Any) -> Iterator[Pool]:
    with context.Pool(2) as made:
        yield made
    made.join()


def outcome(result: Any) -> Any:
    try:
        return result.get(SECONDS)
    except WorkerLostError as error:
        return error


@pytest.mark.parametrize(
    ("how", "exitcode", "name"),
    [("SIGKILL", -signal.SIGKILL, "SIGKILL"), ("SIGSEGV", -signal.SIGSEGV, "SIGSEGV"), (3, 3, None)],
    ids=["killed", "crashed", "left"],
)
def test_a_task_whose_worker_dies_fails_alone(pool: Pool, how: Any, exitcode: int, name: str | None) -> None:
    results = [
        pool.apply_async(tasks.die_of, (how,)) if i == 7 else pool.apply_async(tasks.double, (i,)) for i in range(21)
    ]
    outcomes = [outcome(result) for result in results]
    lost = outcomes.pop(7)
    assert isinstance(lost, WorkerLostError)
    assert (lost.exitcode, lost.signal) == (exitcode, name)
    assert lost.pid
    assert "die_of" in str(lost)
    assert outcomes == [2 * i for i in range(21) if i != 7]
    assert pool.apply(tasks.double, (4,)) == 8


def test_apply_raises_when_its_worker_dies(pool: Pool) -> None:
    with pytest.raises(WorkerLostError, match="SIGKILL"):
        pool.apply(tasks.die_of, ("SIGKILL",))


def test_map_raises_when_a_worker_dies_and_the_pool_works_on(pool: Pool) -> None:
    with pytest.raises(WorkerLostError, match=r"double_or_die \(item"):
        pool.map(tasks.double_or_die, [1, 2, "SIGKILL", *range(30)], chunksize=1)
    assert pool.map(tasks.double, range(5)) == [0, 2, 4, 6, 8]


def test_imap_goes_on_after_an_item_whose_worker_died(pool: Pool) -> None:
    results = pool.imap(tasks.double_or_die, [0, 1, "exit 3", 3, 4])
    assert [results.next(SECONDS), results.next(SECONDS)] == [0, 2]
    with pytest.raises(WorkerLostError, match="exit code 3"):
        results.next(SECONDS)
    assert [results.next(SECONDS), results.next(SECONDS)] == [6, 8]
    with pytest.raises(StopIteration):
        results.next(SECONDS)


def test_a_death_in_a_chunk_costs_items_not_the_chunk(pool: Pool) -> None:
    items = [0, 1, 2, "SIGKILL", *range(4, 5000)]
    results = pool.imap(tasks.double_or_die, items, chunksize=len(items))
    values, errors = [], 0
    while True:
        try:
            values.append(results.next(SECONDS))
        except StopIteration:
            break
        except WorkerLostError:
            errors += 1
    assert len(values) + errors == len(items)
    assert values[-1] == 2 * 4999
    assert values == sorted(values)


def test_idle_workers_that_are_killed_are_replaced(pool: Pool) -> None:
    assert pool.apply(tasks.double, (1,)) == 2
    victims = list(pool._pool)
    for process in victims:
        process.kill()
        process.join()
    assert pool.map(tasks.double, range(10), chunksize=1) == [2 * i for i in range(10)]


def test_all_workers_killed_at_work_cost_two_tasks(pool: Pool) -> None:
    results = [pool.apply_async(tasks.pid_after, (0.05,)) for _ in range(20)]
    first = results[0].get(SECONDS)
    assert first in [process.pid for process in pool._pool]
    for process in list(pool._pool):
        process.kill()
    outcomes = [outcome(result) for result in results]
    assert sum(isinstance(got, WorkerLostError) for got in outcomes) <= 2


@pytest.mark.limit(120)
def test_a_worker_killed_every_now_and_then_loses_what_it_ran_and_no_more(pool: Pool) -> None:
    # Often, but not so often that no worker lives to become ready: that breaks a pool in the end (see RestartLimit).
    pause = 1.0 if pool._ctx.get_start_method() == "spawn" else 0.05
    results = [pool.apply_async(tasks.pid_after, (0.002,)) for _ in range(600)]
    over = threading.Event()
    kills = []

    def kill_one_by_one() -> None:
        while not over.wait(pause):
            for process in list(pool._pool)[:1]:
                process.kill()
                kills.append(process.pid)

    killer = threading.Thread(target=kill_one_by_one)
    killer.start()
    try:
        outcomes = [outcome(result) for result in results]
    finally:
        over.set()
        killer.join()
    lost = [got for got in outcomes if isinstance(got, WorkerLostError)]
    assert len(lost) <= len(kills)
    assert {error.pid for error in lost} <= set(kills)


def test_workers_leave_after_their_tasks_and_nothing_is_lost(context: Any) -> None:
    with context.Pool(2, maxtasksperchild=1) as pool:
        results = [pool.apply_async(tasks.pid_of_worker) for _ in range(12)]
        pool.close()
        pool.join()
        assert len({result.get(0) for result in results}) == 12


@pytest.mark.parametrize(
    ("function", "arguments", "kind"),
    [
        (tasks.leave, (5,), SystemExit),
        (tasks.interrupt, (), KeyboardInterrupt),
        (tasks.fail, ("so",), ValueError),
    ],
    ids=["SystemExit", "KeyboardInterrupt", "ValueError"],
)
def test_what_a_task_raises_is_raised_with_the_remote_traceback(
    pool: Pool, function: Callable[..., Any], arguments: tuple[Any, ...], kind: type[BaseException]
) -> None:
    with pytest.raises(kind) as caught:
        pool.apply(function, arguments)
    assert function.__name__ in str(caught.value.__cause__)
    assert pool.apply(tasks.double, (2,)) == 4


def test_a_result_that_cannot_be_pickled_is_an_encoding_error(pool: Pool) -> None:
    with pytest.raises(MaybeEncodingError, match="lock"):
        pool.apply(tasks.return_what_cannot_be_pickled)
    assert pool.apply(tasks.double, (2,)) == 4


def test_an_exception_that_cannot_be_pickled_says_so_and_shows_where_it_was_raised(pool: Pool) -> None:
    with pytest.raises(MaybeEncodingError, match="the reason") as caught:
        pool.apply(tasks.raise_what_cannot_be_pickled)
    assert "raise_what_cannot_be_pickled" in str(caught.value.__cause__)


def test_an_exception_that_cannot_be_loaded_says_so_and_shows_where_it_was_raised(pool: Pool) -> None:
    with pytest.raises(MaybeEncodingError, match="NeedsTwoError") as caught:
        pool.apply(tasks.raise_what_cannot_be_loaded)
    assert "raise_what_cannot_be_loaded" in str(caught.value.__cause__)
    assert pool.apply(tasks.double, (2,)) == 4


def test_an_argument_that_cannot_be_loaded_fails_its_task(pool: Pool) -> None:
    with pytest.raises(RuntimeError, match="not to be loaded"):
        pool.apply(tasks.pid_of_worker, (tasks.LoadsNowhere(),))
    assert pool.apply(tasks.double, (2,)) == 4


def test_a_result_that_cannot_be_loaded_fails_its_task(pool: Pool) -> None:
    with pytest.raises(RuntimeError, match="not to be loaded"):
        pool.apply(tasks.make_what_cannot_be_loaded)
    assert pool.apply(tasks.double, (2,)) == 4


def test_an_argument_that_kills_whoever_loads_it_fails_its_task(pool: Pool) -> None:
    with pytest.raises(WorkerLostError, match="SIGSEGV"):
        pool.apply(tasks.pid_of_worker, (tasks.KillsWhoLoadsIt(),))
    assert pool.apply(tasks.double, (2,)) == 4


def test_what_cannot_be_pickled_is_raised_at_the_call_of_apply_and_map(pool: Pool) -> None:
    with pytest.raises(TypeError, match="lock") as caught:
        pool.apply(tasks.double, ([threading.Lock()],))
    assert any(note.startswith("args[0][0]") for note in caught.value.__notes__)
    with pytest.raises(TypeError, match="lock"):
        pool.map(tasks.double, [threading.Lock()] * 3)
    assert not pool._cache


def test_what_cannot_be_pickled_goes_to_the_result_of_an_async_call(pool: Pool) -> None:
    told: list[BaseException] = []
    single = pool.apply_async(tasks.double, (threading.Lock(),), error_callback=told.append)
    many = pool.map_async(tasks.double, [1, threading.Lock()], chunksize=1)
    for result in (single, many):
        with pytest.raises(TypeError, match="lock"):
            result.get(SECONDS)
    assert [type(error) for error in told] == [TypeError]


def test_what_cannot_be_pickled_is_the_outcome_of_its_item_in_imap(pool: Pool) -> None:
    results = pool.imap(tasks.double, [1, threading.Lock(), 3])
    assert results.next(SECONDS) == 2
    with pytest.raises(TypeError, match="lock"):
        results.next(SECONDS)
    assert results.next(SECONDS) == 6


@pytest.mark.parametrize(
    ("initializer", "arguments", "message"),
    [(tasks.fail, ("no model",), "no model"), (os._exit, (4,), "exit code 4")],
    ids=["raises", "exits"],
)
def test_a_failing_initializer_breaks_the_pool_once(
    context: Any, initializer: Callable[..., Any], arguments: tuple[Any, ...], message: str
) -> None:
    with context.Pool(2, initializer, arguments) as pool:
        pending = pool.apply_async(tasks.double, (1,))
        with pytest.raises(BrokenPoolError) as caught:
            pool.apply(tasks.double, (1,))
        assert message in str(caught.value.__cause__)
        with pytest.raises(BrokenPoolError):
            pending.get(SECONDS)
        with pytest.raises(BrokenPoolError):
            pool.map(tasks.double, [1])
    pool.join()


def test_an_initializer_that_hangs_breaks_the_pool_when_its_time_is_over(context: Any) -> None:
    with Pool(1, tasks.hang, context=context, initializer_timeout=0.5) as pool:
        with pytest.raises(BrokenPoolError) as caught:
            pool.apply(tasks.double, (1,))
        assert "0.5 s" in str(caught.value.__cause__)
    pool.join()


def test_terminate_fails_what_is_outstanding(context: Any) -> None:
    pool = context.Pool(1)
    waited = pool.apply_async(tasks.hang)
    queued = pool.map_async(tasks.double, range(10_000), chunksize=1)
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            waited.get()
        except PoolTerminatedError as error:
            raised.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    pool.terminate()
    pool.join()
    waiter.join(SECONDS)
    assert len(raised) == 1
    with pytest.raises(PoolTerminatedError):
        queued.get(SECONDS)


def test_a_callback_that_raises_costs_nobody_a_result(context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: told.append(args.exc_type))
    with context.Pool(1) as pool:
        results = [pool.apply_async(tasks.double, (i,), callback=[].index) for i in range(3)]
        assert [result.get(SECONDS) for result in results] == [0, 2, 4]
    pool.join()
    assert told == [ValueError] * 3


def group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("call", ["map(tasks.pid_after, [30, 30])", "apply(tasks.pid_after, (30,))", "join()"])
def test_ctrl_c_is_one_interrupt_without_a_word_from_the_workers(call: str, times: int) -> None:
    program = textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import pool_tasks as tasks
        import shoal

        if __name__ == "__main__":
            with shoal.get_context("fork").Pool(2) as pool:
                pool.map(tasks.double, range(10))
                if {call!r} == "join()":
                    pool.apply_async(tasks.pid_after, (30,))
                    pool.close()
                print("ready", flush=True)
                pool.{call}
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    for _ in range(times):
        os.killpg(process.pid, signal.SIGINT)
        threading.Event().wait(0.1)
    _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode in (-signal.SIGINT, 130)
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert "PoolWorker" not in errors
    if times == 1:
        assert errors.count("Traceback") == 1
    while group_exists(process.pid):  # the watchdog counts
        threading.Event().wait(0.05)
