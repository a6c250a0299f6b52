"""What a pool returns, as an object that several threads change at once."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

import shoal
from shoal._pool.arrivals import Arrivals, UnorderedArrivals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LONG = 20.0


@pytest.fixture
def pool() -> Iterator[Any]:
    with shoal.get_context("fork").Pool(2) as pool:
        yield pool


def fail(_: Any) -> None:
    raise LookupError("on purpose")


# What is waited for by several threads while outcomes come in, of each kind, and how one of them waits.
KINDS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "apply": (lambda pool: pool.apply_async(time.sleep, (0.2,)), lambda result: result.wait(LONG)),
    "apply, failing": (lambda pool: pool.apply_async(fail, (1,)), lambda result: result.wait(LONG)),
    "map": (lambda pool: pool.map_async(time.sleep, [0.05] * 4, chunksize=1), lambda result: result.wait(LONG)),
    "map, failing": (lambda pool: pool.map_async(fail, range(4)), lambda result: result.wait(LONG)),
    "imap": (lambda pool: pool.imap(time.sleep, [0.05] * 4), lambda result: [result.next(LONG) for _ in range(2)]),
    "imap_unordered": (
        lambda pool: pool.imap_unordered(time.sleep, [0.05] * 4),
        lambda result: [result.next(LONG) for _ in range(2)],
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_result_has_all_its_attributes_from_the_start(pool: Any, monkeypatch: pytest.MonkeyPatch, kind: str):
    # On CPython 3.11 two threads that give one object new attributes may lose one, or crash (shoal._pool.waiting).
    start, wait = KINDS[kind]
    made: list[tuple[Any, set[str]]] = []
    for theirs in (shoal.pool.ApplyResult, shoal.pool.MapResult, Arrivals, UnorderedArrivals):

        def note(self: Any, *args: Any, _theirs: Any = theirs, _init: Any = theirs.__init__, **kwds: Any) -> None:
            _init(self, *args, **kwds)
            if type(self) is _theirs:
                made.append((self, set(vars(self))))

        monkeypatch.setattr(theirs, "__init__", note)
    result = start(pool)
    threads = [threading.Thread(target=wait, args=(result,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    awaited = getattr(result, "_arrivals", result)
    noted = [names for each, names in made if each is awaited]
    assert len(noted) == 1
    assert set(vars(awaited)) == noted[0]
