"""What is measured: the standard library, shoal, and the rivals.

A backend gives, for a start method, an object with the names of a ``multiprocessing`` context, as far as it offers
them. Rivals whose interface differs come through ``benchmarks.adapters``.
"""

from __future__ import annotations

import enum
import importlib
import importlib.metadata
import importlib.util
import platform
from dataclasses import dataclass
from typing import Any


class Feature(enum.Flag):
    """What a row needs and a backend offers."""

    QUEUE = enum.auto()
    PIPE = enum.auto()
    SYNCHRONIZE = enum.auto()
    PROCESS = enum.auto()
    LISTENER = enum.auto()
    APPLY = enum.auto()
    MAP = enum.auto()
    CHUNKED_MAP = enum.auto()  # chooses the chunks itself
    IMAP_UNORDERED = enum.auto()
    PARMAP = enum.auto()  # a map without a pool to keep: in one line, or with a pool made for it
    MANAGER = enum.auto()
    MANAGER_MAKES = enum.auto()  # objects, one after the other, on demand
    NAMED_MEMORY = enum.auto()
    SHARED_CTYPES = enum.auto()
    THREADS = enum.auto()  # pools of threads
    POOL = APPLY | MAP | CHUNKED_MAP | IMAP_UNORDERED
    EVERYTHING = (
        QUEUE
        | PIPE
        | SYNCHRONIZE
        | PROCESS
        | LISTENER
        | POOL
        | PARMAP
        | NAMED_MEMORY
        | SHARED_CTYPES
        | MANAGER
        | MANAGER_MAKES
        | THREADS
    )


@dataclass(frozen=True)
class Backend:
    """One side of a comparison.

    Attributes:
        name: What the table calls it.
        module: What a program imports.
        offers: What there is to measure.
        adapter: The class in ``benchmarks.adapters`` that stands in for a context; None where the module has contexts itself.
        distribution: The name on the package index; None for the standard library.
    """

    name: str
    module: str
    offers: Feature
    adapter: str | None = None
    distribution: str | None = None

    def context(self, method: str = "fork") -> Any:
        """An object with the names of a ``multiprocessing`` context."""
        if self.adapter is None:
            return importlib.import_module(self.module).get_context(method)
        return getattr(importlib.import_module("benchmarks.adapters"), self.adapter)()

    def missing(self) -> str | None:
        """Why this backend cannot be measured at all, or None."""
        if importlib.util.find_spec(self.module) is None:
            return f"{self.distribution or self.module} is not installed"
        return None

    def lacks(self, needs: Feature) -> str | None:
        """Why this backend has nothing to set against a row with these needs, or None."""
        absent = needs & ~self.offers
        if not absent:
            return None
        names = ", ".join(feature.name.lower().replace("_", " ") for feature in absent if feature.name)
        return f"{self.name} has no equivalent ({names})"

    def version(self) -> str:
        """The version that is installed."""
        if self.distribution is None:
            return platform.python_version()
        try:
            return importlib.metadata.version(self.distribution)
        except importlib.metadata.PackageNotFoundError:
            return "from the source tree" if self.missing() is None else "not installed"


BACKENDS = {
    backend.name: backend
    for backend in (
        Backend("multiprocessing", "multiprocessing", Feature.EVERYTHING),
        Backend("again", "multiprocessing", Feature.EVERYTHING),
        Backend("shoal", "shoal", Feature.EVERYTHING, distribution="shoal"),
        Backend(
            "billiard",
            "billiard",
            Feature.EVERYTHING & ~(Feature.NAMED_MEMORY | Feature.THREADS),
            distribution="billiard",
        ),
        Backend("faster-fifo", "faster_fifo", Feature.QUEUE, "FasterFifo", "faster-fifo"),
        Backend("loky", "loky", Feature.APPLY | Feature.MAP | Feature.IMAP_UNORDERED, "Loky", "loky"),
        Backend("joblib", "joblib", Feature.POOL & ~Feature.APPLY, "Joblib", "joblib"),
        Backend("mpire", "mpire", Feature.POOL, "Mpire", "mpire"),
        Backend("pebble", "pebble", Feature.APPLY | Feature.MAP, "Pebble", "pebble"),
        Backend("Pyro5", "Pyro5", Feature.MANAGER, "Pyro5", "Pyro5"),
    )
}

RIVALS = ("billiard", "faster-fifo", "loky", "joblib", "mpire", "pebble", "Pyro5")
