"""Blocks of shared memory, under the standard library's name for them.

A ``BufferWrapper`` is a block of the tree's arena: all zeros at first, and there as long as any process has it or a view of it. It travels in whatever shoal
sends to another process. What the standard module has besides, its own heap in files of its own, is that module's: ``Heap``, ``Arena``.

Relies on the native core (``native/memory/``).
"""

from __future__ import annotations

import sys

from shoal import _native, _standard, reduction

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

__all__ = ["BufferWrapper"]


class BufferWrapper(_native.Memory):
    """A block of shared memory.

    Args:
        size: bytes.

    Raises:
        ValueError: if the size is negative.
        OverflowError: if no machine has so much.
        MemoryError: if the arena has not so much left.
    """

    _registration: Any  # held along with the memory, see shoal.sharedctypes

    def __init__(self, size: int) -> None:
        if size < 0:
            raise ValueError(f"Size {size} out of range")
        if size >= sys.maxsize:
            raise OverflowError(f"Size {size} too large")
        super().__init__(size)

    def create_memoryview(self) -> memoryview:
        """Return a writable view of it, which keeps it alive."""
        return memoryview(self)

    def __reduce__(self) -> NoReturn:
        # Plain pickle would take a ctypes object apart into its bytes and this wrapper, and make a private copy out of them.
        raise TypeError(
            "shared memory cannot be pickled by itself: pass it to a process, or send it through a queue or a pipe"
        )


def _reduce_wrapper(wrapper: BufferWrapper) -> tuple[Any, ...]:
    return type(wrapper)._adopt, (wrapper._reference(),)


reduction.register(BufferWrapper, _reduce_wrapper)


def __getattr__(name: str) -> Any:
    return getattr(_standard.heap, name)
