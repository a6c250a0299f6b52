"""A child that the fork server has forked before anybody asked for it.

It has done what can be done without knowing what it is for, and waits for a request. So whoever starts a process does not wait for a fork, which in a
server that has imported much takes a millisecond, nor for what the interpreter and this library do first in every child. There is one at a time,
made when the server has nothing else to do: a burst of requests is served by forks, as it would be without.

What it is given is a descriptor: that of the socket on which the client has sent everything else. It ends when the server does, and when the server has no
more use for it. Killed by somebody, it is not missed: the server notices when it hands over a request, or when the kernel tells.

It blocks SIGINT, as every child does until it has its handler. So a Ctrl-C that came while it was nobody's process is pending, and it is not taken then: in what it would become
that was a KeyboardInterrupt. One that comes after it was taken is for that process.
"""

from __future__ import annotations

import os
import signal

from shoal._forkserver import protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

__all__ = ["Spare", "wait_for_request"]

PENDING = b"ShdPnd:"  # of /proc/PID/status: signals that were sent to the process and wait, as a hexadecimal mask


class Spare:
    """A waiting child, as the server sees it.

    Args:
        pid: of the child, which has not been waited for.
        line: the server's end of the socket through which it is told.
    """

    def __init__(self, pid: int, line: socket.socket) -> None:
        self.pid = pid
        self._line = line

    def take(self, fd: int) -> bool:
        """Give it a request; False if it is dead, or was interrupted and ends. It is a child like any other from then on."""
        try:
            if _is_interrupted(self.pid):
                return False
            protocol.send(self._line, b"!", [fd])
        except OSError:
            return False
        finally:
            self.close()
        return True

    def dismiss(self) -> None:
        """End it, and wait for that."""
        self.close()
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    def close(self) -> None:
        """Close this process's end of the line."""
        self._line.close()


def _is_interrupted(pid: int) -> bool:
    """Whether SIGINT is pending for a process."""
    with open(f"/proc/{pid}/status", "rb") as status:  # noqa: PTH123 - before every start: the shortest way
        for line in status:
            if line.startswith(PENDING):
                return bool(int(line.removeprefix(PENDING), 16) >> (signal.SIGINT - 1) & 1)
    return False


def wait_for_request(line: socket.socket) -> int:
    """In the child: wait until there is something to do; return the descriptor of the client's socket. Does not return if there never will be."""
    data, descriptors = protocol.receive(line)
    line.close()
    if not descriptors:
        os._exit(1 if data else 0)  # the descriptor was lost on the way, or the server is gone
    return descriptors[0]
