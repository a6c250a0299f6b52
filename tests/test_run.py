"""`shoal run` is the interpreter: what a program sees and how it ends are the same as without it.

Each case runs twice, as `python …` and as `shoal run …`, and status, output and error output must be equal.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

SECONDS = 60

PROGRAMS = {
    "main_module": """
import sys
print(__name__, __file__, __spec__, __builtins__, __package__, __doc__, sorted(vars()))
print(sys.modules["__main__"].__loader__.__class__)
""",
    "arguments": "import sys; print(sys.argv, sys.path, sys.flags, sys.warnoptions, sys._xoptions, sys.orig_argv)",
    "modules": "import sys; print('multiprocessing' in sys.modules, 'shoal' in sys.modules)",
    "error": "def inner():\n    raise ValueError('boom')\ninner()",
    "syntax_error": "def f(:\n    pass",
    "status": "import sys; sys.exit(7)",
    "message": "import sys; sys.exit('enough')",
    "no_status": "raise SystemExit",
    "abrupt": "import os; os._exit(9)",
    "interrupt": "import os, signal; os.kill(os.getpid(), signal.SIGINT); import time; time.sleep(30)",
    "killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "closed_pipe": "import signal; print(signal.getsignal(signal.SIGPIPE), signal.getsignal(signal.SIGINT))",
    "input": "print(input())",
    "with_pool": """
import multiprocessing
def square(x):
    return x * x
if __name__ == "__main__":
    with multiprocessing.Pool(2) as pool:
        print(pool.map(square, range(5)))
    raise LookupError("after the pool")
""",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the programs, a package, a directory and a zip file that can be run."""
    place = tmp_path_factory.mktemp("programs")
    for name, text in PROGRAMS.items():
        (place / f"{name}.py").write_text(text)
    package = place / "package"
    package.mkdir()
    (package / "__init__.py").write_text("print('the package')")
    (package / "__main__.py").write_text(
        "import sys; print(__name__, __package__, __spec__.name, sys.argv, sys.path[0])"
    )
    (package / "part.py").write_text("import sys; print(__name__, __package__, sys.argv); sys.exit(4)")
    (place / "directory").mkdir()
    main = "import sys; print(__name__, __file__, sys.argv, sys.path[0])"
    (place / "directory" / "__main__.py").write_text(main)
    with zipfile.ZipFile(place / "archive.zip", "w") as archive:
        archive.writestr("__main__.py", main)
    return place


