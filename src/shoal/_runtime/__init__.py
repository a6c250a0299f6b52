"""This process's place in the tree: its arena, its slot, its watcher.

Nothing is attached by ``import shoal``: the first shared object or the first process started does it, through `ensure`. A spawned child
does it through `attach`, before it unpickles anything. A forked child needs nothing: the native core takes the slot that was reserved for it, in
C, whoever forks; what Python has to do in a forked child stands in `in_forked_child`.

Relies on ``shoal._native``. Promises that every function may be called from any thread, any number of times.
"""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "SCARCE",
    "above_standard",
    "answer_for_names",
    "attach",
    "ensure",
    "in_forked_child",
    "own_pidfd",
    "pidfd_of",
    "pipe",
    "start_watcher",
]

server_fd = -1  # the socket by which to ask the tree's fork server; -1 if none is known

unseen_threads = 0  # this process's threads that `threading` does not know; see `shoal._runtime.threads`

# What a call says for which there are no descriptors, or no memory, just now: it may succeed later.
SCARCE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

STDERR = 2  # the last of the standard descriptors

LAST_BUT_ONE = -100_000  # of all finalizers: after those that take names away, before `leaving` says good-bye

_answers_for_names = 0  # the process that has said it will see to the watcher when it ends
_pidfd: tuple[int, int] = (0, -1)  # whose, and its descriptor
pidfds_work: bool | None = None  # whether the kernel has any; None: nobody has asked yet


def ensure() -> int:
    """Attach this process to its tree's arena, which is made if there is none; return the arena's descriptor."""
    from shoal import _native  # noqa: PLC0415 - only once something is shared

    return _native.arena_ensure()


def attach(fd: int, token: int) -> None:
    """In a child that was not forked from its parent: map the arena behind `fd` and take the slot reserved under `token`."""
    from shoal import _native  # noqa: PLC0415 - only once something is shared

    _native.arena_attach(fd, token)


def start_watcher() -> None:
    """See to it that the tree has a watcher. Called with every process that is started, so that a dead watcher is replaced; a fork does so by itself."""
    from shoal import _native  # noqa: PLC0415 - only once something is shared

    _native.watcher_start()


def _leave_a_watcher() -> None:
    # Where no process can be started any more (after `unshare`, say), the one that was may be about to say that it is there.
    with suppress(OSError):
        start_watcher()


def answer_for_names() -> None:
    """See to it that the tree has a watcher now, and when this process ends: something has a name that only the watcher takes away."""
    global _answers_for_names
    start_watcher()
    if _answers_for_names != os.getpid():
        from shoal import _standard  # noqa: PLC0415 - only for what has names

        _answers_for_names = os.getpid()
        _standard.util.Finalize(None, _leave_a_watcher, exitpriority=LAST_BUT_ONE)


def in_forked_child(hook: Callable[[], object]) -> None:
    """Call `hook` in every child that ``os.fork`` makes from now on, before anything else runs in it."""
    os.register_at_fork(after_in_child=hook)


def above_standard(fd: int) -> int:
    """Return a descriptor, or a copy in its place that is not one of the standard three.

    A program that has closed its own gives their numbers to whatever is opened next; and its children have under these numbers what it has itself.
    """
    if fd > STDERR:
        return fd
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, STDERR + 1)
    finally:
        os.close(fd)


def pipe() -> tuple[int, int]:
    """Make a pipe; return the descriptors to read from and to write to, above the standard three."""
    reader, writer = os.pipe()
    return above_standard(reader), above_standard(writer)


def pidfd_of(pid: int) -> int:
    """Open a descriptor, above the standard three, that is readable once the process has ended; -1 where the kernel (or a sandbox) has none.

    The process must be a child that nobody else waits for, or else known to be alive: a number alone may mean another process by now. A process
    that is gone already gives a descriptor that is readable.

    Raises:
        OSError: if there are no descriptors left (EMFILE, ENFILE), or no memory.
    """
    global pidfds_work
    if pidfds_work is None:
        try:
            os.close(os.pidfd_open(os.getpid()))
            pidfds_work = True
        except OSError as error:
            if error.errno in SCARCE:  # there are some, but not now
                raise
            pidfds_work = False
    if not pidfds_work:
        return -1
    try:
        return above_standard(os.pidfd_open(pid))
    except ProcessLookupError:
        ended, writer = pipe()
        os.close(writer)
        return ended


def own_pidfd() -> int:
    """This process's own pidfd, opened once: its children inherit or are given it, to see whether their parent lives. -1 as in `pidfd_of`."""
    global _pidfd
    pid = os.getpid()
    if _pidfd[0] != pid:
        _pidfd = (pid, pidfd_of(pid))
    return _pidfd[1]
