"""The objects of a server: what they are called, and who still refers to them.

An *ident* is ``<number>-<server>``, unique among all servers; or ``=<typeid>`` for an object that the server can find again by name: its registered callable
takes no arguments and returned something that others hold as well, as in ``register("get_queue", callable=lambda: queue)``. Such an ident holds in
any server that has that name registered, so proxies survive a restart.

References of shoal's clients are counted per client, and go when its last connection does. Those of a standard client are counted as it says.
"""

from __future__ import annotations

import itertools
import secrets
import sys
import threading
import weakref

from shoal._managers.words import public_methods

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["BY_NAME", "Holder", "Objects"]

BY_NAME = "="


class Holder:
    """A client process, as the server knows it.

    Attributes:
        held: how many references it has been given, by ident.
        sessions: how many connections it has.
        connected: those that are served.
        keeper: the one of them that lasts as long as the client.
        left_well: it has said that it ends.

    Args:
        client: its name for itself; it keeps it when it connects anew.
    """

    __slots__ = ("client", "connected", "held", "keeper", "left_well", "sessions")

    def __init__(self, client: str) -> None:
        self.client = client
        self.held: dict[str, int] = {}
        self.sessions = 0
        self.connected: set[Any] = set()
        self.keeper: Any = None
        self.left_well = False


