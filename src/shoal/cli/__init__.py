"""The command ``shoal``: ``shoal run``, ``shoal demo`` and ``shoal certs``.

This module only decides who is to act. What prints tables is imported when it is needed, so that ``shoal run`` costs little.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

DESCRIPTION = "Process-based parallelism for Python: what multiprocessing does, faster, and unable to hang."


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command.

    Args:
        arguments: What follows the command's name; ``sys.argv[1:]`` if it is None.

    Returns:
        The exit status. ``run`` does not return if the program can be started: the interpreter takes this process over.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments[:1] == ["run"]:
        from shoal.cli.run import run

        return run(arguments[1:])
    parser, certs_parser = _parsers()
    if arguments[:1] == ["certs"]:
        from shoal.cli.certs import certs

        options = certs_parser.parse_intermixed_args(arguments[1:])  # `certs DIR --days 10 MACHINE`, in any order
        return certs(options.directory, options.machines, days=options.days, replace=options.replace)
    options = parser.parse_args(arguments)
    if options.command == "demo":
        from shoal.cli.demo import demo

        return demo(as_json=options.json, quick=options.quick)
    parser.print_help()
    return 2


def _parsers() -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """That of the command, and that of ``shoal certs``."""
    parser = argparse.ArgumentParser(prog="shoal", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"shoal {_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("run", help="run a program that says `import multiprocessing` on shoal", add_help=False)
    demo = commands.add_parser(
        "demo",
        help="run two programs on the standard library and on shoal, side by side",
        description="Run two programs that say `import multiprocessing`, as they are and through `shoal run`, and compare.",
    )
    demo.add_argument("--json", action="store_true", help="print the results as JSON instead of a table")
    demo.add_argument("--quick", action="store_true", help="do a small part of the work: a few seconds in all")
    certs = commands.add_parser(
        "certs",
        help="make a certificate authority and certificates for TLS between machines",
        description="Make a small certificate authority (once) and a certificate for each machine, for shoal.TLS(cert, key, ca).",
    )
    certs.add_argument(
        "directory", metavar="DIR", type=Path, help="where the files go; an authority that is there is used"
    )
    certs.add_argument(
        "machines",
        metavar="MACHINE",
        nargs="*",
        help="names and IP addresses of a machine, joined by commas (alpha,alpha.lan,10.0.0.5); none: this machine",
    )
    certs.add_argument("--days", type=int, default=825, help="how long the certificates are valid (default: 825)")
    certs.add_argument("--replace", action="store_true", help="replace certificates that are there")
    return parser, certs


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("shoal")
    except PackageNotFoundError:
        return "(not installed)"
