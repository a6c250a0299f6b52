"""Start by fork: the child is a copy of the caller.

The parent holds a pidfd of the child, which is its sentinel: unlike the pipe of the standard library it costs one system call, is not inherited by the child's
own children, and tells of a death at the moment it happens. Where there are no pidfds (an old kernel, a sandbox) a pipe stands in.

The native core reserves a slot for the child in the course of the fork; the child's exit code is left there too, so that it is known even if somebody
else (``os.wait()``, an ignored SIGCHLD) has taken the status away.

Relies on ``shoal._runtime`` and the standard ``popen_fork.Popen``, from which it derives. Promises that `wait` returns once the child is dead, however it died.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress

from shoal import _native, _runtime, _standard
from shoal._bootstrap import leave, prepare, prepare_fork, run_forked
from shoal._runtime.default_context import unless_in_force
from shoal._runtime.interrupts import held_at_fork, set_mask
from shoal.process import replaces_bootstrap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from shoal._bootstrap import Prepared

__all__ = ["Popen"]

_util: Any = _standard.util
_flush_std_streams = _util._flush_std_streams
UNKNOWN = 255  # the exit code when nobody can tell, as in the standard library
DAEMON_SECONDS = 10.0  # that a daemon has to clean up when the program ends, between SIGTERM and SIGKILL
CLAIM_SECONDS = 1.0  # that a forked child has to take its slot, which is the first that it does


class Popen(_standard.popen_fork.Popen):  # type: ignore[misc, name-defined]
    """A started process, as its ``Process`` object sees it."""

    method = "fork"
    returncode: int | None
    finalizer: None = None  # of the standard class; `close` does its work
    sentinel: int = -1
    pid = 0
    _token = 0
    _fork_before = 0  # the slot of the fork before this one
    _reaping: threading.Lock
    _kill_at: float | None = None  # on the monotonic clock: the program ends, and joins what it has terminated
    _descriptors: tuple[int, ...] = ()  # what `close` closes

    def __init__(self, process_obj: Any) -> None:
        _flush_std_streams()
        self._owner = os.getpid()
        self._daemon = process_obj.daemon
        self.returncode = None  # set later, by whichever thread learns of the end (see `_pool.waiting.Awaited`)
        self._reaping = threading.Lock()
        try:
            self._launch(process_obj)
            process_obj._popen = self  # here, and not by the caller: a signal handler may raise on the way back to it
        except BaseException:
            self.take_back()
            raise

    def take_back(self) -> None:
        """The start has failed, or a signal handler has raised in the middle of it: end the child if it has been made."""
        if os.getpid() != self._owner:  # this is the child, and what is above is its parent's
            leave(1)
        try:
            self._end_child()
            if self._token:
                _native.slot_recover(self._token)
        finally:
            self.close()

    def _end_child(self) -> None:
        pid = self.pid or self._forked_unnoticed()
        if pid and self.returncode is None:
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)

    def _forked_unnoticed(self) -> int:
        """The child that was forked just before a handler raised; 0 if none was. It takes its slot before anything else."""
        token = _native.fork_token()
        if token in {0, self._fork_before}:
            return 0
        self._token = token
        until = time.monotonic() + CLAIM_SECONDS
        while _native.slot_claimed_by(token) == 0 and time.monotonic() < until:
            time.sleep(0.001)
        return _native.slot_claimed_by(token)

    def _launch(self, process_obj: Any) -> None:
        _native.arena_ensure()
        self._fork_before = _native.fork_token()
        _native.watcher_start()
        ready = prepare_fork(self._owner, process_obj)
        mask = set_mask(signal.SIG_BLOCK, ())
        try:
            set_mask(signal.SIG_BLOCK, held_at_fork())
            if ready.sentinel is None or ready.sentinel < 0:
                self._launch_with_pipes(process_obj, mask)
            else:
                os.close(os.dup(ready.sentinel))  # if there is no descriptor left to know the child by, it is not made
                self._launch_with_pidfd(process_obj, ready, mask)
        finally:
            set_mask(signal.SIG_SETMASK, mask)

    def _launch_with_pidfd(self, process_obj: Any, ready: Prepared, mask: set[int]) -> None:
        context, replaced = unless_in_force(process_obj._start_method), replaces_bootstrap(process_obj)
        if len(threading._active) > 1 or _runtime.unseen_threads:  # type: ignore[attr-defined]
            from shoal._runtime.threads import announce_fork  # noqa: PLC0415 - rarely needed

            pid = _fork(process_obj, announce_fork())
        else:
            pid = _fork(process_obj, os.fork)
        if pid == 0:
            run_forked(process_obj, ready, context, replaced, mask)
        self.pid = pid
        self._token = token = _native.fork_token()
        _native.slot_set_pid(token, pid)
        # Without its descriptor a child is not let live.
        self.sentinel = sentinel = _runtime.pidfd_of(pid)
        self._descriptors = (sentinel,)

    def _launch_with_pipes(self, process_obj: Any, mask: set[int]) -> None:
        """The way of the standard library, for systems without pidfds."""
        context, replaced = unless_in_force(process_obj._start_method), replaces_bootstrap(process_obj)
        parent_reads, child_holds = _runtime.pipe()
        child_reads, parent_holds = _runtime.pipe()
        self._descriptors = (parent_reads, parent_holds)
        from shoal._runtime.threads import announce_fork  # noqa: PLC0415 - rarely needed

        try:
            self.pid = pid = _fork(process_obj, announce_fork())
            if pid == 0:
                os.close(parent_reads)
                os.close(parent_holds)
                run_forked(process_obj, prepare(process_obj, child_reads), context, replaced, mask)
        finally:
            os.close(child_holds)
            os.close(child_reads)
        self._token = token = _native.fork_token()
        _native.slot_set_pid(token, pid)
        self.sentinel = parent_reads

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """Return the exit code, or None while the child lives. A `flag` of 0 waits for it."""
        # One thread waits in the kernel, with the lock. While it does, the others know: not ended, or about to be known.
        if self.returncode is None:
            reaping = self._reaping
            if reaping.acquire(flag != os.WNOHANG):
                try:
                    if self.returncode is None:
                        self.returncode = self._take_status(flag)
                finally:
                    reaping.release()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the child.

        Args:
            timeout: seconds; None waits for as long as it takes.

        Returns:
            The exit code, or None if the child is still alive after the timeout.
        """
        if self.returncode is None:
            if timeout is not None and not _native.has_ended(self.sentinel, timeout):
                return None
            until = self._kill_at
            if until is not None and not _native.has_ended(self.sentinel, max(0.0, until - time.monotonic())):
                self.kill()
        # Its end has come, or is waited for: only then may this block.
        return self.poll(0)

    def _take_status(self, flag: int) -> int | None:
        if flag == 0 and _runtime.pidfds_work:  # (a pipe is held by the child's children too)
            _native.has_ended(self.sentinel, None)
        try:
            pid, status = os.waitpid(self.pid, flag)
        except ChildProcessError:  # not this process's child, or somebody else has waited for it
            ended = _native.has_ended(self.sentinel, None if flag == 0 else 0)
            return self._settle(self._status_of_stranger()) if ended else None
        if pid != self.pid:
            return None
        return self._settle(os.waitstatus_to_exitcode(status))

    def _settle(self, code: int) -> int:
        """Return the exit code of a child that is dead, once what it held has been given back: nobody hears of its end before that."""
        try:
            _native.slot_recover(self._token)
        except BaseException:
            self.returncode = code  # a signal handler raised meanwhile, and not everybody tells a code twice
            raise
        return code

    def _status_of_stranger(self) -> int:
        """The exit code of a process that has ended, and whose status somebody else has taken."""
        code = _native.slot_exit_code(self._token) if self._token else None
        if code is None:
            from shoal._runtime.exits import status_behind  # noqa: PLC0415 - rarely needed

            code = status_behind(self.sentinel)
        return UNKNOWN if code is None else code

    def interrupt(self) -> None:
        """Send SIGINT."""
        self._send_signal(signal.SIGINT)

    def terminate(self) -> None:
        """Send SIGTERM. At the end of the program, which joins its daemons, a stopped one is let go on as well, and what has not ended in time is killed."""
        super().terminate()
        if self._daemon and _util._exiting:
            self._send_signal(signal.SIGCONT)
            self._kill_at = time.monotonic() + DAEMON_SECONDS

    def close(self) -> None:
        """Close the sentinel and whatever else is held for the child."""
        descriptors, self._descriptors = self._descriptors, ()
        if os.getpid() == self._owner:
            for descriptor in descriptors:
                os.close(descriptor)

    def __del__(self) -> None:
        # At interpreter exit the names of this module may be gone; the kernel closes then.
        if self._descriptors and os is not None:
            self.close()


def _fork(process_obj: Any, fork: Callable[[], int]) -> int:
    _native.fork_flags(process_obj.daemon, process_obj._die_with_parent)
    return fork()
