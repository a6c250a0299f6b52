"""The one door to the standard library's ``multiprocessing``.

shoal's classes derive from the standard ones (``isinstance`` against the standard ``BaseProcess`` and ``BaseContext`` holds), share the state
of its modules, and raise its exceptions. Under ``shoal run`` the name ``multiprocessing`` means shoal, and the standard package goes by a
name of its own (see ``_alias/startup/_shoal_alias.py``); what this module holds is the standard package in both cases. So no other module of
shoal may import ``multiprocessing``. A standard module that is not among those named here is imported when it is first asked for:
``_standard.managers``.
"""

from __future__ import annotations

import sys
from importlib import import_module

TYPE_CHECKING = False  # typing takes long to import, and what is imported here every forked child carries
if TYPE_CHECKING:
    import multiprocessing as package
    from multiprocessing import connection, context, process, reduction, util
    from types import ModuleType
else:
    _alias = sys.modules.get("_shoal_alias")
    package = import_module(_alias.STANDARD if _alias is not None and _alias.active() else "multiprocessing")
    context, process, reduction, util = (
        import_module(f"{package.__name__}.{name}") for name in ("context", "process", "reduction", "util")
    )

__all__ = ["connection", "context", "package", "process", "reduction", "util"]


def __getattr__(name: str) -> ModuleType:
    """Import a standard module that is needed rarely."""
    try:
        return import_module(f"{package.__name__}.{name}")
    except ModuleNotFoundError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