class Objects:
    """The table. All methods may be called from any thread.

    Attributes:
        entries: by ident: the object, the names of its exposed methods, and its method_to_typeid.
        counts: references from outside, by ident.
        owned: the entries of objects that something in the server itself holds a proxy of.
    """

    def __init__(self, registry: dict[str, Any]) -> None:
        self.registry = registry
        self.instance = secrets.token_hex(8)
        self.mutex = threading.RLock()
        self.entries: dict[str, tuple[Any, Any, Any]] = {"0": (None, (), None)}
        self.counts: dict[str, int] = {}
        self.owned: dict[str, tuple[Any, Any, Any]] = {}
        self._owners: dict[str, int] = {}
        # Parts of nested containers that somebody has been told of: they live as long as their tree, or a reference.
        self._lent: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
        self._idents: dict[int, str] = {}  # of objects that are in the table, by id()
        self._numbers = itertools.count(1)
        self._holders: dict[str, Holder] = {}
        self._making = {typeid: threading.RLock() for typeid in registry}

    def create(self, typeid: str, args: tuple[Any, ...], kwds: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
        """Make an object, and enter it; nobody refers to it yet.

        Raises:
            KeyError: if no such type is registered.
            ValueError: if the type has no callable, and the arguments are not one object.
            Exception: whatever the callable raises.
        """
        callable_, exposed, method_to_typeid, _ = self.registry[typeid]
        named = False
        if callable_ is None:
            if kwds or len(args) != 1:
                raise ValueError("Without callable, must have one non-keyword argument")
            obj = args[0]
        else:
            with self._making[typeid]:  # a callable need not stand being called by two threads at once
                obj, references = _called(callable_, args, kwds)
            named = references > _REFERENCES_OF_NEW and not (args or kwds or isinstance(callable_, type))
        if exposed is None:
            exposed = public_methods(obj)
        if method_to_typeid is not None:
            if not isinstance(method_to_typeid, dict):
                raise TypeError(f"Method_to_typeid {method_to_typeid!r}: type {type(method_to_typeid)!s}, not dict")
            exposed = [*exposed, *method_to_typeid]
        return self.enter(obj, exposed, method_to_typeid, f"{BY_NAME}{typeid}" if named else None), tuple(exposed)

    def enter(self, obj: Any, exposed: Any, method_to_typeid: Any, ident: str | None = None) -> str:
        """Give an object an ident, unless it has one."""
        with self.mutex:
            ident = (
                self._idents.get(id(obj))
                or getattr(obj, "shared_ident", None)
                or ident
                or f"{next(self._numbers):x}-{self.instance}"
            )
            self._idents[id(obj)] = ident
            self.entries[ident] = (obj, frozenset(exposed), method_to_typeid)
            self.counts.setdefault(ident, 0)
            if hasattr(obj, "shared_ident"):
                obj.shared_ident = ident
                self._lent[ident] = obj
        return ident

    def lend(self, part: Any) -> str:
        """Give a part of a nested container an ident under which it is found; whoever unpickles its proxy will refer to it."""
        with self.mutex:
            if part.shared_ident is None:
                part.shared_ident = f"{next(self._numbers):x}-{self.instance}"
                self._lent[part.shared_ident] = part
        return str(part.shared_ident)

    def find(self, ident: str) -> tuple[Any, Any, Any]:
        """Return an entry.

        Raises:
            KeyError: if there is none.
        """
        entry = self.entries.get(ident) or self.owned.get(ident) or self._lent_entry(ident)
        if entry is not None:
            return entry
        if not self._recreate(ident):
            raise KeyError(ident)
        return self.entries[ident]

    def _lent_entry(self, ident: str) -> tuple[Any, Any, Any] | None:
        part = self._lent.get(ident)
        if part is None:
            return None
        _, exposed, method_to_typeid, _ = self.registry[type(part).__name__]
        return part, frozenset(exposed), method_to_typeid

    def _recreate(self, ident: str) -> bool:
        """Find what another server knew by this name."""
        if not ident.startswith(BY_NAME) or self.registry.get(ident.removeprefix(BY_NAME), (None,))[0] is None:
            return False
        found, _ = self.create(ident.removeprefix(BY_NAME), (), {})
        if found != ident:
            with self.mutex:
                self.entries[ident] = self.entries[found]
                self.counts.setdefault(ident, 0)
        return True

    # --- references ---

    def refer(self, ident: str, holder: Holder | None = None) -> None:
        """Count a reference.

        Raises:
            KeyError: if there is no such object.
        """
        entry = self.find(ident)
        with self.mutex:
            if ident not in self.counts:
                # Nobody outside referred to it any more, but something inside does.
                self.entries[ident] = entry
                self._idents[id(entry[0])] = ident
            self.counts[ident] = self.counts.get(ident, 0) + 1
            if holder is not None:
                holder.held[ident] = holder.held.get(ident, 0) + 1

    def drop(self, ident: str, holder: Holder | None = None, count: int = 1) -> None:
        """Take references back; an object without any is let go of.

        Raises:
            KeyError, AssertionError: if there are none.
        """
        with self.mutex:
            if ident not in self.counts and ident in self.owned:
                return
            if holder is not None:
                count = min(count, holder.held.get(ident, 0))
                if count == 0:
                    return
                holder.held[ident] -= count
                if holder.held[ident] == 0:
                    del holder.held[ident]
            if self.counts[ident] < count:
                raise AssertionError(f"Id {ident!s} has refcount {self.counts[ident]}, not {count}+")
            self.counts[ident] -= count
            if self.counts[ident]:
                return
            del self.counts[ident]
            entry = self.entries.pop(ident)
            if self._idents.get(id(entry[0])) == ident and ident not in self.owned:
                del self._idents[id(entry[0])]
        # Only here, without the mutex, may the object's own end come: it may hold proxies, or take its time.
        del entry

    def own(self, ident: str) -> None:
        """Something in the server itself holds a proxy of this object from now on."""
        entry = self.find(ident)
        with self.mutex:
            self._owners[ident] = self._owners.get(ident, 0) + 1
            self.owned.setdefault(ident, entry)

    def disown(self, ident: str) -> None:
        """A proxy in the server has gone."""
        with self.mutex:
            self._owners[ident] -= 1
            if self._owners[ident]:
                return
            del self._owners[ident]
            entry = self.owned.pop(ident)
            if ident not in self.entries:
                self._idents.pop(id(entry[0]), None)
        del entry

    # --- clients ---

    def admit(self, client: str) -> Holder:
        """A client has one more connection."""
        with self.mutex:
            holder = self._holders.get(client)
            if holder is None:
                holder = self._holders[client] = Holder(client)
            holder.sessions += 1
        return holder

    def leave(self, client: str) -> None:
        """A client has one connection less; with the last one goes what it referred to."""
        with self.mutex:
            holder = self._holders[client]
            holder.sessions -= 1
            if holder.sessions:
                return
            del self._holders[client]
            held = list(holder.held.items())
        for ident, count in held:
            self.drop(ident, holder, count)


def _called(callable_: Callable[..., Any], args: tuple[Any, ...], kwds: dict[str, Any]) -> tuple[Any, int]:
    """Call; return the object, and how many references there are to it just then."""
    obj = callable_(*args, **kwds)
    references = sys.getrefcount(obj)
    return obj, references


_REFERENCES_OF_NEW = _called(object, (), {})[1]  # of what nobody else holds; interpreters differ
