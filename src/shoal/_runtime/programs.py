"""Running a program with chosen descriptors: an interpreter that is to be a child, or the fork server.

Not by ``subprocess``: its `Popen` learns of a failed ``exec`` through a pipe, and waits until nobody holds the other end of that any more. A process that another
thread forks in that moment, and that lives on without an ``exec`` (a worker of a pool), holds it for as long as it lives; the start would wait until then. ``posix_spawn``
needs no pipe: parent and child share their memory until the ``exec``.
"""

from __future__ import annotations

import errno
import itertools
import os
import signal
from contextlib import suppress
from functools import partial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["keep_descriptors", "run"]

STANDARD = (0, 1, 2)


def run(command: list[str | bytes], inherited: Iterable[int]) -> int:
    """Run a program.

    Args:
        command: its path, or a name to be found on ``PATH``, and its arguments.
        inherited: the descriptors that it has beside the standard three, under the same numbers; no others.

    Returns:
        Its process id. Whoever runs it waits for it. If a signal handler raises meanwhile, the program is ended: nobody would know of it.

    Raises:
        OSError: if it cannot be run.
    """
    kept = sorted(set(inherited).difference(STANDARD))
    unwanted = _inheritable(kept)
    if max(unwanted + kept, default=0) >= os.sysconf("SC_OPEN_MAX") > 0:
        return _run_beyond_the_limit(command, kept)
    actions: list[tuple[int, ...]] = [(os.POSIX_SPAWN_CLOSE, fd) for fd in unwanted]
    # A descriptor that is put on its own number stays close-on-exec in older C libraries, so it goes by way of another.
    between = next(fd for fd in itertools.count(3) if fd not in kept)
    for fd in kept:
        actions += [(os.POSIX_SPAWN_DUP2, fd, between), (os.POSIX_SPAWN_DUP2, between, fd)]
    if kept:
        actions.append((os.POSIX_SPAWN_CLOSE, between))
    made: list[int] = []
    start = partial(os.posix_spawnp, file_actions=actions)
    try:
        # In one call: between two a handler could run, and the number be lost.
        made.extend(map(start, (command[0],), (command,), (os.environ,)))
        return made[0]
    except BaseException:
        for pid in made:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        raise


def _run_beyond_the_limit(command: list[str | bytes], kept: Sequence[int]) -> int:
    """Run a program where descriptors are in the way, or are to be kept, that `posix_spawn` refuses: from the limit of their number on, which was higher when they were opened.

    By the standard library's way, which does not wait for its pipe either, but cannot say why a program that was found does not run.
    """
    import shutil  # noqa: PLC0415 - rarely needed

    from shoal import _standard  # noqa: PLC0415 - rarely needed

    program = shutil.which(os.fsdecode(command[0]))
    if program is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fsdecode(command[0]))
    return int(_standard.util.spawnv_passfds(os.fsencode(program), command, kept))


def keep_descriptors() -> None:
    """In a program that was run so: what it was given is its own, as all descriptors are that Python opens.

    A program that it runs in its turn would keep them open: whoever waits for this one's end would wait for that of the other, too.
    """
    for fd in _inheritable(()):
        os.set_inheritable(fd, False)


def _inheritable(kept: Sequence[int]) -> list[int]:
    """The descriptors that the program would have, and is not to have: those that somebody has made inheritable."""
    found = []
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - an import of pathlib costs a start more than this
        fd = int(name)
        with suppress(OSError):  # the one of the listing, or one that another thread has closed
            if fd not in kept and fd not in STANDARD and os.get_inheritable(fd):
                found.append(fd)
    return found
