"""A process that others started, and that uses shared objects all the same, says at its end that this was no crash.

A process that shoal starts says so itself. A standard ``Process`` does not know of it; and what ends without a word is taken for killed, so that the lock which
it meant to leave to somebody would go to whoever waits first, with a warning.

Relies on the standard ``util.Finalize`` and ``register_after_fork``.
"""

from __future__ import annotations

import threading

from shoal import _standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["prepare", "prepare_forked_children"]

LAST = -1_000_000  # of all finalizers


def prepare() -> None:
    """Have this process say so when it ends."""
    _standard.util.Finalize(None, _leave, exitpriority=LAST)


def prepare_forked_children() -> None:
    """Have the children say so that the standard library forks from this process."""
    _standard.util.register_after_fork(_leave, _in_forked_child)


def _leave() -> None:
    # Other threads may be in the middle of something, of which nobody can say that it came to an end.
    if threading.active_count() == 1:
        from shoal import _native  # noqa: PLC0415 - at the end only

        _native.set_exit_code(0)


def _in_forked_child(_: object) -> None:
    current: Any = _standard.process.current_process()
    if not hasattr(current, "_die_with_parent"):  # one of shoal's own leaves by `popen_fork.leave`
        prepare()
