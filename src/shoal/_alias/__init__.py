"""How a program that says ``import multiprocessing`` comes to run on shoal, with everything that it starts.

The alias travels in the environment: `environment` puts the directory ``startup`` at the head of PYTHONPATH, and ``sitecustomize`` in it
puts a finder in ``sys.meta_path`` when an interpreter starts (see ``startup/_shoal_alias.py``, which does the work). So it reaches whatever inherits the
environment, whoever started it and how; and it does not reach interpreters that are told to ignore the environment (``-E``, ``-I``) or
``site`` (``-S``). For a child whose environment the program has cleared, shoal's own start methods pass `active` on and call `install`.

This package is in nobody's way: nothing here is imported by ``import shoal``.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

__all__ = ["STARTUP", "active", "environment", "install", "plain_environment"]

STARTUP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "startup")
MODULE = "_shoal_alias"


def environment(base: Mapping[str, str]) -> dict[str, str]:
    """Return a copy of an environment in which interpreters start with the alias."""
    plain = plain_environment(base)
    paths = [STARTUP, plain["PYTHONPATH"]] if plain.get("PYTHONPATH") else [STARTUP]
    return {**plain, "PYTHONPATH": os.pathsep.join(paths)}


def plain_environment(base: Mapping[str, str]) -> dict[str, str]:
    """Return a copy of an environment in which interpreters start without the alias."""
    plain = dict(base)
    before = plain.get("PYTHONPATH", "").split(os.pathsep)
    after = [path for path in before if path != STARTUP]
    if after != before:
        plain["PYTHONPATH"] = os.pathsep.join(after)
    if not after:
        del plain["PYTHONPATH"]
    return plain


def active() -> bool:
    """Tell whether ``multiprocessing`` means shoal in this interpreter."""
    return MODULE in sys.modules and bool(_finder_module().active())


def install() -> None:
    """Make ``multiprocessing`` mean shoal from now on, in this interpreter. A second call does nothing."""
    _finder_module().install()


def _finder_module() -> ModuleType:
    """The one module that holds the finder, loaded as it is when the interpreter's start-up loads it."""
    if MODULE not in sys.modules:
        sys.path.insert(0, STARTUP)
        try:
            __import__(MODULE)
        finally:
            sys.path.remove(STARTUP)
    return sys.modules[MODULE]
