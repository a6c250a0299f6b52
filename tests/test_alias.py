"""Under `shoal run`, `multiprocessing` means shoal: in the program and in whatever it starts, and nowhere else.

Each test writes a program, runs it in a fresh interpreter through `shoal run`, and reads the JSON that it prints.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import venv
from pathlib import Path
from typing import Any

import pytest

from shoal import _alias

SECONDS = 60
METHODS = ["fork", "spawn", "forkserver"]

WHO = """
import json, multiprocessing, os, subprocess, sys

def who():
    context = multiprocessing.get_context()
    return {
        "process": multiprocessing.Process.__module__.partition(".")[0],
        "context": type(context).__module__.partition(".")[0],
        "current": [cls.__module__.partition(".")[0] for cls in type(multiprocessing.current_process()).__mro__],
        "pid": os.getpid(),
    }
"""


def run(place: Path, program: str, *arguments: str, **more: str) -> Any:
    """Run a program through `shoal run`; return what it printed on its last line, from JSON."""
    done = run_python(place, WHO + textwrap.dedent(program), "-m", "shoal", "run", arguments=arguments, **more)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def run_python(
    place: Path, program: str, *options: str, arguments: tuple[str, ...] = (), **more: str
) -> subprocess.CompletedProcess[str]:
    """Run a program with these interpreter options."""
    file = place / "program.py"
    file.write_text(program)
    return subprocess.run(
        [sys.executable, *options, str(file), *arguments],
        env=dict(os.environ) | more,
        cwd=place,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_child_of_each_start_method_sees_shoal(tmp_path: Path, method: str) -> None:
    found = run(
        tmp_path,
        """
        def child(pipe):
            pipe.send(who())

        if __name__ == "__main__":
            context = multiprocessing.get_context(sys.argv[1])
            ours, theirs = context.Pipe()
            process = context.Process(target=child, args=(theirs,))
            process.start()
            theirs.close()
            result = ours.recv()
            process.join()
            print(json.dumps([os.getpid(), process.exitcode, result]))
        """,
        method,
    )
    pid, status, child = found
    assert status == 0
    assert child["pid"] != pid
    assert child["process"] == child["context"] == child["current"][0] == "shoal"


@pytest.mark.parametrize("method", METHODS)
def test_a_childs_child_and_its_interpreters_too(tmp_path: Path, method: str) -> None:
    found = run(
        tmp_path,
        """
        def grandchild(pipe):
            code = "import multiprocessing; print(multiprocessing.Process.__module__)"
            pipe.send([who()["process"], subprocess.check_output([sys.executable, "-c", code], text=True).partition(".")[0].strip()])

        def child(method, pipe):
            process = multiprocessing.get_context(method).Process(target=grandchild, args=(pipe,))
            process.start()
            process.join()

        if __name__ == "__main__":
            context = multiprocessing.get_context(sys.argv[1])
            ours, theirs = context.Pipe()
            process = context.Process(target=child, args=(sys.argv[1], theirs))
            process.start()
            theirs.close()
            print(json.dumps(ours.recv()))
            process.join()
        """,
        method,
    )
    assert found == ["shoal", "shoal"]


@pytest.mark.parametrize("method", METHODS)
def test_a_child_is_on_shoal_although_the_program_cleared_the_environment(tmp_path: Path, method: str) -> None:
    found = run(
        tmp_path,
        """
        def child(pipe):
            pipe.send(who()["process"])

        if __name__ == "__main__":
            path = os.environ["PYTHONPATH"].split(os.pathsep)
            os.environ["PYTHONPATH"] = os.pathsep.join(path[1:])
            context = multiprocessing.get_context(sys.argv[1])
            ours, theirs = context.Pipe()
            process = context.Process(target=child, args=(theirs,))
            process.start()
            theirs.close()
            print(json.dumps(ours.recv()))
            process.join()
        """,
        method,
    )
    assert found == "shoal"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], "shoal"),
        (["-s"], "shoal"),
        (["-I"], "multiprocessing"),
        (["-E"], "multiprocessing"),
        (["-S"], "multiprocessing"),
    ],
    ids=repr,
)
def test_interpreters_are_included_if_they_take_the_environment(
    tmp_path: Path, options: list[str], expected: str
) -> None:
    found = run(
        tmp_path,
        """
        code = "import multiprocessing; print(multiprocessing.Process.__module__)"
        print(json.dumps(subprocess.check_output([sys.executable, *sys.argv[1:], "-c", code], text=True).strip()))
        """,
        *options,
    )
    assert found.partition(".")[0] == expected


@pytest.mark.parametrize(
    "statement",
    [
        "import multiprocessing.pool; found = multiprocessing.pool.Pool",
        "from multiprocessing.pool import Pool as found",
        "from multiprocessing import pool; found = pool.Pool",
        "import importlib; found = importlib.import_module('multiprocessing.pool').Pool",
        "import multiprocessing as mp, multiprocessing.connection; found = mp.connection.Pipe",
        "from multiprocessing.connection import Connection as found",
        "from multiprocessing import *; found = Process",
        "from multiprocessing.context import Process as found",
        "from multiprocessing.queues import Queue as found",
        "from multiprocessing.synchronize import Lock as found",
    ],
)
def test_every_way_to_import_leads_to_shoal(tmp_path: Path, statement: str) -> None:
    assert run(tmp_path, f"{statement}\nprint(json.dumps(found.__module__))").partition(".")[0] == "shoal"


def test_the_modules_are_shoals_own(tmp_path: Path) -> None:
    found = run(
        tmp_path,
        """
        import importlib, shoal, shoal.connection, multiprocessing.connection, multiprocessing.util, multiprocessing.managers
        spec = multiprocessing.__spec__
        print(json.dumps({
            "connection": multiprocessing.connection is shoal.connection is sys.modules["multiprocessing.connection"],
            "process": multiprocessing.Process is shoal.Process,
            "names": [multiprocessing.__name__, spec.name, spec.parent, multiprocessing.__package__],
            "file": multiprocessing.__file__ == spec.origin == shoal.__file__,
            "all": sorted(multiprocessing.__all__) == sorted(shoal.__all__),
            "found": importlib.util.find_spec("multiprocessing.connection").origin == shoal.connection.__file__,
            "nowhere": importlib.util.find_spec("multiprocessing.nowhere"),
            "managers": multiprocessing.managers.BaseManager.__module__,
        }))
        """,
    )
    assert found == {
        "connection": True,
        "process": True,
        "names": ["multiprocessing"] * 4,
        "file": True,
        "all": True,
        "found": True,
        "nowhere": None,
        "managers": found["managers"],
    }
    assert found["managers"] in {"multiprocessing.managers", "shoal.managers"}


def test_shoal_and_the_standard_library_are_one_family(tmp_path: Path) -> None:
    found = run(
        tmp_path,
        """
        import multiprocessing.context, multiprocessing.process, shoal
        from shoal import _standard
        class Mine(multiprocessing.Process):
            pass
        print(json.dumps([
            issubclass(Mine, _standard.process.BaseProcess),
            issubclass(Mine, multiprocessing.process.BaseProcess),
            isinstance(multiprocessing.get_context("spawn"), _standard.context.BaseContext),
            multiprocessing.TimeoutError is _standard.context.TimeoutError,
            multiprocessing.current_process() is _standard.process.current_process(),
            _standard.package is not multiprocessing,
        ]))
        """,
    )
    assert found == [True] * 6


@pytest.mark.parametrize(
    "statement", ["import multiprocessing.nowhere", "from multiprocessing import nowhere", "multiprocessing.nowhere"]
)
def test_what_neither_has_is_the_usual_error(tmp_path: Path, statement: str) -> None:
    program = f"import multiprocessing\ntry:\n    {statement}\nexcept Exception as error:\n    print(repr(error).partition(' (')[0])"
    plain, on_shoal = run_python(tmp_path, program), run_python(tmp_path, program, "-m", "shoal", "run")
    assert (on_shoal.returncode, on_shoal.stdout) == (plain.returncode, plain.stdout)


@pytest.mark.parametrize("method", METHODS)
def test_pickles_travel_between_the_processes(tmp_path: Path, method: str) -> None:
    found = run(
        tmp_path,
        """
        import pickle
        import multiprocessing.managers, multiprocessing.process

        THINGS = [multiprocessing.TimeoutError("late"), multiprocessing.Process, multiprocessing.managers.RemoteError, multiprocessing.process.BaseProcess,
                  multiprocessing.process.AuthenticationString, multiprocessing.current_process]

        def child(pipe):
            data = pipe.recv_bytes()
            same = [type(found) is type(thing) if isinstance(thing, Exception) else found is thing for found, thing in zip(pickle.loads(data), THINGS)]
            pipe.send((same, pickle.dumps(THINGS)))

        if __name__ == "__main__":
            context = multiprocessing.get_context(sys.argv[1])
            ours, theirs = context.Pipe()
            process = context.Process(target=child, args=(theirs,))
            process.start()
            theirs.close()
            ours.send_bytes(pickle.dumps(THINGS))
            same, back = ours.recv()
            process.join()
            print(json.dumps([same, [str(thing) for thing in pickle.loads(back)] == [str(thing) for thing in THINGS]]))
        """,
        method,
    )
    assert found == [[True] * 6, True]


@pytest.mark.parametrize("method", METHODS)
def test_the_executor_of_concurrent_futures_runs_on_shoal(tmp_path: Path, method: str) -> None:
    found = run(
        tmp_path,
        """
        from concurrent.futures import ProcessPoolExecutor

        def work(x):
            return x * x, who()["process"]

        if __name__ == "__main__":
            with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(sys.argv[1])) as executor:
                print(json.dumps(list(executor.map(work, range(4)))))
        """,
        method,
    )
    assert found == [[x * x, "shoal"] for x in range(4)]


def test_standard_parts_that_shoal_lacks_work(tmp_path: Path) -> None:
    found = run(
        tmp_path,
        """
        from multiprocessing.dummy import Pool as Threads

        if __name__ == "__main__":
            with Threads(2) as threads:
                squares = threads.map(lambda x: x * x, range(3))
            with multiprocessing.Manager() as manager:
                shared = manager.list([1, 2])
                shared.append(3)
                print(json.dumps([squares, list(shared), multiprocessing.Value("i", 7).value]))
        """,
    )
    assert found == [[0, 1, 4], [1, 2, 3], 7]


def test_an_interpreter_that_cannot_import_shoal_has_the_standard_library(tmp_path: Path) -> None:
    venv.create(tmp_path / "other", symlinks=True)
    code = "import multiprocessing.pool as m, sys; print(m.Pool.__module__, m.__name__, [n for n in sys.modules if 'shoal' in n or n.startswith('_standard')])"
    done = subprocess.run(
        [str(tmp_path / "other" / "bin" / "python"), "-c", code],
        env={"PYTHONPATH": _alias.STARTUP},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("multiprocessing.pool multiprocessing.pool")
    assert "'shoal" not in done.stdout
    assert "_standard" not in done.stdout


@pytest.mark.parametrize(
    "reason",
    [
        "raise ImportError('no native module for this interpreter')",
        "import a_missing_dependency",
        "from shoal import _standard, a_missing_part",
    ],
)
def test_where_the_import_of_shoal_fails_nothing_of_it_is_left(tmp_path: Path, reason: str) -> None:
    fake = tmp_path / "fake" / "shoal"
    fake.mkdir(parents=True)
    (fake / "__init__.py").write_text(reason)
    (fake / "_native.py").write_text("")
    (fake / "_standard.py").write_text("import _standard_multiprocessing.context, _standard_multiprocessing.pool")
    code = """
