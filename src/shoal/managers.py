"""Managers: objects that live in a server process, and are used by others through proxies.

The names, signatures and exceptions of the standard library's module; the types and methods that it got in Python 3.14 (``set``, ``clear``, ``copy``, ``|``,
``locked``) on every version. How it works is written in ``docs/explanation/managers.md``.

What is different:

* In one tree of processes calls go through shared memory.
* A server that has gone is a ``ManagerDied`` (an ``EOFError``, too) at once, in every client. One that is started again at the same address is found by the next call.
* A client that has gone leaves no references behind.
"""

from __future__ import annotations

from shoal import _standard
from shoal._managers.containers import (
    Array,
    ArrayProxy,
    BaseListProxy,
    DictProxy,
    IteratorProxy,
    ListProxy,
    Namespace,
    NamespaceProxy,
    SetProxy,
    Value,
    ValueProxy,
)
from shoal._managers.manager import BaseManager
from shoal._managers.proxies import AutoProxy, BaseProxy, MakeProxyType, RebuildProxy
from shoal._managers.segments import SharedMemoryManager, SharedMemoryServer
from shoal._managers.server import Server
from shoal._managers.sync_manager import SyncManager
from shoal._managers.synchronizers import (
    AcquirerProxy,
    BarrierProxy,
    BasePoolProxy,
    ConditionProxy,
    EventProxy,
    PoolProxy,
)
from shoal._managers.transports import listener_client
from shoal._managers.words import (
    RemoteError,
    State,
    Token,
    UnexposedMethodError,
    all_methods,
    convert_to_error,
    dispatch,
    public_methods,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    # Names that are used, but are not among those of `import *`; for the type checker.
    __all__ = [
        "Array",
        "ListProxy",
        "Namespace",
        "RemoteError",
        "State",
        "UnexposedMethodError",
        "Value",
        "all_methods",
        "convert_to_error",
        "dispatch",
        "listener_client",
        "public_methods",
    ]

__all__ = ["BaseManager", "BaseProxy", "SharedMemoryManager", "SyncManager", "Token"]

_HERE = __name__
_PUBLIC = (
    AcquirerProxy,
    ArrayProxy,
    AutoProxy,
    BarrierProxy,
    BaseListProxy,
    BaseManager,
    BasePoolProxy,
    BaseProxy,
    ConditionProxy,
    DictProxy,
    EventProxy,
    IteratorProxy,
    ListProxy,
    MakeProxyType,
    NamespaceProxy,
    PoolProxy,
    RebuildProxy,
    Server,
    SetProxy,
    SharedMemoryManager,
    SharedMemoryServer,
    SyncManager,
    UnexposedMethodError,
    ValueProxy,
)
for _public in _PUBLIC:
    _public.__module__ = _HERE
del _public


def __getattr__(name: str) -> Any:
    """Names that the standard module has besides."""
    return getattr(_standard.managers, name)
