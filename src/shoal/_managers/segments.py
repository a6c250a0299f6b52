"""``SharedMemoryManager``: a manager that makes named blocks of shared memory, and unlinks them when it is shut down."""

from __future__ import annotations

import errno

from shoal import _standard, shared_memory
from shoal._managers.manager import BaseManager
from shoal._managers.server import Server
from shoal._managers.words import State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ["SharedMemoryManager", "SharedMemoryServer"]

_util: Any = _standard.util


class SharedMemoryServer(Server):
    """A server that keeps the names of blocks."""

    public = (*Server.public, "track_segment", "release_segment", "list_segments")

    def __init__(self, *args: Any, **kwds: Any) -> None:
        super().__init__(*args, **kwds)
        self._names: list[str] = []

    def shutdown(self, c: Any) -> None:
        """Unlink all blocks, and end this server."""
        for name in list(self._names):
            try:
                self.release_segment(c, name)
            except FileNotFoundError:  # somebody has unlinked it
                _util.debug("block %r is gone already", name)
        super().shutdown(c)

    def track_segment(self, c: Any, segment_name: str) -> None:  # noqa: ARG002 - as the others
        """Answer for a block from now on."""
        self._names.append(segment_name)

    def release_segment(self, c: Any, segment_name: str) -> None:  # noqa: ARG002 - as the others
        """Unlink a block."""
        self._names.remove(segment_name)
        block = shared_memory.SharedMemory(segment_name)
        block.close()
        block.unlink()

    def list_segments(self, c: Any) -> list[str]:  # noqa: ARG002 - as the others
        """Name the blocks that this server answers for."""
        return list(self._names)


class SharedMemoryManager(BaseManager):
    """Makes named blocks of shared memory, and lists in them; what it has made is unlinked when it is shut down."""

    _Server = SharedMemoryServer

    def SharedMemory(self, size: int) -> shared_memory.SharedMemory:  # noqa: N802 - the standard name
        """Return a new block of so many bytes."""
        self._check_started()
        block = shared_memory.SharedMemory(None, create=True, size=size)
        self._track(block)
        return block

    def ShareableList(self, sequence: Iterable[Any]) -> shared_memory.ShareableList:  # noqa: N802 - the standard name
        """Return a new list in a block of its own, with these values."""
        self._check_started()
        shared = shared_memory.ShareableList(sequence)
        self._track(shared.shm)
        return shared

    def _check_started(self) -> None:
        if self._link is None:
            raise ValueError("the manager has no server yet: start() it, or use it in a `with` statement")
        if self._state.value == State.SHUTDOWN:  # what an attempt to connect would say
            gone, number = (
                (FileNotFoundError, errno.ENOENT)
                if isinstance(self._address, str)
                else (ConnectionRefusedError, errno.ECONNREFUSED)
            )
            raise gone(number, "the manager has been shut down: make another", self._address)

    def _track(self, block: Any) -> None:
        try:
            self._link.ask("track_segment", (block.name,))
        except BaseException:
            block.unlink()
            raise
