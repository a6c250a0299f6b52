"""The default context and its start method, for modules below `shoal.context`: what a pool made without a context uses, what a child is told."""

from __future__ import annotations

from shoal import _standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["chosen_at", "force_start_method", "get", "put_in_force", "settle", "start_method", "unless_in_force"]

_context: Any = _standard.context._default_context
_contexts: dict[str, Any] = {}


def get() -> Any:
    """Return the context of the start method in force."""
    return _context.get_context()


def start_method() -> str:
    """Return the start method in force, which is settled by this."""
    return str(_context.get_start_method())


def unless_in_force(method: str | None) -> Any:
    """Return the context of a start method; None if that is in force, or if there is no method.

    Raises:
        ValueError: if there is no such start method.
    """
    if method is None:
        return None
    context = _contexts[method] if method in _contexts else _context.get_context(method)
    return None if _context._actual_context is context else context


def put_in_force(context: Any) -> None:
    """Make a context the default, whatever was chosen before."""
    _context._actual_context = context


def chosen_at() -> tuple[str, int] | None:
    """Return the file and the line of the main module that chose the start method; None if it was chosen elsewhere, or not for good."""
    return getattr(_context, "_chosen_at", None)


def force_start_method(method: str) -> None:
    """Put a start method in force, whatever was chosen before."""
    put_in_force(_context.get_context(method))


def settle(context: Any, contexts: dict[str, Any]) -> None:
    """Say where it is, and what start methods there are; `shoal.context` does, when it is imported."""
    global _context, _contexts
    _context, _contexts = context, contexts
