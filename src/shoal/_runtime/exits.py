"""How a process ended that this one cannot wait for.

``waitpid`` answers the parent only, and once. For others there are, in this order: the exit code that the process left in its slot of the arena before it
went; and the kernel, which from Linux 6.15 on keeps the status behind a pidfd once the process has been waited for.
"""

from __future__ import annotations

import fcntl
import os
import signal
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["FROM_OUTSIDE", "status_behind"]

# Exit codes of who was ended by another: an operator, the OOM killer, a terminal.
FROM_OUTSIDE: Final = {-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP}

# struct pidfd_info of <linux/pidfd.h>, in its first published size: mask (64 bits), twelve words, the wait status.
_INFO_SIZE: Final = 64
_STATUS_AT: Final = 60
_WANT_EXIT: Final = 1 << 3
_PIDFD_GET_INFO: Final = 3 << 30 | _INFO_SIZE << 16 | 0xFF << 8 | 11


def status_behind(pidfd: int) -> int | None:
    """The exit code (negative: the signal) that the kernel has kept for a process that was waited for by another; None if it has not."""
    info = bytearray(_INFO_SIZE)
    struct.pack_into("<Q", info, 0, _WANT_EXIT)
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, info)
    except OSError:  # an older kernel, or not a pidfd
        return None
    if not struct.unpack_from("<Q", info, 0)[0] & _WANT_EXIT:
        return None
    return os.waitstatus_to_exitcode(struct.unpack_from("<i", info, _STATUS_AT)[0])
