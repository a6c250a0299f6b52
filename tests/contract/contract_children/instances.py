"""The libraries and start methods that the contract tests run on."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext
    from types import ModuleType

PACKAGES = {"shoal": "shoal", "standard": "multiprocessing"}


@dataclass(frozen=True)
class Instance:
    """One library with one start method, or over threads."""

    library: str
    method: str

    def module(self, name: str = "") -> ModuleType:
        """The library's package, or the module of it that bears this name."""
        package = PACKAGES[self.library] + (".dummy" if self.method == "threads" else "")
        return importlib.import_module(f"{package}.{name}".rstrip("."))

    def context(self) -> BaseContext:
        return self.module() if self.method == "threads" else self.module().get_context(self.method)

    def __str__(self) -> str:
        return f"{self.library}-{self.method}"


INSTANCES = [Instance(library, method) for library in PACKAGES for method in ("fork", "spawn", "forkserver")]
THREADS = [Instance(library, "threads") for library in PACKAGES]  # the packages' `dummy`
