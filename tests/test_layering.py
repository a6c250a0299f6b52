"""Lower floors know nothing of higher ones: the law of docs/explanation/architecture.md, read from imports and includes.

A floor's names stand in one line. In Python, those of one floor may import each other as long as that makes no circle. In the native
core they may not, except where a plus joins them. A module that is in no line has no floor yet, which is a failure: give it one.
"""

from __future__ import annotations

import ast
import graphlib
import re
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import pytest

PYTHON_FLOORS = (
    "errors, _native, _standard, _alias",
    "_runtime, _runtime.*, util",
    "reduction, resource_sharer, synchronize, heap, sharedctypes, _pickling, _pickling.*",
    "connection, _connection, _connection.*, queues, _queue_by_pipe, _queue_ends, resource_tracker, shared_memory",
    "process, _bootstrap, _main_module, popen_*, forkserver, _forkserver, _forkserver.*, spawn",
    "pool, _pool, _pool.*, dummy, dummy.*, _parmap, managers, _managers, _managers.*",
    "context, __init__",
    "cli, cli.*, __main__, _alias.*",
)

# Who may say `import multiprocessing`: what holds the standard library's for all others, what stands in its place under `shoal run`,
# and the programs that the demonstration runs on either.
DOORS = "_standard, _alias.startup.*, cli.programs.*"

NATIVE_FLOORS = (
    "os",
    "arena",
    "process",
    "object, names",
    "sync",
    "blob, stream",
    "channel+task, memory",
    "recovery",
    "watcher, bindings",
    "tests",
)

ROOT = Path(__file__).resolve().parent.parent
ARCHITECTURE = ROOT / "docs" / "explanation" / "architecture.md"


# --- Python -------------------------------------------------------------------------------------------------------------


def floor_of(name: str, floors: tuple[str, ...]) -> int | None:
    for number, line in enumerate(floors):
        if any(fnmatch(name, pattern) for pattern in line.split(", ")):
            return number
    return None


def modules_below(source: Path) -> dict[str, Path]:
    """The modules of a package by their names within it; the package itself is __init__."""
    modules = {}
    for path in sorted([*source.rglob("*.py"), *source.rglob("*.pyi")]):
        parts = path.relative_to(source).with_suffix("").parts
        name = ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)
        modules.setdefault(name, path)
    return modules


class Import(NamedTuple):
    line: int
    name: str  # full and dotted
    only_typing: bool  # under `if TYPE_CHECKING`: no circle when it runs, yet knowledge of the other module


def imports_of(path: Path, package: str, source: Path) -> list[Import]:
    """Whatever the file imports, wherever in it: in functions, for annotations, by import_module."""
    here = (package, *path.relative_to(source).parent.parts)
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    guards = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)]
    typing = {inner for guard in guards for statement in guard.body for inner in ast.walk(statement)}
    found = []
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + 1] if node.level else ()
            origin = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{origin}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in {"import_module", "__import__"} and isinstance(node.args[0].value, str):
                names = [node.args[0].value]
        found += [Import(node.lineno, name, node in typing) for name in names]
    return found


def resolve(name: str, package: str, modules: dict[str, Path]) -> str | None:
    """The module of the package that a dotted name leads into; a name which is none of its modules was taken from __init__."""
    first, *path = name.split(".")
    if first != package:
        return None
    rest = list(path)
    while rest and ".".join(rest) not in modules:
        rest.pop()
    if not rest and len(path) > 1:  # a module that is not there (yet): its floor is known all the same
        return path[0]
    return ".".join(rest) or "__init__"


def python_violations(source: Path, floors: tuple[str, ...] = PYTHON_FLOORS) -> list[str]:
    package, modules, found = source.name, modules_below(source), []
    peers: dict[str, set[str]] = {}
    for name, path in modules.items():
        floor = floor_of(name, floors)
        if floor is None:
            found.append(f"{name} has no floor: give it one in PYTHON_FLOORS and in architecture.md")
            continue
        for line, imported, only_typing in imports_of(path, package, source):
            of_standard = imported.partition(".")[0] == "multiprocessing"
            if of_standard and not only_typing and floor_of(name, (DOORS,)) is None:
                found.append(f"{name}:{line} imports {imported}: the door to the standard library is _standard")
            target = resolve(imported, package, modules)
            below = None if target is None else floor_of(target, floors)
            if target is None or below is None or target == name:
                continue
            if below > floor:
                found.append(f"{name}:{line} (floor {floor}) imports {target} (floor {below})")
            elif below == floor and not only_typing:
                peers.setdefault(name, set()).add(target)
    try:
        graphlib.TopologicalSorter(peers).prepare()
    except graphlib.CycleError as error:
        found.append("import in a circle: " + " -> ".join(error.args[1]))
    return found


