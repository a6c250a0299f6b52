"""``SyncManager``: a manager of containers, of what threads synchronise with, and of pools. What ``shoal.Manager()`` returns."""

from __future__ import annotations

import queue
import threading

from shoal import pool
from shoal._managers import containers, locks, nested, synchronizers
from shoal._managers.manager import BaseManager
from shoal._managers.proxies import returned_types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["SyncManager"]


class SyncManager(BaseManager):
    """A manager of the types that are registered below: containers, locks and their kin, queues, values, pools."""


_register = SyncManager.register
_register("Queue", queue.Queue)
_register("JoinableQueue", queue.Queue)
_register("Event", threading.Event, synchronizers.EventProxy)
_register("Lock", locks.Lock, synchronizers.AcquirerProxy)
_register("RLock", locks.RLock, synchronizers.AcquirerProxy)
_register("Semaphore", locks.Semaphore, synchronizers.AcquirerProxy)
_register("BoundedSemaphore", locks.BoundedSemaphore, synchronizers.AcquirerProxy)
_register("Condition", locks.Condition, synchronizers.ConditionProxy)
_register("Barrier", threading.Barrier, synchronizers.BarrierProxy)
_register("Pool", pool.Pool, synchronizers.PoolProxy)
_register("list", list, containers.ListProxy)
_register("dict", dict, containers.DictProxy)
_register("set", set, containers.SetProxy)
_register("Value", containers.Value, containers.ValueProxy)
_register("Array", containers.Array, containers.ArrayProxy)
_register("Namespace", containers.Namespace, containers.NamespaceProxy)
for _typeid, (_kind, _proxytype) in nested.KINDS.items():
    _register(_typeid, _kind, _proxytype)
del _typeid, _kind, _proxytype
_register("Iterator", proxytype=containers.IteratorProxy, create_method=False)
_register("AsyncResult", create_method=False)


def _or_nested(plain: Any, typeid: str) -> Any:
    """Let a method that makes a plain container make a nested one, on request."""

    def make(self: SyncManager, /, *args: Any, nested: bool = False, **kwds: Any) -> Any:
        return getattr(self, typeid)(*args, **kwds) if nested else plain(self, *args, **kwds)

    make.__name__ = make.__qualname__ = plain.__name__
    make.__doc__ = f"Make a shared {plain.__name__}; ``nested``: containers that are put into it are served as proxies, at any depth."
    return make


def _never_nested(plain: Any) -> Any:
    """Let a method that makes what nothing nests in say so."""

    def make(self: SyncManager, /, *args: Any, **kwds: Any) -> Any:
        if "nested" in kwds:
            raise TypeError("a set has no `nested`: what it holds cannot change. Leave it out; dict and list have it")
        return plain(self, *args, **kwds)

    make.__name__ = make.__qualname__ = plain.__name__
    make.__doc__ = f"Make a shared {plain.__name__}."
    return make


SyncManager.dict = _or_nested(SyncManager.dict, "NestedDict")
SyncManager.list = _or_nested(SyncManager.list, "NestedList")
SyncManager.set = _never_nested(SyncManager.set)

returned_types.update({typeid: entry[-1] for typeid, entry in SyncManager._registry.items()})
