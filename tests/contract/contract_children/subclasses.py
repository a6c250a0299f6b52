"""Subclasses of what a context makes that say how they are pickled, once for each library."""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from contract_children.instances import PACKAGES

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext

TAGGED = {
    "queues": ["Queue", "SimpleQueue", "JoinableQueue"],
    "synchronize": ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Barrier"],
}


class Tagged:
    """Comes before the library's class, and adds to its state."""

    tag: str

    def __getstate__(self) -> dict[str, Any]:
        return {"parent_state": super().__getstate__(), "tag": self.tag}

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.tag = state["tag"]
            state = state["parent_state"]
        super().__setstate__(state)  # type: ignore[misc]  # the standard barrier's __init__ calls this, too


def _subclasses_of(package: str, name: str) -> SimpleNamespace:
    queues: Any = importlib.import_module(f"{package}.queues")
    synchronize: Any = importlib.import_module(f"{package}.synchronize")

    class SizedQueue(queues.Queue):
        """The recipe for a `qsize` on every platform that many programs have copied."""

        def __init__(self, ctx: BaseContext) -> None:
            super().__init__(ctx=ctx)
            self.size = ctx.Value("i", 0)

        def __getstate__(self) -> dict[str, Any]:
            return {"parent_state": super().__getstate__(), "size": self.size}

        def __setstate__(self, state: dict[str, Any]) -> None:
            super().__setstate__(state["parent_state"])
            self.size = state["size"]

        def put(self, *args: Any, **kwargs: Any) -> None:
            super().put(*args, **kwargs)
            with self.size:
                self.size.value += 1

        def qsize(self) -> int:
            return self.size.value

    class NamedEvent(synchronize.Event):
        """An attribute that travels, and one that cannot."""

        def __init__(self, ctx: BaseContext, tag: str) -> None:
            super().__init__(ctx=ctx)
            self.tag = tag

    class FrugalEvent(NamedEvent):
        def __getstate__(self) -> dict[str, Any]:
            state = self.__dict__.copy()
            state.pop("unpicklable", None)
            return state

    found = [SizedQueue, NamedEvent, FrugalEvent]
    for module, names in ((queues, TAGGED["queues"]), (synchronize, TAGGED["synchronize"])):
        found += [type(name, (Tagged, getattr(module, name)), {}) for name in names]
    for cls in found:
        cls.__module__, cls.__qualname__ = __name__, f"{name}.{cls.__name__}"
    return SimpleNamespace(**{cls.__name__: cls for cls in found})


shoal, standard = (_subclasses_of(package, name) for name, package in PACKAGES.items())


def attributes_of(held: SimpleNamespace) -> dict[str, Any]:
    return {name: getattr(held.thing, name) for name in ("tag", "unpicklable") if hasattr(held.thing, name)}