# --- the native core ----------------------------------------------------------------------------------------------------

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)
OF_PYTHON = ("Python.h", "pythread.h", "nanobind/", "pybind11/", "cpython/")


def includes_of(path: Path) -> list[tuple[int, str, str]]:
    """Line, opening bracket and name."""
    text = path.read_text(encoding="utf-8")
    return [(text.count("\n", 0, match.start(1)) + 1, *match.groups()) for match in INCLUDE.finditer(text)]


def room_of(name: str, path: Path, source: Path) -> str:
    """The directory that an included file is in: named from native/, or beside the file that includes it."""
    if (path.parent / name).exists() and ".." not in name:
        return path.relative_to(source).parts[0]
    return name.partition("/")[0] if (source / name).exists() else ""


def native_floor_of(room: str, floors: tuple[str, ...]) -> tuple[int, str] | None:
    """The number of its floor, and with whom it shares it."""
    for number, line in enumerate(floors):
        for joined in line.split(", "):
            if room in joined.split("+"):
                return number, joined
    return None


def complaint(path: Path, source: Path, bracket: str, name: str, floors: tuple[str, ...]) -> str | None:
    """What is wrong with this include in this file."""
    room = path.relative_to(source).parts[0]
    if name.startswith(OF_PYTHON):
        return None if room == "bindings" else "only bindings/ knows Python"
    if bracket == "<":
        return None
    here, there = native_floor_of(room, floors), native_floor_of(room_of(name, path, source), floors)
    if there is None:
        return "which is not there (it is named from native/, or stands beside)"
    if there[0] > here[0]:
        return f"from floor {there[0]} on floor {here[0]}"
    if there[0] == here[0] and there[1] != here[1]:
        return f"its neighbour on floor {here[0]}"
    return None


def native_violations(source: Path, floors: tuple[str, ...] = NATIVE_FLOORS) -> list[str]:
    found = []
    for path in sorted(path for suffix in ("*.hpp", "*.h", "*.cpp", "*.c") for path in source.rglob(suffix)):
        short = path.relative_to(source)
        if native_floor_of(short.parts[0], floors) is None:
            found.append(f"{short} has no floor: give its directory one in NATIVE_FLOORS and in architecture.md")
            continue
        for line, bracket, name in includes_of(path):
            if wrong := complaint(path, source, bracket, name, floors):
                found.append(f"{short}:{line} includes {name}: {wrong}")
    return found


# --- the law, held ------------------------------------------------------------------------------------------------------


def test_python_modules_know_only_their_floor_and_lower_ones():
    found = python_violations(ROOT / "src" / "shoal")
    assert not found, "\n".join(found)


def test_native_files_know_only_lower_floors_and_only_bindings_know_python():
    found = native_violations(ROOT / "native")
    assert not found, "\n".join(found)


@pytest.mark.parametrize(("house", "floors"), [("native/", NATIVE_FLOORS), ("python", PYTHON_FLOORS)])
def test_the_floors_on_the_architecture_page_are_those_held_here(house, floors):
    page = ARCHITECTURE.read_text(encoding="utf-8").partition("## Floors")[2]
    block = re.search(rf"^    {house} +(.*?)(?=^    \w|^\S|\Z)", page, re.MULTILINE | re.DOTALL)
    assert block, f"no line for {house} under Floors"
    for line in block[1].split("<"):
        names, number = re.fullmatch(r"\s*(.+?)\s+P?(\d+)\s*", line, re.DOTALL).groups()
        for name in names.split(", "):
            assert name in floors[int(number)].split(", "), f"{name} stands on floor {number} of the page"


# --- and shown to bite --------------------------------------------------------------------------------------------------


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


