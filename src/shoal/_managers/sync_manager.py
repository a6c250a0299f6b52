"""``SyncManager``: a manager of containers, of what threads synchronise with, and of pools. What ``shoal.Manager()`` returns."""

from __future__ import annotations

import queue
import threading

from shoal import pool
from shoal._managers import containers, synchronizers
from shoal._managers.manager import BaseManager
from shoal._managers.proxies import returned_types

__all__ = ["SyncManager"]


class SyncManager(BaseManager):
    """A manager of the types that are registered below: containers, locks and their kin, queues, values, pools."""


_register = SyncManager.register
_register("Queue", queue.Queue)
_register("JoinableQueue", queue.Queue)
_register("Event", threading.Event, synchronizers.EventProxy)
_register("Lock", threading.Lock, synchronizers.AcquirerProxy)
_register("RLock", synchronizers.RLock, synchronizers.AcquirerProxy)
_register("Semaphore", synchronizers.Semaphore, synchronizers.AcquirerProxy)
_register("BoundedSemaphore", synchronizers.BoundedSemaphore, synchronizers.AcquirerProxy)
_register("Condition", threading.Condition, synchronizers.ConditionProxy)
_register("Barrier", threading.Barrier, synchronizers.BarrierProxy)
_register("Pool", pool.Pool, synchronizers.PoolProxy)
_register("list", list, containers.ListProxy)
_register("dict", dict, containers.DictProxy)
_register("set", set, containers.SetProxy)
_register("Value", containers.Value, containers.ValueProxy)
_register("Array", containers.Array, containers.ArrayProxy)
_register("Namespace", containers.Namespace, containers.NamespaceProxy)
_register("Iterator", proxytype=containers.IteratorProxy, create_method=False)
_register("AsyncResult", create_method=False)

returned_types.update({typeid: entry[-1] for typeid, entry in SyncManager._registry.items()})
