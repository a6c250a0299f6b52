"""The default context and its start method, for modules below `shoal.context`: what a pool made without a context uses, what a child is told."""

from __future__ import annotations

from shoal import _standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["force_start_method", "get", "settle"]

_context: Any = _standard.context._default_context
_force: Callable[[str], None] = _standard.context._force_start_method


def get() -> Any:
    """Return the context of the start method in force."""
    return _context.get_context()


def start_method() -> str:
    """Return the start method in force, which is settled by this."""
    return str(_context.get_start_method())


def force_start_method(method: str) -> None:
    """Put a start method in force, whatever was chosen before."""
    _force(method)


def settle(context: Any, force: Callable[[str], None]) -> None:
    """Say where they are; `shoal.context` does, when it is imported."""
    global _context, _force
    _context, _force = context, force