def environment(**more: str) -> dict[str, str]:
    """The tests' own environment, without what would change what interpreters print."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"} | more


def ended(line: list[str], place: Path, text: str = "", **more: str) -> tuple[int, str, str]:
    """Run a command line; return its status, output and error output."""
    done = subprocess.run(
        line,
        cwd=place,
        env=environment(**more),
        input=text,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def both(
    place: Path, arguments: list[str], options: tuple[str, ...] = (), text: str = "", **more: str
) -> tuple[tuple[int, str, str], tuple[int, str, str]]:
    """Run with the interpreter, and with `shoal run`."""
    python = [sys.executable, *options]
    return ended([*python, *arguments], place, text, **more), ended(
        [*python, "-m", "shoal", "run", *arguments], place, text, **more
    )


@pytest.mark.parametrize("name", [name for name in PROGRAMS if name != "with_pool"])
def test_a_program_sees_and_does_the_same(place: Path, name: str) -> None:
    plain, on_shoal = both(place, [f"{name}.py", "-x", "--flag", "word"], text="a line\n")
    assert on_shoal == plain


@pytest.mark.parametrize(
    "arguments",
    [
        ["-m", "package", "-a", "b"],
        ["-m", "package.part", "-m", "c"],
        ["-mpackage"],
        ["directory", "1"],
        ["archive.zip", "1"],
        ["-c", "import sys; print(sys.argv, sys.path[0])", "-I"],
        ["-"],
        ["-X", "dev", "-W", "error", "arguments.py"],
        ["-OO", "arguments.py"],
        ["-Wignore", "-Xutf8", "arguments.py"],
        ["--version"],
    ],
    ids=" ".join,
)
def test_modules_directories_and_options_too(place: Path, arguments: list[str]) -> None:
    plain, on_shoal = both(place, arguments, text="print('from standard input')\n")
    assert on_shoal == plain
    assert plain[0] in {0, 4}


@pytest.mark.parametrize(
    "arguments",
    [
        ["missing.py"],
        ["-m", "missing_module"],
        ["-m", "package.missing"],
        ["-m", "missing_package.inner"],
        [""],
        ["package/part"],
        ["-m", "json.decoder.x"],
    ],
    ids=repr,
)
def test_what_does_not_exist_is_the_interpreters_own_error(place: Path, arguments: list[str]) -> None:
    plain, on_shoal = both(place, arguments)
    assert on_shoal == plain
    assert plain[0] in {1, 2}
    assert plain[2]


def test_the_interpreter_says_that_the_file_is_not_there(place: Path) -> None:
    status, output, errors = ended([sys.executable, "-m", "shoal", "run", "missing.py"], place)
    assert (status, output) == (2, "")
    assert f"can't open file '{place}/missing.py': [Errno 2] No such file or directory" in errors


@pytest.mark.parametrize(
    "options", [("-W", "error::UserWarning"), ("-X", "dev"), ("-B", "-O"), ("-s", "-P"), ("-u",)], ids=" ".join
)
def test_options_of_the_interpreter_are_handed_on(place: Path, options: tuple[str, ...]) -> None:
    program = "import sys; print(sys.flags, sys.warnoptions, sys._xoptions, sys.stdout.write_through)"
    plain, on_shoal = both(place, ["-c", program], options)
    assert on_shoal == plain


def test_the_installed_command_does_as_the_module_does(place: Path) -> None:
    (place / "shoal-command").write_text("import sys\nfrom shoal.cli import main\nsys.exit(main())\n")
    program = "import sys; print(sys.argv, sys.flags, sys.orig_argv); sys.exit(5)"
    arguments = ["-c", program, "a", "-m", "b"]
    by_command = ended([sys.executable, "-X", "dev", "-Wignore", "shoal-command", "run", *arguments], place)
    assert by_command == both(place, arguments, ("-X", "dev", "-Wignore"))[1]
    assert by_command[0] == 5


def test_a_pools_program_fails_with_its_own_traceback(place: Path) -> None:
    plain, on_shoal = both(place, ["with_pool.py"])
    assert plain[:2] == on_shoal[:2] == (1, "[0, 1, 4, 9, 16]\n")
    assert on_shoal[2] == plain[2]


def test_an_interrupted_program_dies_of_the_signal(place: Path) -> None:
    status, _, errors = ended([sys.executable, "-m", "shoal", "run", "interrupt.py"], place)
    assert status == -signal.SIGINT
    assert errors.endswith("KeyboardInterrupt\n")


@pytest.mark.parametrize("option", ["-I", "-E", "-S", "-bI"])
def test_an_option_that_would_leave_shoal_out_is_refused(place: Path, option: str) -> None:
    status, output, errors = ended([sys.executable, "-m", "shoal", "run", option, "arguments.py"], place)
    assert (status, output) == (2, "")
    assert "ignores it" in errors


def test_no_program_is_a_usage_error(place: Path) -> None:
    status, output, errors = ended([sys.executable, "-m", "shoal", "run", "-B"], place)
    assert (status, output) == (2, "")
    assert "a program is missing" in errors


def test_the_program_runs_on_shoal(place: Path) -> None:
    status, output, errors = ended(
        [
            sys.executable,
            "-m",
            "shoal",
            "run",
            "-c",
            "import multiprocessing; print(multiprocessing.Process.__module__)",
        ],
        place,
    )
    assert (status, errors) == (0, "")
    assert output.startswith("shoal")


def test_shoal_tells_its_version(place: Path) -> None:
    status, output, _ = ended([sys.executable, "-m", "shoal", "--version"], place)
    assert status == 0
    assert output.startswith("shoal ")
