"""What shoal raises and warns of, beyond the exceptions of the standard library.

Wherever ``multiprocessing`` has an exception (``ProcessError``, ``TimeoutError``, ``BufferTooShort``, ``AuthenticationError``, ``queue.Empty``, …),
shoal raises that very class. The classes here say what it has no word for. Each of them derives from ``ProcessError``, so that code
written for the standard library catches it; carries its facts as attributes; and survives pickling. Their messages say what happened, why, and
what to do next.

Relies on the standard library alone.
"""

from __future__ import annotations

import errno
import signal

from shoal import _standard

__all__ = [
    "AbandonedLockError",
    "AbandonedLockWarning",
    "AuthenticationInterruptedError",
    "BrokenPoolError",
    "DescriptorLostError",
    "ForkServerError",
    "ForkServerWarning",
    "MainGuardError",
    "ManagerDied",
    "NotSupportedError",
    "PoolTerminatedError",
    "ShoalError",
    "StaleReferenceError",
    "UnencryptedListenerWarning",
    "WorkerLostError",
    "describe_exit",
]


def describe_exit(exitcode: int | None) -> str:
    """Say in words how a process ended: ``killed by SIGKILL``, ``exit code 3``.

    Args:
        exitcode: as ``Process.exitcode`` has it: negative for a signal, None when it is not known.
    """
    if exitcode is None:
        return "its exit status is unknown"
    if exitcode >= 0:
        return f"exit code {exitcode}"
    return f"killed by {signal_name(exitcode)}"


def signal_name(exitcode: int) -> str:
    """Name the signal behind a negative exit code: ``SIGKILL``, ``signal 40``."""
    try:
        return signal.Signals(-exitcode).name
    except ValueError:
        return f"signal {-exitcode}"


class ShoalError(_standard.context.ProcessError):
    """Base of the exceptions that only shoal raises."""


class StaleReferenceError(ShoalError):
    """A pickled shared object (lock, queue, …) no longer exists, or belongs to another tree of processes.

    A message, and the arguments of a process, keep what they refer to alive until it is received. A plain ``pickle.dumps(lock)`` does not: it
    resolves for as long as some process holds the object. Keep the object referenced, or send it through a queue, a pipe or ``Process(args=…)``.
    """


class AbandonedLockError(ShoalError):
    """The process that held this lock died, and the lock was made with ``on_abandoned="raise"``.

    What the lock protects may be half changed. The lock itself has been given back, and can be taken again.
    """


class AbandonedLockWarning(RuntimeWarning):
    """The process that held this lock died; who waited for it has it now. What the lock protects may be half changed."""


class AuthenticationInterruptedError(ShoalError, _standard.context.AuthenticationError, EOFError):
    """The other side of a new connection hung up before both sides had proved that they know the authentication key.

    An ``EOFError`` too, which is what the standard library raises.
    """

    def __str__(self) -> str:
        return super().__str__() or (
            "the other side hung up during authentication: it has ended, has no authentication key, or does not speak this protocol"
        )


class UnencryptedListenerWarning(RuntimeWarning):
    """A listener can be reached over a network, and what goes over it is neither encrypted nor protected against changes."""


class WorkerLostError(ShoalError):
    """The process that ran a task died; the other tasks of the pool are not affected.

    Attributes:
        task: what was run, in words (``work(5)``, ``items 10 to 12 of work``).
        pid: the process id of the worker, None if it is not known.
        exitcode: as ``Process.exitcode``: negative is the number of a signal, None if it is not known.
    """

    def __init__(self, task: object, pid: int | None = None, exitcode: int | None = None) -> None:
        super().__init__(task, pid, exitcode)
        self.task = task
        self.pid = pid
        self.exitcode = exitcode

    def name_function(self, inner: str, name: str) -> None:
        """Call the function in `task` by the name that the user knows."""
        self.task = str(self.task).replace(inner, name, 1)
        self.args = (self.task, self.pid, self.exitcode)

    @property
    def signal(self) -> str | None:
        """The name of the signal that killed the worker (``SIGKILL``), or None if it was no signal."""
        return signal_name(self.exitcode) if self.exitcode is not None and self.exitcode < 0 else None

    def __str__(self) -> str:
        text = f"the worker (pid {self.pid}) that ran {self.task} died: {describe_exit(self.exitcode)}"
        if self.signal == "SIGKILL":
            return text + "; if nobody sent that, the kernel was out of memory (see dmesg)"
        if self.signal in {"SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL", "SIGFPE"}:
            return text + "; native code crashed, python -X faulthandler shows where"
        return text


class BrokenPoolError(ShoalError):
    """The pool cannot have workers: its initializer fails, or new processes die or cannot be started. ``__cause__`` says why."""


class PoolTerminatedError(ShoalError):
    """The pool was terminated before this task was finished."""


class ManagerDied(ShoalError, EOFError, ConnectionError):  # noqa: N818 - says what happened
    """A manager's server has gone, or the connection to it is lost. The next call tries to reach it again.

    An ``EOFError`` and a ``ConnectionError`` too: what the standard library raises, according to the moment.

    Attributes:
        address: where the server was.
        why: what the attempt to reach it gave.
    """

    def __init__(self, address: object = None, why: str | None = None) -> None:
        super().__init__(address, why)
        self.errno, self.strerror = errno.ECONNRESET, why
        self.address = address
        self.why = why

    def __str__(self) -> str:
        reason = f" ({self.why})" if self.why else ""
        return (
            f"the manager's server at {self.address!r} has ended, or the connection to it is lost{reason}; whether the last call was carried out is not "
            "known. Once a server is there again, the next call reaches it."
        )


class DescriptorLostError(ShoalError, OSError):
    """A descriptor (a socket, the end of a pipe) in a message could not be had from the process that sent it.

    Attributes:
        pid: that process.
        why: what happened.
    """

    def __init__(self, pid: int, why: str) -> None:
        super().__init__(pid, why)
        self.pid = pid
        self.why = why

    def __str__(self) -> str:
        return f"a descriptor in this message cannot be had from process {self.pid}: {self.why}"


class ForkServerError(ShoalError, EOFError):
    """The fork server did not start a process, though it was started anew. Its own messages are on the standard error stream.

    An ``EOFError``, as with the standard library, whose clients find the server's end of their pipe closed.
    """


class ForkServerWarning(RuntimeWarning):
    """The fork server cannot fork safely, because what it has imported started threads: children are started as fresh interpreters."""


class MainGuardError(ShoalError, RuntimeError):
    """A child that imports the program's main module was to start processes by that, or to set the start method: the module has no ``if __name__ == "__main__":``.

    Attributes:
        EXITCODE: by which a pool's worker tells the pool of it: the system's ``EX_CONFIG``.
    """

    EXITCODE = 78


class NotSupportedError(ShoalError, NotImplementedError):
    """This system or this kind of object does not offer what was asked for.

    Attributes:
        what: the thing asked for.
        why: what is missing.
        instead: what to do about it.
    """

    def __init__(self, what: str, why: str = "", instead: str = "") -> None:
        super().__init__(what, why, instead)
        self.what = what
        self.why = why
        self.instead = instead

    def __str__(self) -> str:
        return "".join([self.what, f": {self.why}" if self.why else "", f"; {self.instead}" if self.instead else ""])