import multiprocessing, sys, pickle, multiprocessing.pool
left = [name for name in sys.modules if name.partition(".")[0] in {"shoal", "_standard_multiprocessing"}]
print(left, multiprocessing.__spec__.origin == multiprocessing.__file__, pickle.loads(pickle.dumps(multiprocessing.TimeoutError)).__module__)
print(multiprocessing.__file__.endswith("multiprocessing/__init__.py"), sys.modules["multiprocessing"] is multiprocessing)
"""
    file = tmp_path / "program.py"
    file.write_text(code)
    done = subprocess.run(
        [sys.executable, str(file)],
        env={"PYTHONPATH": os.pathsep.join([_alias.STARTUP, str(tmp_path / "fake")])},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["[] True multiprocessing.context", "True True"]


@pytest.mark.parametrize(
    "text",
    [
        "print('mine', __file__)",
        "import sys; sys.path.append('/there')",
        "raise ValueError('mine')",
        "import missing_for_mine",
    ],
)
def test_the_users_own_sitecustomize_is_run_as_ever(tmp_path: Path, text: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(text)
    code = "import sys; print(sys.path, sys.modules.get('sitecustomize'))"
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    plain = run_python(tmp_path, code, PYTHONPATH=path)
    on_shoal = run_python(tmp_path, code, **_alias.environment({"PYTHONPATH": path}))
    assert (on_shoal.returncode, on_shoal.stdout, on_shoal.stderr) == (plain.returncode, plain.stdout, plain.stderr)


def test_the_users_own_sitecustomize_sees_shoal(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import multiprocessing; print(multiprocessing.Process.__module__)")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    assert run_python(tmp_path, "", **_alias.environment({"PYTHONPATH": path})).stdout.startswith("shoal")


def test_what_was_imported_before_the_alias_stays_what_it_is() -> None:
    code = """
