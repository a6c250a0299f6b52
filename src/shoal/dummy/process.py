"""``DummyProcess``: a thread that looks like a ``Process``."""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["DummyProcess", "active_children", "current_process"]

current_process = threading.current_thread


class DummyProcess(threading.Thread):
    """An activity that runs in a thread of its own, with what a ``Process`` has and a thread can.

    As in the standard library it cannot be terminated or killed, and its exit code is 0, however it ended.

    Args:
        group: None, for compatibility with ``threading.Thread``.
        target: called by `run` in the thread.
        name: None makes one.
        args: positional arguments for `target`.
        kwargs: keyword arguments for `target`.
        daemon: whether the program may end while the thread runs; None takes over this thread's own flag.
    """

    def __init__(
        self,
        group: None = None,
        target: Callable[..., object] | None = None,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] = {},
        *,
        daemon: bool | None = None,
    ) -> None:
        super().__init__(group, target, name, tuple(args), dict(kwargs), daemon=daemon)
        self._pid = None
        self._children: weakref.WeakKeyDictionary[threading.Thread, None] = weakref.WeakKeyDictionary()
        self._start_called = False
        self._parent = current_process()
        self._over = False  # nothing of the program runs in it any more
        self._watching: list[threading.Event] = []  # of those who wait for that, see `connection.wait`

    def start(self) -> None:
        """Start the thread.

        Raises:
            RuntimeError: if it was made by another thread, or has been started before.
        """
        if self._parent is not current_process():
            raise RuntimeError(f"{self!r} was made by {self._parent!r}: no other thread can start it")
        self._start_called = True
        _children_of(self._parent)[self] = None
        super().start()

    def _bootstrap(self) -> None:
        try:
            super()._bootstrap()  # type: ignore[misc]
        finally:
            self._over = True
            for event in list(self._watching):
                event.set()

    @property
    def exitcode(self) -> int | None:
        """0 when the thread has ended, None before that."""
        return 0 if self._start_called and not self.is_alive() else None

    @property
    def pid(self) -> int | None:
        """The process id that ``os.getpid()`` returns in it; None before it has been started."""
        return os.getpid() if self._start_called else None

    @property
    def sentinel(self) -> DummyProcess:
        """What ``dummy.connection.wait`` takes to wait for its end: the object itself."""
        return self

    def _ready(self) -> bool:
        """For ``connection.wait``: whether it has ended, so that `join` returns at once."""
        if self._over:
            self.join()
        return self._over

    def close(self) -> None:
        """Check that it has ended; there is nothing to release.

        Raises:
            ValueError: if it is still running.
        """
        if self.is_alive():
            raise ValueError("Cannot close a process while it is still running. You should first call join().")


def _children_of(parent: Any) -> weakref.WeakKeyDictionary[threading.Thread, None]:
    """The children of a thread; one that was not made as a ``DummyProcess`` gets its list here."""
    children: weakref.WeakKeyDictionary[threading.Thread, None] | None = getattr(parent, "_children", None)
    if children is None:
        children = parent._children = weakref.WeakKeyDictionary()
    return children


def active_children() -> list[threading.Thread]:
    """Return the processes that this thread has started and that run still."""
    children = _children_of(current_process())
    for child in list(children):
        if not child.is_alive():
            children.pop(child, None)
    return list(children)
