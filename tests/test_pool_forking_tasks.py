"""A task that forks: the child that comes back from it is no worker. The task's outcome is that of the process which has claimed it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import pool_tasks as tasks
from own_queues import OwnQueues

import shoal
from shoal.pool import ThreadPool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")

# How a child comes back, its exit code, and what it says on standard error.
RETURNS = (
    pytest.param("return", 0, "", id="returns"),
    pytest.param("leave", 3, "", id="sys.exit(3)"),
    pytest.param("raise", 1, "ValueError: the child's", id="raises"),
    pytest.param("be interrupted", 1, "KeyboardInterrupt", id="KeyboardInterrupt"),
)


MAKERS: dict[str, Callable[[], Any]] = {
    "fork": lambda: shoal.get_context("fork").Pool(1),
    "spawn": lambda: shoal.get_context("spawn").Pool(1),
    "forkserver": lambda: shoal.get_context("forkserver").Pool(1),
    "verified": lambda: shoal.get_context("fork").Pool(1, verify_results=True),
    "own queues": lambda: OwnQueues(1, context=shoal.get_context("fork")),
    "threads": lambda: ThreadPool(1),
}


@pytest.fixture(params=MAKERS)
def pool(request: pytest.FixtureRequest) -> Iterator[Any]:
    with MAKERS[request.param]() as pool:
        yield pool
        pool.close()
        pool.join()


@pytest.mark.parametrize(("how", "code", "_said"), RETURNS)
def test_what_becomes_of_the_child_is_not_the_tasks_outcome(pool: Any, how: str, code: int, _said: str) -> None:
    for _ in range(3):
        assert pool.apply(tasks.fork_and, (how,)) == code
    assert pool.map(tasks.fork_and, [how] * 3, chunksize=3) == [code] * 3
    assert pool.starmap(tasks.fork_and, [(how,)] * 3, chunksize=3) == [code] * 3
    assert list(pool.imap(tasks.fork_and, [how] * 3, chunksize=3)) == [code] * 3
    assert list(pool.imap(tasks.fork_and, [how] * 3)) == [code] * 3


@pytest.mark.parametrize("maker", ["fork", "spawn", "verified", "own queues", "threads"])
@pytest.mark.parametrize(("how", "code", "said"), RETURNS)
def test_the_child_tells_of_its_end_as_any_process_does(
    capfd: pytest.CaptureFixture[str], maker: str, how: str, code: int, said: str
) -> None:
    with MAKERS[maker]() as pool:
        assert pool.apply(tasks.fork_and, (how,)) == code
        assert pool.map(tasks.fork_and, [how] * 2, chunksize=2) == [code] * 2
    told = capfd.readouterr().err.splitlines()
    assert (told.count(said) if said else len(told)) == (3 if said else 0)


@pytest.mark.parametrize("maker", ["fork", "spawn", "forkserver", "verified", "own queues"])
@pytest.mark.parametrize(("how", "code", "_said"), RETURNS)
def test_nor_is_a_child_of_loading_an_argument_the_worker(
    tmp_path: Path, maker: str, how: str, code: int, _said: str
) -> None:
    path = tmp_path / "runs"
    with MAKERS[maker]() as pool:
        for _ in range(3):
            assert pool.apply(tasks.note_and_return, (str(path), tasks.ForksWhenLoaded(how))) == code
        assert pool.map(tasks.returned, [tasks.ForksWhenLoaded(how)] * 2, chunksize=2) == [code] * 2
        pool.close()
        pool.join()
    assert len(path.read_text().splitlines()) == 3


# (Queues that a subclass brings pickle and send in one step.)
@pytest.mark.parametrize("maker", ["fork", "spawn", "forkserver", "verified"])
@pytest.mark.parametrize(("how", "code", "_said"), RETURNS)
def test_nor_is_a_child_of_pickling_a_result(maker: str, how: str, code: int, _said: str) -> None:
    with MAKERS[maker]() as pool:
        for _ in range(3):
            assert pool.apply(tasks.ForksWhenPickled, (how,)) == code
        assert pool.map(tasks.ForksWhenPickled, [how] * 3, chunksize=3) == [code] * 3
        assert list(pool.imap(tasks.ForksWhenPickled, [how] * 3, chunksize=3)) == [code] * 3
        assert list(pool.imap(tasks.ForksWhenPickled, [how] * 3)) == [code] * 3


@pytest.mark.parametrize("chunksize", [1, 3])
def test_the_child_runs_no_other_item(pool: Any, tmp_path: Path, chunksize: int) -> None:
    path = tmp_path / "runs"
    assert pool.map(tasks.note_and_fork, [str(path)] * 3, chunksize=chunksize) == [0, 0, 0]
    assert list(pool.imap(tasks.note_and_fork, [str(path)] * 3, chunksize=chunksize)) == [0, 0, 0]
    pool.close()
    pool.join()
    assert len(path.read_text().splitlines()) == 6


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_the_child_does_not_end_its_parents_children(method: str) -> None:
    with shoal.get_context(method).Pool(1) as pool:
        assert pool.apply(tasks.fork_beside_a_child, (None,))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize(("how", "_code", "_said"), RETURNS)
def test_nor_is_the_child_of_an_initializer_a_worker(method: str, how: str, _code: int, _said: str) -> None:
    with shoal.get_context(method).Pool(1, tasks.fork_and, (how,)) as pool:
        pids = pool.map(tasks.pid_after, [0.01] * 8, chunksize=1)
        assert set(pids) == {pool._pool[0].pid}
