"""``shoal run``: run a program that says ``import multiprocessing`` on shoal.

The program is run by the interpreter itself, which takes this process over (``exec``) with the alias in its environment. So everything that a
program can see of how it was started, and everything that a caller can see of how it ended, is the interpreter's own: ``sys.argv``, ``__main__``,
tracebacks, signals, exit statuses, the message for a file that does not exist. What the caller wrote after ``run`` goes to the interpreter as it
is; the options of the interpreter that runs ``shoal`` (``-X``, ``-W``, ``-O``, …) are handed on before it.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from shoal import _alias

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["command", "run"]

USAGE = """\
usage: shoal run [interpreter options] program.py [arguments]
       shoal run [interpreter options] -m module [arguments]

Runs a Python program on shoal: in it, and in every Python process that it starts
and that inherits its environment, `multiprocessing` means shoal. Everything else is
as with `python program.py`."""

WITH_VALUE = "WX"
LONG_WITH_VALUE = ("--check-hash-based-pycs",)
ENDS_OPTIONS = "cmVh?"
IGNORES_ALIAS = "EIS"


def run(arguments: Sequence[str]) -> int:
    """Let the interpreter take this process over and run a program under the alias.

    Args:
        arguments: What follows ``shoal run``: what would follow ``python``.

    Returns:
        2 if the arguments name no program or ask for what cannot be, 0 after printing the help; otherwise it does not return.
    """
    if arguments[:1] in (["-h"], ["--help"]):
        print(USAGE)
        return 0
    problem = _problem(arguments)
    if problem is not None:
        print(f"{USAGE.splitlines()[0]}\nshoal run: error: {problem}", file=sys.stderr)
        return 2
    sys.stdout.flush()
    sys.stderr.flush()
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    line = command(arguments)
    return os.execve(line[0], line, _environment())


def command(arguments: Sequence[str]) -> list[str]:
    """Return the command line that runs a program with this interpreter and the options that it was given."""
    return [sys.executable, *_read(sys.orig_argv[1:]).options, *arguments]


def _environment() -> dict[str, str]:
    """The environment with the alias; and with shoal, if it was only found because it lies in the directory where ``-m shoal`` was called."""
    environment = _alias.environment(os.environ)
    home = str(Path(__file__).resolve().parents[2])
    if not sys.flags.safe_path and sys.path[:1] == [home] and home not in sys.path[1:]:
        environment["PYTHONPATH"] += os.pathsep + home
    return environment


def _problem(arguments: Sequence[str]) -> str | None:
    """What makes it impossible to run a program on shoal with these arguments, if anything does."""
    if not sys.executable:
        return "this interpreter does not know its own path (sys.executable)"
    if sys.flags.ignore_environment or sys.flags.no_site:
        return "this interpreter runs with -E, -I or -S: the alias travels in the environment, and they ignore it"
    line = _read(arguments)
    if line.refused:
        return f"-{line.refused} cannot be used: the alias travels in the environment, and -{line.refused} ignores it"
    return None if line.names_program else "a program is missing"


class InterpreterLine(NamedTuple):
    """What an interpreter's arguments say: its options, whether they name something to do, and the first option that ignores the alias."""

    options: list[str]
    names_program: bool
    refused: str


def _read(arguments: Sequence[str]) -> InterpreterLine:
    """Read interpreter arguments as the interpreter does."""
    options: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if (
            not argument.startswith("-")
            or argument in {"-", "--"}
            or (argument.startswith("--") and argument not in LONG_WITH_VALUE)
        ):
            return InterpreterLine(options, True, "")
        needs_value = argument in LONG_WITH_VALUE
        for position, letter in enumerate("" if needs_value else argument[1:], start=1):
            if letter in IGNORES_ALIAS:
                return InterpreterLine(options, True, letter)
            if letter in ENDS_OPTIONS:
                return InterpreterLine([*options, *([argument[:position]] if position > 1 else [])], True, "")
            if letter in WITH_VALUE:
                needs_value = position == len(argument) - 1
                break
        options += [argument, *([value] if needs_value and (value := next(rest, None)) is not None else [])]
    return InterpreterLine(options, False, "")
