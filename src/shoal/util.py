"""The standard library's ``multiprocessing.util``: the same functions, and one registry of finalizers and after-fork hooks for both packages.

Whatever a name means there it means here, at any time, so that ``Finalize``, ``register_after_fork`` and the logger work in a shoal process as
they do in a standard one, whichever of the two modules a program takes them from.
"""

from __future__ import annotations

from shoal import _standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multiprocessing.util import *  # noqa: F403
    from typing import Any

__all__ = list(_standard.util.__all__)


# From Python 3.14 on the standard module has these two itself.
WARNING: int = getattr(_standard.util, "WARNING", 30)


def _warn(msg: str, *args: object) -> None:
    """Log a message with level `WARNING`, if the package's logger is in use."""
    logger = _standard.util._logger  # type: ignore[attr-defined]
    if logger is not None:
        logger.log(WARNING, msg, *args, stacklevel=2)


warn = getattr(_standard.util, "warn", _warn)


def __getattr__(name: str) -> Any:
    return getattr(_standard.util, name)


def __dir__() -> list[str]:
    return dir(_standard.util)
