"""Managers between shoal and the standard library of each CPython that is found: either may be the server, either may be the client."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import queue
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import interpreters

import shoal
from shoal import managers
from shoal._managers.nested import NestedDict, NestedDictProxy
from shoal.errors import ManagerDied

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = b"the key"
LONG = 30.0

# A server of the standard library, and a client of it. Each says what came of it.
SERVER = """
import json, queue, sys
from multiprocessing.managers import SyncManager
shared = queue.Queue()
SyncManager.register("get_queue", lambda: shared)
address = json.loads(sys.argv[1])
server = SyncManager(tuple(address) if isinstance(address, list) else address, sys.argv[2].encode()).get_server()
print(json.dumps(server.address), flush=True)
server.serve_forever()
"""

CLIENT = """
import gc, json, multiprocessing, sys
from multiprocessing.managers import SyncManager, RemoteError
SyncManager.register("get_queue")
SyncManager.register("get_inner")
SyncManager.register("get_tree")
multiprocessing.current_process().authkey = sys.argv[2].encode()  # that of proxies inside proxies, there
address = json.loads(sys.argv[1])
manager = SyncManager(tuple(address) if isinstance(address, list) else address, sys.argv[2].encode())
manager.connect()
words, numbers, names = manager.dict(a=1), manager.list([1, [2]]), manager.Namespace(x=1)
words["b"] = {"c": 2}
names.y = 5
outer = manager.list([words])
outer[0]["d"] = 3
said = {"words": words.copy(), "iterated": sorted(words), "numbers": numbers[:], "names": str(names)}
try:
    words["nothing"]
except KeyError as error:
    said["error"] = repr(error)
try:
    words._callmethod("nothing")
except RemoteError as error:
    said["unknown"] = "does not expose 'nothing'" in str(error)
lock = manager.RLock()
with lock, lock:
    said["locked"] = True
said["put there by shoal"] = manager.get_inner()[0].copy()
tree = manager.get_tree({"a": {}, "s": set()})
tree.get("a")["b"] = [1]
tree.get("a")["b"].append(2)
tree.get("s").add(7)
said["nested"] = [str(tree), sorted(tree.get("s").copy()), type(tree.get("a")).__module__]
said["from shoal"] = manager.get_queue().get(timeout=20)
manager.get_queue().put(["from the standard library", 1.5])
said["objects"] = manager._number_of_objects()
del words, numbers, names, outer, lock, tree
gc.collect()
said["left"] = manager._number_of_objects()
print(json.dumps(said))
"""


@pytest.fixture(params=interpreters.VERSIONS)
def python(request: pytest.FixtureRequest) -> str:
    found = interpreters.interpreter(request.param)
    if found is None:
        pytest.skip(f"no CPython {request.param} on PATH or in pyenv")
    return found


@pytest.fixture(params=["AF_UNIX", "AF_INET"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return ("127.0.0.1", 0) if request.param == "AF_INET" else str(tmp_path / "socket")


SHARED: queue.Queue[Any] = queue.Queue()


class OurManager(managers.SyncManager):
    """On shoal, with a queue that has a name."""


OurManager.register("get_queue", lambda: SHARED)
INNER: list[Any] = []
OurManager.register("get_inner", lambda: INNER, managers.ListProxy)
OurManager.register("get_tree", NestedDict, NestedDictProxy)


@contextlib.contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_standard_client_on_our_server(python: str, address: Any):
    manager = OurManager(address, KEY, ctx=shoal.get_context("fork"), allow_legacy=True)
    with manager:
        ours = manager.get_queue()
        ours.put("hello")
        manager.get_inner().append(manager.dict(x=1))
        before = manager._number_of_objects()
        with running(python, "-I", "-c", CLIENT, json.dumps(manager.address), KEY.decode()) as client:
            said = json.loads(client.communicate(timeout=LONG)[0])
        assert ours.get(timeout=LONG) == ["from the standard library", 1.5]
        assert said == {
            "words": {"a": 1, "b": {"c": 2}, "d": 3},
            "iterated": ["a", "b", "d"],
            "numbers": [1, [2]],
            "names": "Namespace(x=1, y=5)",
            "error": "KeyError('nothing')",
            "unknown": True,
            "locked": True,
            "put there by shoal": {"x": 1},
            "nested": ["{'a': {'b': [1, 2]}, 's': {7}}", [7], "multiprocessing.managers"],
            "from shoal": "hello",
            "objects": before + 6,
            # What its list held is a proxy that lives in our server, of the standard library's kind: it keeps its object, as it would there.
            "left": before,
        }


def test_our_client_on_a_standard_server(python: str, address: Any, monkeypatch: pytest.MonkeyPatch):
    with running(python, "-I", "-c", SERVER, json.dumps(address), KEY.decode()) as server:
        assert server.stdout is not None
        place = json.loads(server.stdout.readline())
        manager = OurManager(tuple(place) if isinstance(place, list) else place, KEY, allow_legacy=True)
        manager.connect(retry=LONG)
        words, numbers = manager.dict(a=1), manager.list([3, 1, 2])
        words["b"] = [1]
        words |= {"c": 2}
        numbers.sort()
        assert (words, words | {"d": 1}, sorted(words)) == (
            {"a": 1, "b": [1], "c": 2},
            {"a": 1, "b": [1], "c": 2, "d": 1},
            ["a", "b", "c"],
        )
        assert (numbers.copy(), numbers.clear(), len(numbers)) == ([1, 2, 3], None, 0)
        with pytest.raises(KeyError):
            words["nothing"]
        with pytest.raises(managers.RemoteError, match="AttributeError"):
            words._callmethod("nothing")
        manager.get_queue().put("for all")
        assert manager.get_queue().get(timeout=LONG) == "for all"
        outer = manager.list([words])
        outer.append(numbers)
        words["e"] = 4
        monkeypatch.setattr(
            multiprocessing.current_process(), "_config", {"authkey": KEY}
        )  # the key of proxies in proxies, there
        assert [str(one) for one in outer] == [str(words), "[]"]
        event = manager.Event()
        child = shoal.get_context("fork").Process(target=event.set)
        child.start()
        assert event.wait(LONG)
        child.join()
        assert child.exitcode == 0
        before = manager._number_of_objects()
        del words, numbers
        assert manager._number_of_objects() == before - 2
        server.kill()
        server.wait()
        with pytest.raises(ManagerDied):
            event.is_set()


def test_a_client_that_speaks_md5_only_is_refused_unless_it_is_allowed():
    old = interpreters.interpreter("3.11")
    if old is None:
        pytest.skip("no CPython 3.11 on PATH or in pyenv")
    with OurManager(("127.0.0.1", 0), KEY, ctx=shoal.get_context("fork")) as manager:
        with running(old, "-I", "-W", "ignore", "-c", CLIENT, json.dumps(manager.address), KEY.decode()) as client:
            client.stdout.close()
            assert client.wait(LONG) == 1
        assert manager.get_queue().qsize() == 0
