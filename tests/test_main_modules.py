"""Where a program can come from, if it is no plain script: under each start method its children have what its ``__main__`` defines, its lambdas too."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

METHODS = ("fork", "spawn", "forkserver")
SECONDS = 50

# Typed at a prompt, a block ends with an empty line, and has none within.
SQUARE = """
def square(x):
    return x * x

"""
DEFINITIONS = f"""
import shoal
{SQUARE}
class Point:
    def __init__(self, x):
        self.x = x

def moved(point, by=1):
    return Point(square(point.x) + by)

def make_adder(number):
    return lambda x: x + number + square(1)

"""
USE = """
mp = shoal.get_context("METHOD")
queue = mp.SimpleQueue()
process = mp.Process(target=lambda queue: queue.put(moved(Point(1))), args=(queue,))
process.start()
print("queue", queue.get().x)
process.join()
print("exit code", process.exitcode)
pool = mp.Pool(1)
print("pool", pool.map(square, range(3)), pool.map(make_adder(1), [1]), pool.apply(moved, (Point(3),)).x)
pool.close()
pool.join()
"""
PRINTED = ["queue 2", "exit code 0", "pool [0, 1, 4] [3] 10"]


def script(method: str) -> str:
    use = USE.replace("METHOD", method).strip().replace("\n", "\n    ")
    return f'{DEFINITIONS}if __name__ == "__main__":\n    {use}\n'


def typed(method: str) -> str:
    return DEFINITIONS + USE.replace("METHOD", method)


def as_package(place: Path, method: str) -> tuple[list[str], str]:
    package = place / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(f"from . import __name__ as mine\n{script(method)}", encoding="utf-8")
    return ["-m", "package"], ""


def as_zip_file(place: Path, method: str) -> tuple[list[str], str]:
    with zipfile.ZipFile(place / "program.pyz", "w") as archive:
        archive.writestr("__main__.py", f"import part\n{script(method)}")
        archive.writestr("part.py", "")
    return ["program.pyz"], ""


def as_argument(_place: Path, method: str) -> tuple[list[str], str]:
    return ["-c", typed(method)], ""


def as_standard_input(_place: Path, method: str) -> tuple[list[str], str]:
    return ["-"], typed(method)


def at_the_prompt(_place: Path, method: str) -> tuple[list[str], str]:
    return ["-i", "-q"], typed(method)


def at_the_prompt_after_a_script(place: Path, method: str) -> tuple[list[str], str]:
    (place / "program.py").write_text(DEFINITIONS.replace(SQUARE, ""), encoding="utf-8")
    return ["-i", "-q", "program.py"], SQUARE + USE.replace("METHOD", method)


def as_notebook(place: Path, method: str) -> tuple[list[str], str]:
    """What IPython's kernel does: a `__main__` of its own making, without a file, and cells that are run in it."""
    (place / "kernel.py").write_text(
        "import sys, types\n"
        "def run(cells):\n"
        "    main = sys.modules['__main__'] = types.ModuleType('__main__')\n"
        "    for number, cell in enumerate(cells):\n"
        "        exec(compile(cell, f'<ipython-input-{number}>', 'exec'), vars(main))\n",
        encoding="utf-8",
    )
    return ["-c", f"import kernel; kernel.run({[DEFINITIONS, USE.replace('METHOD', method)]!r})"], ""


WAYS = (
    as_package,
    as_zip_file,
    as_argument,
    as_standard_input,
    at_the_prompt,
    at_the_prompt_after_a_script,
    as_notebook,
)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_children_have_what_the_main_module_defines(tmp_path: Path, way, method: str):
    arguments, text = way(tmp_path, method)
    done = subprocess.run(
        [sys.executable, *arguments],
        input=text,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (done.stdout.splitlines(), done.returncode) == (PRINTED, 0), done.stderr
    assert done.stderr.replace(">>> ", "").replace("... ", "").strip() == ""
