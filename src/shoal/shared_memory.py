"""Shared memory by name: ``SharedMemory`` and ``ShareableList``, as in the standard library's ``multiprocessing.shared_memory``.

A block is a file in /dev/shm, which any process can attach to that knows its name: of this tree or of another one, with shoal, with the standard library or
without Python. What is different:

* A block has its memory before it has its name. Where /dev/shm or the machine is too small, making it raises, with the sizes; no process is ended
  by a SIGBUS later, and nobody attaches to a block that is half made.
* Whoever *makes* a block tracked answers for it: when the last process of its tree has gone, in whatever way, the tree's watcher unlinks what is left of those
  blocks. Whoever attaches does not: attaching, leaving and being killed never unlinks another's block, whatever `track` says, and prints nothing.
* `track` is there on every version of Python.

Derives from the standard library's classes. Relies on ``shoal._native`` for the naming, which stands a kill at any instruction (``native/names/``).
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import operator
import os
import struct

from shoal import _native, _standard, resource_tracker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_shared_memory: Any = _standard.shared_memory

__all__ = ["ShareableList", "SharedMemory"]

_USE_POSIX = _shared_memory._USE_POSIX
_O_CREX = _shared_memory._O_CREX
_SHM_SAFE_NAME_LENGTH = _shared_memory._SHM_SAFE_NAME_LENGTH
_SHM_NAME_PREFIX = _shared_memory._SHM_NAME_PREFIX
_encoding = _shared_memory._encoding
_make_filename = _shared_memory._make_filename
_posixshmem = _shared_memory._posixshmem

DIRECTORY = "/dev/shm"  # noqa: S108 - where the C library's shm_open looks
STEP = 16 << 20  # bytes: older kernels begin again when a signal comes during an allocation, so none may take long


class SharedMemory(_shared_memory.SharedMemory):  # type: ignore[misc]
    """A block of shared memory, made or attached to.

    Args:
        name: that of the block; None, when it is made, chooses a new one.
        create: whether to make the block, or attach to the one that is there.
        size: bytes, when it is made. When attaching it is ignored: a block is as large as it was made.
        track: whether the block is unlinked when the last process of this tree has gone. It is for whoever makes the block to say; when
            attaching it has no effect (the standard library's tracker would unlink the block when the attaching processes have gone). To answer for a
            block that others have made, say ``shoal.resource_tracker.register(name, "shared_memory")``.

    Raises:
        TypeError: if the name is no str.
        ValueError: if the size is negative, or 0 when the block is made, or there is no name to attach to.
        FileExistsError: if a block is to be made and there is one of that name.
        FileNotFoundError: if there is none to attach to.
        OSError: if /dev/shm has no room for it (``ENOSPC``), or the name cannot be one.
        MemoryError: if the machine, or the cgroup, has less memory than that.
    """

    _name: str | None = None

    def __init__(self, name: str | None = None, create: bool = False, size: int = 0, *, track: bool = True) -> None:
        if not size >= 0:
            raise ValueError("'size' must be a positive integer")
        if create:
            self._flags = _O_CREX | os.O_RDWR
            if size == 0:
                raise ValueError("'size' must be a positive number different from zero")
        elif name is None:
            raise ValueError("'name' can only be None if create=True")
        if not isinstance(name, str | None):
            raise TypeError(f"name must be a str or None, not {type(name).__name__}")
        if name is not None and "\0" in name:
            raise ValueError("embedded null character")  # some versions' shm_open ends the name there
        self._track = track
        if create:
            self._make(name, operator.index(size))
        else:
            self._attach(f"/{name}" if self._prepend_leading_slash else name)  # type: ignore[arg-type]
        self._buf = memoryview(self._mmap)

    def _make(self, name: str | None, size: int) -> None:
        """Make a block that has its memory, then give it its name: until then there is nothing for anybody to see, or to clean up."""
        given = None if name is None else f"/{name}" if self._prepend_leading_slash else name
        if given is not None and not resource_tracker.bare(given):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), given)
        if given is not None and os.path.lexists(f"{DIRECTORY}/{resource_tracker.bare(given)}"):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), given)
        self._fd = os.open(DIRECTORY, os.O_TMPFILE | os.O_RDWR, self._mode)
        try:
            _reserve(self._fd, size, given)
            self._mmap = mmap.mmap(self._fd, size)
            self._size = size
            if given is not None:
                self._give_name(given)
            while self._name is None:
                with contextlib.suppress(FileExistsError):
                    self._give_name(_make_filename())
        except BaseException:
            self.close()
            raise

    def _give_name(self, name: str) -> None:
        # A program that has put something in the place of register() means to keep account by itself.
        replaced = resource_tracker.register != resource_tracker.own_register
        tracked = self._track and not replaced
        if tracked:
            resource_tracker.see_to_watcher()
        _native.name_link(self._fd, resource_tracker.bare(name), tracked)
        self._name = name
        if self._track and replaced:
            resource_tracker.register(name, resource_tracker.SHARED_MEMORY)

    def _attach(self, name: str) -> None:
        """Attach to the block of that name. If that fails, the block is as it was."""
        self._fd = _posixshmem.shm_open(name, self._flags, mode=self._mode)
        try:
            self._size = os.fstat(self._fd).st_size
            self._mmap = mmap.mmap(self._fd, self._size)
        except BaseException:
            self.close()
            raise
        self._name = name

    def __del__(self) -> None:
        # Not close(): an array that looks at the block may outlive this object. It keeps the block mapped, and the last who looks unmaps it.
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._fd)
            self._fd = -1

    def unlink(self) -> None:
        """Take the block's name away: nobody can attach to it any more, and its memory goes when the last who is attached has closed it.

        To be called once for each block, by whichever process.

        Raises:
            FileNotFoundError: if that has been done before.
        """
        if not self._name:
            return
        if "\0" in self._name:
            raise ValueError("embedded null character")
        try:
            _posixshmem.shm_unlink(self._name)
        finally:
            _native.name_forget(resource_tracker.bare(self._name), True)


def _reserve(fd: int, size: int, name: str | None) -> None:
    """Give an empty file of /dev/shm all the memory that it is to have."""
    if size > (limit := _native.memory_limit()):
        raise MemoryError(f"{size} bytes of shared memory wanted, where there are {limit} bytes of memory in all")
    try:
        for at in range(0, size, STEP):
            os.posix_fallocate(fd, at, min(STEP, size - at))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        os.ftruncate(fd, 0)
        room = os.fstatvfs(fd)
        raise OSError(
            errno.ENOSPC,
            f"{os.strerror(errno.ENOSPC)}: {size} bytes of shared memory wanted, "
            f"{room.f_bavail * room.f_frsize} of {room.f_blocks * room.f_frsize} are free in {DIRECTORY}; unlink blocks "
            "that are not needed, or make it larger (docker run --shm-size=…)",
            name,
        ) from None


class ShareableList(_shared_memory.ShareableList):  # type: ignore[misc]
    """A list of fixed length in shared memory; its items are int, float, bool, str, bytes or None.

    Each item can be replaced, by one of another type too; a str or bytes by one that fits into the place that the first one was given (about its bytes rounded up to
    a multiple of 8). As in the standard library, zero bytes at the end of a str or bytes are lost.

    Args:
        sequence: the items of a new list; None attaches to the list of that name.
        name: that of the block in which the list is, or is to be.

    Raises:
        KeyError: if an item is of another type.
        struct.error: if an int has more than 64 bits.
        OSError, MemoryError: as of `SharedMemory`. Whatever is raised, no block has been made.
    """

    shm: SharedMemory

    def __init__(self, sequence: Iterable[Any] | None = None, *, name: str | None = None) -> None:
        if name is not None and sequence is None:
            self.shm = SharedMemory(name)
            self._list_len = len(self)
            self._allocated_offsets = list(struct.unpack_from(self._format_size_metainfo, self.shm.buf, 8))
            return
        items = list(sequence) if sequence is not None else []
        values = [item.encode(_encoding) if isinstance(item, str) else item for item in items]
        formats = [self._format_of(item, value) for item, value in zip(items, values, strict=True)]
        self._list_len = len(items)
        self._allocated_offsets = [0]
        for form in formats:
            self._allocated_offsets.append(self._allocated_offsets[-1] + struct.calcsize(form))
        content = b"".join(
            (
                struct.pack(f"q{self._format_size_metainfo}", self._list_len, *self._allocated_offsets),
                struct.pack("".join(formats), *values),
                struct.pack(self._format_packing_metainfo, *(form.encode() for form in formats)),
                struct.pack(self._format_back_transform_codes, *map(self._extract_recreation_code, items)),
            )
        )
        self.shm = SharedMemory(name, create=True, size=len(content))
        self.shm.buf[: len(content)] = content

    # The standard methods take one before the beginning for one from the end, and would touch what is no item.
    def __getitem__(self, position: int) -> Any:
        if position < -self._list_len:
            raise IndexError("index out of range")
        return super().__getitem__(position)

    def __setitem__(self, position: int, value: Any) -> None:
        if position < -self._list_len:
            raise IndexError("assignment index out of range")
        super().__setitem__(position, value)

    def _format_of(self, item: Any, value: Any) -> str:
        """How `struct` packs the item; a str or bytes in multiples of 8 bytes: more than it has characters, and enough for its bytes."""
        form: str = self._types_mapping[type(item)]
        if isinstance(value, bytes):
            places = max(len(item) // self._alignment + 1, -(-len(value) // self._alignment))
            form %= self._alignment * places
        if len(form) > self._alignment:
            raise ValueError(f"an item of {len(value)} bytes is too long for a ShareableList")
        return form
