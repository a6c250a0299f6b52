"""What a child is given to start with, in an unnamed file: its parent writes it and goes on, whether the child ever reads it or not.

A pipe would make the parent wait for a child that may be dead. The file is mapped by the child, privately: large buffers (the arrays among a process's arguments) are
not copied again, and are the child's own to write to.

Layout: the number of parts and their sizes (64-bit words), then the parts, each on a 64-byte boundary.
"""

from __future__ import annotations

import mmap
import os
import struct

from shoal._runtime import SCARCE, above_standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer

__all__ = ["read", "write"]

ALIGNMENT = 64
SMALL = 64 * 1024  # bytes that are put together and written at once


def write(parts: Sequence[Buffer]) -> int:
    """Write parts into a new unnamed file; return its descriptor, which is above the standard three.

    Raises:
        OSError: if memory runs out (ENOSPC, ENOMEM).
    """
    views = [memoryview(part).cast("B") for part in parts]
    sizes = [view.nbytes for view in views]
    head = struct.pack(f"={len(views) + 1}Q", len(views), *sizes)
    pieces: list[Buffer] = [head, bytes(-len(head) % ALIGNMENT)]
    for view, size in zip(views, sizes, strict=True):
        pieces += [view, bytes(-size % ALIGNMENT)]
    fd = _unnamed_file()
    try:
        for piece in [b"".join(pieces)] if sum(sizes) <= SMALL else pieces:
            _write_all(fd, memoryview(piece))
    except BaseException:
        os.close(fd)
        raise
    return fd


def read(fd: int) -> list[memoryview]:
    """Return the parts, writable, and close the descriptor."""
    try:
        size = os.lseek(fd, 0, os.SEEK_END)
        view = memoryview(
            bytearray(os.pread(fd, size, 0)) if size <= SMALL else mmap.mmap(fd, 0, access=mmap.ACCESS_COPY)
        )
    finally:
        os.close(fd)
    (count,) = struct.unpack_from("=Q", view)
    sizes = struct.unpack_from(f"={count}Q", view, 8)
    parts, offset = [], _aligned(8 * (count + 1))
    for size in sizes:
        parts.append(view[offset : offset + size])
        offset = _aligned(offset + size)
    return parts


def _aligned(offset: int) -> int:
    return (offset + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


def _unnamed_file() -> int:
    try:
        return above_standard(os.memfd_create("shoal-start"))
    except OSError as error:
        if error.errno in SCARCE:
            raise
        import tempfile  # noqa: PLC0415 - slow to import, and hardly ever needed

        with tempfile.TemporaryFile() as file:
            return above_standard(os.dup(file.fileno()))


def _write_all(fd: int, view: memoryview) -> None:
    view = view.cast("B")
    while view.nbytes:
        view = view[os.write(fd, view) :]