import multiprocessing, multiprocessing.pool, pickle, sys
early, process = multiprocessing, multiprocessing.current_process()
from shoal import _alias
assert not _alias.active()
_alias.install()
_alias.install()
assert _alias.active()
import multiprocessing
from shoal import _standard
import multiprocessing.managers
assert multiprocessing is not early and _standard.package is early
assert multiprocessing.Process.__module__.startswith("shoal"), multiprocessing.Process
assert multiprocessing.current_process() is process
assert pickle.loads(pickle.dumps(early.TimeoutError)) is multiprocessing.TimeoutError is early.TimeoutError
assert pickle.loads(pickle.dumps(_standard.pool.Pool)) is _standard.pool.Pool
assert early.Manager().list([1])[0] == 1
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=_alias.plain_environment(os.environ),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_an_environment_gets_the_alias_once_and_loses_it_without_a_trace() -> None:
    for before in ({}, {"PYTHONPATH": "/a"}, {"PYTHONPATH": "/a::/b"}, {"PYTHONPATH": "", "HOME": "/"}):
        once = _alias.environment(before)
        assert once["PYTHONPATH"].split(os.pathsep).count(_alias.STARTUP) == 1
        assert _alias.environment(once) == once
        assert _alias.plain_environment(once) == {key: value for key, value in before.items() if value}