def test_a_python_house_in_order_passes(tmp_path):
    house = write(
        tmp_path / "shoal",
        {
            "errors.py": "import os\n",
            "_standard.py": "import multiprocessing.process\n",
            "queues.py": "from . import synchronize\nfrom .connection import Pipe\nfrom shoal.errors import ShoalError\n",
            "connection.py": "if TYPE_CHECKING:\n    from multiprocessing import connection\n    from .queues import Queue\n",
            "synchronize.py": "",
            "_pool/__init__.py": "from . import ledger\nfrom .ledger import Ledger\nfrom ..queues import Queue\n",
            "_pool/ledger.py": "",
            "__init__.py": "from .queues import Queue\n",
            "cli.py": "import shoal\nfrom shoal import Queue\n",
        },
    )
    assert python_violations(house) == []


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"errors.py": "import shoal.pool\n", "pool.py": ""}, "errors:1 .* imports pool"),
        ({"errors.py": "from shoal import pool\n", "pool.py": ""}, "errors:1 .* imports pool"),
        ({"errors.py": "from .pool import Pool\n", "pool.py": ""}, "errors:1 .* imports pool"),
        ({"errors.py": "def f():\n    from . import pool\n", "pool.py": ""}, "errors:2 .* imports pool"),
        ({"errors.py": "if TYPE_CHECKING:\n    from .pool import Pool\n", "pool.py": ""}, "errors:2 .* imports pool"),
        ({"errors.py": "importlib.import_module('shoal.pool')\n", "pool.py": ""}, "errors:1 .* imports pool"),
        ({"_runtime/fork.py": "from ..pool import Pool\n", "pool.py": ""}, "_runtime.fork:1 .* imports pool"),
        ({"_native.pyi": "from shoal.pool import Pool\n", "pool.py": ""}, "_native:1 .* imports pool"),
        ({"errors.py": "from shoal.pool import Pool\n"}, "errors:1 .* imports pool"),
        ({"pool.py": "from . import Queue\n", "__init__.py": ""}, "pool:1 .* imports __init__"),
        ({"pool.py": "import shoal\n", "__init__.py": ""}, "pool:1 .* imports __init__"),
        ({"helpers.py": ""}, "helpers has no floor"),
        ({"spawn.py": "from . import process\n", "process.py": "from . import spawn\n"}, "circle"),
        ({"queues.py": "def f():\n    import multiprocessing.queues\n"}, "queues:2 .* _standard"),
        ({"queues.py": "from multiprocessing import queues\n"}, "queues:1 .* _standard"),
    ],
)
def test_a_python_house_out_of_order_is_caught(tmp_path, files, complaint):
    (found,) = python_violations(write(tmp_path / "shoal", files))
    assert re.search(complaint, found)


def test_a_native_house_in_order_passes(tmp_path):
    house = write(
        tmp_path,
        {
            "os/futex.hpp": "#include <linux/futex.h>\n",
            "blob/blob.hpp": '#include "os/futex.hpp"\n',
            "channel/ring.hpp": "",
            "channel/ring.cpp": '#include "ring.hpp"\n#include "blob/blob.hpp"\n',
            "object/object.hpp": "",
            "bindings/module.cpp": '#include <Python.h>\n#include <nanobind/nanobind.h>\n#include "object/object.hpp"\n',
        },
    )
    assert native_violations(house) == []


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        (
            {"os/a.hpp": '#include "sync/b.hpp"\n', "sync/b.hpp": ""},
            "os/a.hpp:1 includes sync/b.hpp: from floor 4 on floor 0",
        ),
        (
            {"os/a.hpp": '\n#  include "../sync/b.hpp"\n', "sync/b.hpp": ""},
            "os/a.hpp:2 includes ../sync/b.hpp: .* named from native/",
        ),
        ({"watcher/a.hpp": '#include "bindings/b.hpp"\n', "bindings/b.hpp": ""}, "its neighbour on floor 8"),
        ({"sync/a.hpp": "#include <Python.h>\n"}, "only bindings/ knows Python"),
        ({"watcher/a.cpp": '#include "Python.h"\n'}, "only bindings/ knows Python"),
        ({"sync/a.hpp": "#include <nanobind/nanobind.h>\n"}, "only bindings/ knows Python"),
        ({"helpers/a.hpp": ""}, "has no floor"),
        ({"a.hpp": ""}, "has no floor"),
        ({"sync/a.hpp": '#include "nowhere.hpp"\n'}, "not there"),
    ],
)
def test_a_native_house_out_of_order_is_caught(tmp_path, files, complaint):
    (found,) = native_violations(write(tmp_path, files))
    assert re.search(complaint, found)
