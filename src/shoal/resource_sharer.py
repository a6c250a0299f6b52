"""How a descriptor gets from one process to another when nobody is being started: what stands for it in a message, and who hands it over.

`DupFd` keeps a copy of the descriptor in the sender, under a ticket of 16 random bytes. Whoever receives the message connects to the sender's socket, in a directory
that only this user may enter, shows the ticket, and gets the descriptor from the kernel (SCM_RIGHTS). A thread of the sender serves them; it starts with the first
descriptor and ends when the last has been fetched, and the socket with it.

Nothing is unpickled here, and nobody waits for ever: a sender that has died is an error at once, one that does not answer is one after 20 s.
"""

from __future__ import annotations

import os
import secrets
import select
import socket
import struct
import threading
import time
import weakref
from contextlib import suppress

from shoal import _standard
from shoal._runtime import SCARCE, temporary
from shoal._runtime.threads import harmless
from shoal.errors import DescriptorLostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["DupFd", "deposits", "stop"]

TICKET = 16  # bytes
FD = struct.Struct("=i")
HERE, UNKNOWN = b"\1", b"\0"  # answers
LINGER = 100  # milliseconds that the thread stays when it has nothing left, since descriptors seldom come alone
PATIENCE = 20.0  # seconds that a receiver waits for an answer
VISITORS = 128  # connections that may wait
REST = 0.01  # seconds before what cannot be done now is tried again


class DupFd:
    """Stands for a descriptor in a message; in the receiver ``detach()`` returns the descriptor there.

    Args:
        fd: the descriptor; it is duplicated at once, so the caller may close it.
    """

    def __init__(self, fd: int) -> None:
        self._pid = os.getpid()
        self._address, self._ticket = _resource_sharer.deposit(fd)

    def detach(self) -> int:
        """Return the descriptor, which is the caller's from now on. It can be had once.

        Raises:
            DescriptorLostError: if the sender is gone or does not answer, or somebody has had it already.
        """
        if self._pid == os.getpid():
            fd: int | None = _resource_sharer.withdraw(self._ticket)
            if fd is None:
                raise DescriptorLostError(self._pid, "it has been taken already")
            return fd
        return _fetch(self._pid, self._address, self._ticket)


def _nobody() -> None:
    return None


