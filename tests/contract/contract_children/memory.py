"""What the tests of named shared memory have done in other processes."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.shared_memory import ShareableList, SharedMemory

    from contract_children.instances import Instance


def _attached(instance: Instance, block: SharedMemory | str) -> SharedMemory:
    return instance.module("shared_memory").SharedMemory(block) if isinstance(block, str) else block


def write(instance: Instance, block: SharedMemory | str, data: bytes) -> None:
    """Write at the beginning of a block, given itself or by name."""
    attached = _attached(instance, block)
    attached.buf[: len(data)] = data
    attached.close()


def attach_and_die(instance: Instance, name: str) -> None:
    attached = _attached(instance, name)
    attached.buf[0] = 1
    os.kill(os.getpid(), signal.SIGKILL)


def unlink(instance: Instance, name: str) -> None:
    attached = _attached(instance, name)
    attached.close()
    attached.unlink()


def make_and_tell(instance: Instance, sender: Connection) -> None:
    block = instance.module("shared_memory").SharedMemory(create=True, size=100)
    block.buf[:5] = b"child"
    block.close()
    sender.send(block.name)


def count_up(items: ShareableList) -> None:
    for index, item in enumerate(items):
        items[index] = item + 1
    items.shm.close()


def use_what_was_inherited(sender: Connection) -> None:
    """In a forked child: the block that its parent holds, without having been given it."""
    block: Any = inherited[0]
    sender.send(bytes(block.buf[:4]))
    block.buf[:4] = b"seen"
    block.close()


inherited: list[SharedMemory] = []