def test_a_program_that_does_not_use_it_pays_next_to_nothing(tmp_path: Path) -> None:
    code = "import sys; print(len(sys.modules), [name for name in sys.modules if 'shoal' in name or 'multiprocessing' in name])"
    plain, on_shoal = run_python(tmp_path, code), run_python(tmp_path, code, "-m", "shoal", "run")
    count, names = on_shoal.stdout.split(maxsplit=1)
    assert names.strip() == "['_shoal_alias']"
    assert int(count) == int(plain.stdout.split()[0]) + 1


def test_threads_may_import_both_at_once(tmp_path: Path) -> None:
    found = run_python(
        tmp_path,
        """
import importlib, sys, threading
NAMES = ["multiprocessing", "shoal", "multiprocessing.connection", "multiprocessing.managers", "multiprocessing.context", "multiprocessing.util"]
barrier, errors = threading.Barrier(len(NAMES)), []
sys.setswitchinterval(1e-5)
def load(name):
    barrier.wait()
    try:
        importlib.import_module(name)
    except BaseException as error:
        errors.append((name, repr(error)))
threads = [threading.Thread(target=load, args=(name,)) for name in NAMES]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
import multiprocessing, shoal
print(errors, multiprocessing.Process is shoal.Process, sys.modules["multiprocessing.context"] is sys.modules["shoal.context"])
""",
        "-m",
        "shoal",
        "run",
    )
    assert (found.stdout, found.stderr) == ("[] True True\n", "")


@pytest.mark.parametrize("method", METHODS)
def test_the_start_method_holds_for_standard_parts_made_without_a_context(tmp_path: Path, method: str) -> None:
    found = run(
        tmp_path,
        """
        from multiprocessing.managers import BaseManager

        class Mine(BaseManager):
            pass

        Mine.register("who", callable=who)

        if __name__ == "__main__":
            multiprocessing.set_start_method(sys.argv[1])
            with Mine() as manager:
                print(json.dumps([type(manager._process).__name__, type(manager._process).__module__.partition(".")[0]]))
        """,
        method,
    )
    assert found == [
        {"fork": "ForkProcess", "spawn": "SpawnProcess", "forkserver": "ForkServerProcess"}[method],
        "shoal",
    ]
