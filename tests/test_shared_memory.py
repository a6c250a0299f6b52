"""What shoal adds to named shared memory: a tree takes away what it has made, nobody takes away what another has made, nothing is said about it, and a
block that was made has its memory.
"""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import shoal
from shoal import _native, resource_tracker, shared_memory
from shoal.shared_memory import ShareableList, SharedMemory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LONG = 20.0  # seconds
DIRECTORY = Path("/dev/shm")  # noqa: S108 - what this is about


def eventually(condition: Callable[[], object]) -> bool:
    deadline = time.monotonic() + LONG
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


@pytest.fixture
def name(request: pytest.FixtureRequest) -> Iterator[str]:
    """A name of this test's own, free before and after it."""
    chosen = f"shoal-test-{os.getpid()}-{abs(hash(request.node.nodeid))}"
    yield chosen
    _native.name_forget(chosen)
    (DIRECTORY / chosen).unlink(missing_ok=True)


class Program:
    """Another tree: an interpreter that runs some lines with `name` set, and says "ready"."""

    def __init__(self, name: str, lines: str, library: str = "shoal") -> None:
        text = f"import os, signal, sys\nimport {library} as mp\nfrom {library}.shared_memory import SharedMemory\n"
        text += (
            f"from {library} import resource_tracker\nname = {name!r}\n{lines}\nprint('ready', flush=True)\ninput()\n"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", text],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        first = self.process.stdout.readline()
        assert first == "ready\n", first + self.process.stderr.read()

    def end(self) -> str:
        """Let it leave; return what it and its helpers had to say."""
        self.process.stdin.write("\n")
        return self.ended(0)

    def kill(self) -> str:
        self.process.kill()
        return self.ended(-signal.SIGKILL)

    def ended(self, status: int) -> str:
        said = "".join(self.process.communicate(timeout=LONG))
        assert self.process.returncode == status, said
        return said


ENDINGS = pytest.mark.parametrize("ending", [Program.end, Program.kill])
MAKE = "block = SharedMemory(name, create=True, size=100)"


# --- who answers for a block --------------------------------------------------------------------------------------------------


@ENDINGS
def test_a_tree_that_ends_takes_away_what_it_made_and_says_nothing(name: str, ending: Callable[[Program], str]):
    program = Program(name, MAKE)
    assert (DIRECTORY / name).exists()
    assert ending(program) == ""
    assert eventually(lambda: not (DIRECTORY / name).exists())


@ENDINGS
def test_what_is_not_tracked_stays(name: str, ending: Callable[[Program], str]):
    program = Program(
        name, "SharedMemory(name, create=True, size=100, track=False)\nSharedMemory(name + '-', create=True, size=1)"
    )
    assert ending(program) == ""
    assert eventually(lambda: not (DIRECTORY / f"{name}-").exists())
    assert (DIRECTORY / name).exists()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("maker", ["root", "child"])
def test_a_killed_tree_takes_away_what_any_of_its_processes_made(name: str, method: str, maker: str, tmp_path: Path):
    program = tmp_path / "program.py"
    program.write_text(
        f"""
import sys, time, signal
import shoal
from shoal.shared_memory import SharedMemory

def work(made):
    block = SharedMemory({name!r}, create={maker == "child"}, size=100)
    made.set()
    signal.pause()

if __name__ == "__main__":
    ctx = shoal.get_context({method!r})
    if {maker == "root"}:
        block = SharedMemory({name!r}, create=True, size=100)
    made = ctx.Event()
    ctx.Process(target=work, args=(made,), daemon=True).start()
    made.wait()
    print("ready", flush=True)
    signal.pause()
"""
    )
    with subprocess.Popen(
        [sys.executable, program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        assert (DIRECTORY / name).exists()
        process.kill()
        assert process.stderr.read() == ""
    assert eventually(lambda: not (DIRECTORY / name).exists())


def test_a_block_is_there_as_long_as_one_of_the_tree_is(name: str):
    program = Program(
        name,
        MAKE + "\nchild = mp.get_context('fork').Process(target=signal.pause)\nchild.start()\n"
        "sys.stdout.write('')\nopen('/dev/shm/' + name, 'r+').write(str(child.pid))",
    )
    child = int((DIRECTORY / name).read_bytes().rstrip(b"\0"))
    program.process.kill()
    program.process.wait()
    # The watcher looks at each death in turn: once it has seen this one, which comes after, it has seen the root's.
    assert (DIRECTORY / name).exists()
    os.kill(child, signal.SIGKILL)
    program.process.communicate()
    assert eventually(lambda: not (DIRECTORY / name).exists())


@ENDINGS
def test_attaching_and_leaving_never_takes_away_what_another_tree_made(name: str, ending: Callable[[Program], str]):
    block = SharedMemory(name, create=True, size=100)
    attached = "block = SharedMemory(name)\nblock.buf[0] += 1\nSharedMemory(name + '-', create=True, size=1)"
    assert ending(Program(name, attached)) == ""
    assert eventually(lambda: not (DIRECTORY / f"{name}-").exists()), "its watcher has done its work"
    assert block.buf[0] == 1
    assert (DIRECTORY / name).exists()
    block.close()
    block.unlink()


def test_a_block_that_another_made_under_an_old_name_stays(name: str):
    program = Program(name, MAKE)
    (DIRECTORY / name).unlink()
    block = SharedMemory(name, create=True, size=10, track=False)
    program.kill()
    other = Program(f"{name}-", MAKE)  # a tree that began and ended later
    other.kill()
    assert eventually(lambda: not (DIRECTORY / f"{name}-").exists())
    block.close()
    block.unlink()


def test_who_unlinks_need_not_be_who_made(name: str):
    program = Program(name, "SharedMemory(name, create=True, size=10)")
    block = SharedMemory(name)
    block.close()
    block.unlink()
    with pytest.raises(FileNotFoundError):
        block.unlink()
    assert program.end() == ""


def test_a_watcher_that_took_the_place_of_a_killed_one_knows_every_block(name: str):
    program = Program(
        name,
        """
import psutil
from shoal import _native
SharedMemory(name + '-', create=True, size=1)
while not (watcher := _native.watcher_pid()) or not psutil.Process(watcher).children():  # its stand-by
    pass
os.kill(watcher, signal.SIGKILL)
while _native.watcher_pid() in (0, watcher):
    pass
SharedMemory(name, create=True, size=1)
""",
    )
    program.kill()
    for each in (name, f"{name}-"):
        assert eventually(lambda each=each: not (DIRECTORY / each).exists())


def test_no_process_of_a_tracker_is_started(name: str):
    program = Program(
        name,
        MAKE + "\nblock.unlink()\nimport psutil\n"
        "assert not psutil.Process().children(recursive=True), psutil.Process().children()\n"
        "assert resource_tracker._resource_tracker._pid is None",
    )
    assert program.end() == ""


# --- resource_tracker ---------------------------------------------------------------------------------------------------------


def test_a_tree_can_be_told_not_to_answer_for_a_block_any_more(name: str):
    lines = "resource_tracker.unregister(block._name, 'shared_memory')\nSharedMemory(name + '-', create=True, size=1)"
    Program(name, f"{MAKE}\n{lines}").kill()
    assert eventually(lambda: not (DIRECTORY / f"{name}-").exists())
    assert (DIRECTORY / name).exists()


@pytest.mark.parametrize("before", [True, False])
def test_a_tree_can_be_told_to_answer_for_a_block_of_others(name: str, before: bool):
    block = SharedMemory(name, create=True, size=10, track=False) if before else None
    program = Program(name, "resource_tracker.register('/' + name, 'shared_memory')")
    block = block or SharedMemory(name, create=True, size=10, track=False)
    block.close()
    assert program.kill() == ""
    assert eventually(lambda: not (DIRECTORY / name).exists())


def test_what_was_never_registered_is_unregistered_in_silence(name: str, capfd: pytest.CaptureFixture[str]):
    resource_tracker.unregister(f"/{name}", "shared_memory")
    block = SharedMemory(name, create=True, size=10)
    resource_tracker.unregister(block._name, "shared_memory")
    resource_tracker.unregister(block._name, "shared_memory")
    block.close()
    block.unlink()
    assert capfd.readouterr() == ("", "")
    with pytest.raises(ValueError, match="at most 255 bytes"):
        resource_tracker.register("a" * 500, "shared_memory")


def test_a_program_that_replaces_register_keeps_account_by_itself(name: str):
    lines = "seen = []\nresource_tracker.register = lambda *resource: seen.append(resource)\n"
    program = Program(name, f"{lines}{MAKE}\nassert seen == [('/' + name, 'shared_memory')], seen")
    program.kill()
    other = Program(f"{name}-", MAKE)
    other.kill()
    assert eventually(lambda: not (DIRECTORY / f"{name}-").exists())
    assert (DIRECTORY / name).exists()


def test_other_kinds_go_to_the_standard_tracker(name: str):
    program = Program(
        name,
        "resource_tracker.register(name, 'semaphore')\nresource_tracker.unregister(name, 'semaphore')\n"
        "assert resource_tracker.getfd() > 2\nassert resource_tracker._resource_tracker._pid",
    )
    assert program.end() == ""


def test_every_name_of_the_standard_module_is_there():
    standard = sys.modules["multiprocessing.resource_tracker"]
    assert resource_tracker.__all__ == standard.__all__
    assert [each for each in vars(standard) if not hasattr(resource_tracker, each)] == []
    missing = [each for each in vars(standard.ResourceTracker) if not hasattr(resource_tracker.ResourceTracker, each)]
    assert missing == []


# --- memory -------------------------------------------------------------------------------------------------------------------


def test_a_block_has_its_memory_from_the_beginning(name: str):
    size = 3 << 20
    block = SharedMemory(name, create=True, size=size)
    assert (DIRECTORY / name).stat().st_blocks * 512 >= size
    assert block.size == size
    block.close()
    block.unlink()


def test_more_than_there_can_be_is_a_memory_error_with_the_sizes(name: str):
    with pytest.raises(
        MemoryError, match=f"{1 << 50} bytes of shared memory wanted, where there are {_native.memory_limit()}"
    ):
        SharedMemory(name, create=True, size=1 << 50)
    assert not (DIRECTORY / name).exists()


FULL = """
import os, sys
from shoal.shared_memory import SharedMemory, ShareableList
kept = SharedMemory("kept", create=True, size=300_000)
for make in (lambda: SharedMemory("more", create=True, size=800_000), lambda: ShareableList([b"x" * 800_000])):
    try:
        make()
    except OSError as error:
        print(error.errno, error)
kept.buf[:] = b"x" * kept.size
print(os.listdir("/dev/shm"), SharedMemory("less", create=True, size=500_000).size)
"""


def test_a_full_directory_is_an_error_with_the_sizes_and_no_sigbus():
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare (util-linux)")
    private = ["unshare", "--mount", "--map-root-user", "--propagation", "private", "sh", "-ec"]
    mount = "mount -t tmpfs -o size=1m tmpfs /dev/shm"
    if subprocess.run([*private, mount], capture_output=True, check=False).returncode != 0:
        pytest.skip("needs the right to mount in a user namespace")
    line = [*private, f'{mount}; exec "$0" -c "$1"', sys.executable, FULL]
    done = subprocess.run(line, capture_output=True, text=True, timeout=LONG, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    *errors, last = done.stdout.splitlines()
    assert len(errors) == 2
    for line in errors:
        assert line.startswith(f"{errno.ENOSPC} ")
        assert "bytes of shared memory wanted" in line
        assert "of 1048576 are free in /dev/shm" in line
        assert "--shm-size" in line
    assert "800000 bytes" in errors[0]
    assert last == "['kept'] 500000"


@pytest.mark.parametrize("create", [True, False])
def test_what_fails_leaves_the_blocks_of_others_alone(
    name: str, create: bool, monkeypatch: pytest.MonkeyPatch, descriptors_steady: Callable[[], None]
):
    block = SharedMemory(name, create=True, size=100)
    descriptors_steady()

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOMEM, "no room to map it")

    monkeypatch.setattr(mmap, "mmap", refuse)
    with pytest.raises(OSError, match="no room"):
        SharedMemory(f"{name}-" if create else name, create=create, size=100)
    monkeypatch.undo()
    assert [path.name for path in DIRECTORY.glob(f"{name}*")] == [name]
    block.close()
    block.unlink()


# --- the objects ------------------------------------------------------------------------------------------------------------


def test_an_array_keeps_the_memory_that_it_looks_at(name: str):
    program = Program(
        name,
        "import numpy as np\narray = np.ndarray(1000, buffer=SharedMemory(name, create=True, size=8000).buf)\n"
        "view = SharedMemory(name).buf[:8]\narray[:] = 7\nassert array.sum() == 7000 and bytes(view) == array[:1].tobytes()",
    )
    assert program.end() == ""


def test_arrays_in_two_processes_are_the_same_memory():
    block = SharedMemory(create=True, size=800)
    array = np.ndarray(100, dtype=float, buffer=block.buf)
    array[:] = range(100)
    process = shoal.get_context("fork").Process(target=_double, args=(block,))
    process.start()
    process.join()
    assert array.sum() == 2 * sum(range(100))
    del array
    block.close()
    block.unlink()


def _double(block: SharedMemory) -> None:
    np.ndarray(100, dtype=float, buffer=block.buf)[:] *= 2


def test_blocks_and_lists_are_those_of_the_standard_library_in_memory(name: str):
    ours = ShareableList(["text", b"bytes", 1, 2.5, None, True], name=name)
    program = Program(
        name,
        """
from multiprocessing.shared_memory import ShareableList
items = ShareableList(name=name)
assert list(items) == ["text", b"bytes", 1, 2.5, None, True], items
items[0] = "more"
resource_tracker.unregister("/" + name, "shared_memory")
""",
        library="multiprocessing",
    )
    assert program.end() == ""
    assert ours[0] == "more"
    ours.shm.close()
    ours.shm.unlink()


def test_a_taken_random_name_is_passed_over(name: str, monkeypatch: pytest.MonkeyPatch):
    names = iter([f"/{name}", f"/{name}", f"/{name}-"])
    monkeypatch.setattr(shared_memory, "_make_filename", lambda: next(names))
    blocks = [SharedMemory(create=True, size=1), SharedMemory(create=True, size=1)]
    assert [block.name for block in blocks] == [name, f"{name}-"]
    for block in blocks:
        block.close()
        block.unlink()