class _ResourceSharer:
    """The sender's side."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[bytes, int] = {}
        self.deposits = 0  # so far
        self._listener: socket.socket | None = None
        self._address = ""
        self._thread: threading.Thread | None = None
        self._ending: Callable[[], threading.Thread | None] = (
            _nobody  # a weak reference to the last one, which may not be at its end yet
        )
        self._bell = -1
        _standard.util.register_after_fork(self, _ResourceSharer._after_fork)

    def deposit(self, fd: int) -> tuple[str, bytes]:
        """Keep a copy of a descriptor; return where it can be had, and with what."""
        copy = os.dup(fd)
        ticket = secrets.token_bytes(TICKET)
        try:
            with self._lock:
                if self._listener is None:
                    self._start()
                self._held[ticket] = copy
                self.deposits += 1
                return self._address, ticket
        except BaseException:
            os.close(copy)
            raise

    def withdraw(self, ticket: bytes) -> int | None:
        """Return the descriptor of a ticket, which is used up; None if there is none."""
        with self._lock:
            fd = self._held.pop(ticket, None)
            if not self._held and self._bell >= 0:
                os.eventfd_write(self._bell, 1)
            return fd

    def stop(self, timeout: float | None = None) -> None:
        """End the thread, within ``timeout`` seconds, and close what nobody has fetched."""
        with self._lock:
            self._close()
            thread = self._ending()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def _start(self) -> None:
        path = temporary.socket_path(f"descriptors-{secrets.token_hex(4)}")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            listener.bind(path)
            listener.listen(VISITORS)
            listener.setblocking(False)
            bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        except BaseException:
            listener.close()
            raise
        self._listener, self._address, self._bell = listener, path, bell
        # A fork beside this thread does no harm: what it holds is made anew in the child.
        self._thread = threading.Thread(
            target=self._serve, args=(listener, bell), name="shoal-descriptors", daemon=True
        )
        harmless(self._thread)
        try:
            self._thread.start()
        except RuntimeError:  # none can be started now; the next descriptor tries again
            self._thread = None
            self._close()
            listener.close()
            os.close(bell)
            raise

    def _serve(self, listener: socket.socket, bell: int) -> None:
        visitors: dict[int, socket.socket] = {}
        poller = select.poll()
        poller.register(listener, select.POLLIN)
        poller.register(bell, select.POLLIN)
        try:
            while True:
                with self._lock:
                    if self._listener is not listener:
                        return
                    idle = not self._held
                ready = [fd for fd, _ in poller.poll(LINGER if idle else None)]
                if not ready and self._retire(listener):
                    return
                for fd in ready:
                    if fd == bell:
                        with suppress(BlockingIOError):
                            os.eventfd_read(bell)
                    elif fd == listener.fileno():
                        try:
                            visitor, _ = listener.accept()
                        except OSError as error:  # it has gone, or there is no descriptor for it: then it waits
                            if error.errno in SCARCE:
                                time.sleep(REST)
                            continue
                        visitors[visitor.fileno()] = visitor
                        poller.register(visitor, select.POLLIN)
                    else:
                        poller.unregister(fd)
                        with visitors.pop(fd) as visitor, suppress(OSError):
                            self._answer(visitor)
        finally:
            for visitor in visitors.values():
                visitor.close()
            listener.close()
            os.close(bell)

    def _retire(self, listener: socket.socket) -> bool:
        """End, if there is still nothing to hand out."""
        with self._lock:
            if self._listener is listener and self._held:
                return False
            if self._listener is listener:
                self._close()
            return True

    def _answer(self, visitor: socket.socket) -> None:
        ticket = visitor.recv(TICKET, socket.MSG_DONTWAIT)
        fd = self.withdraw(ticket)
        if fd is None:
            visitor.send(UNKNOWN, socket.MSG_DONTWAIT)
            return
        try:
            right = (socket.SOL_SOCKET, socket.SCM_RIGHTS, FD.pack(fd))
            visitor.sendmsg([HERE], [right], socket.MSG_DONTWAIT)
        finally:
            os.close(fd)

    def _close(self) -> None:
        """Forget everything; the thread, woken, closes the socket. Under the lock."""
        with suppress(FileNotFoundError):
            if self._address:
                os.unlink(self._address)  # noqa: PTH108 - a string it was, a string it stays
        if self._bell >= 0:
            os.eventfd_write(self._bell, 1)
        for fd in self._held.values():
            os.close(fd)
        self._held.clear()
        if self._thread is not None:
            self._ending = weakref.ref(self._thread)
        self._listener, self._thread, self._address, self._bell = None, None, "", -1

    def _after_fork(self) -> None:
        """In a forked child: what is held is the parent's to hand out."""
        self._lock = threading.Lock()
        for fd in self._held.values():
            os.close(fd)
        self._held.clear()
        if self._listener is not None:
            self._listener.close()
            os.close(self._bell)
        self._ending = _nobody
        self._listener, self._thread, self._address, self._bell = None, None, "", -1


def _fetch(pid: int, address: str, ticket: bytes) -> int:
    """The receiver's side."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.setblocking(False)
        try:
            _connect(sock, address)
            sock.send(ticket)
            # (socket.recv_fds leaves its flags out, so what it returns is inherited by programs.)
            answer, rights, flags, _ = sock.recvmsg(1, socket.CMSG_SPACE(FD.size), socket.MSG_CMSG_CLOEXEC)
        except TimeoutError:
            raise DescriptorLostError(pid, f"it has not answered for {PATIENCE:g} s: is it stopped?") from None
        except (FileNotFoundError, ConnectionError):
            raise DescriptorLostError(pid, _why(pid)) from None
    if answer == HERE and rights:
        return int(FD.unpack(rights[0][2])[0])
    if flags & socket.MSG_CTRUNC:
        raise DescriptorLostError(pid, "this process has no descriptor left for it (ulimit -n)")
    raise DescriptorLostError(pid, "it has been taken already" if answer == UNKNOWN else _why(pid))


def _connect(sock: socket.socket, address: str) -> None:
    """Connect; if as many wait as may, be one of those who try until there is room. What is left of the patience is the socket's timeout then."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            sock.connect(address)
        except BlockingIOError:
            if time.monotonic() > until:
                raise TimeoutError from None
            time.sleep(REST)
        else:
            sock.settimeout(max(until - time.monotonic(), REST))
            return


def _why(pid: int) -> str:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return "it has ended; a process must live until what it sent is received"
    except PermissionError:
        pass
    return "it does not have it any more"


def deposits() -> int:
    """How many descriptors this process has deposited for others, so far."""
    return int(_resource_sharer.deposits)


_resource_sharer: Any = _ResourceSharer()
stop = _resource_sharer.stop
