"""What the workers of the pool tests run: importable in a child of any start method."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

import shoal


def double(number: int) -> int:
    return 2 * number


def pid_of_worker(_: object = None) -> int:
    return os.getpid()


def pid_after(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def die_by(signal_name: str) -> None:
    """Die as the OOM killer or a crash in native code would have it."""
    number = getattr(signal, signal_name)
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    time.sleep(60)


def become(program: str, *arguments: str) -> None:
    os.execvp(program, [program, *arguments])


def die_of(how: int | str) -> None:
    if isinstance(how, str):
        die_by(how)
    else:
        os._exit(how)


def double_or_die(item: int | str) -> int:
    """Double a number; anything else says how to die, as ``SIGKILL`` or ``exit 3``."""
    if isinstance(item, int):
        return 2 * item
    die_of(int(item.removeprefix("exit ")) if item.startswith("exit") else item)
    raise AssertionError(item)


def note(path: str, line: str) -> str:
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    return line


def note_or_die(path: str, number: int, deadly: int) -> int:
    if number == deadly:
        time.sleep(0.05)
        die_by("SIGKILL")
    note(path, str(number))
    return number


def leave(code: object) -> NoReturn:
    sys.exit(code)  # type: ignore[arg-type]


def interrupt() -> NoReturn:
    raise KeyboardInterrupt("by the task")


def fail(message: str) -> NoReturn:
    raise ValueError(message)


def return_what_cannot_be_pickled() -> object:
    return threading.Lock()


class UnpicklableError(Exception):
    def __reduce__(self) -> NoReturn:
        raise TypeError("cannot be pickled")


def raise_what_cannot_be_pickled() -> NoReturn:
    raise UnpicklableError("the reason")


class NeedsTwoError(Exception):
    """Pickled with one argument, loaded with none: as many libraries' exceptions are."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first)
        self.second = second


def raise_what_cannot_be_loaded() -> NoReturn:
    raise NeedsTwoError("the reason", "more")


def refuse(where: str) -> NoReturn:
    raise RuntimeError(f"not to be loaded in {where}")


class LoadsNowhere:
    def __reduce__(self) -> tuple[Any, ...]:
        return refuse, ("any process",)


class KillsWhoLoadsIt:
    def __reduce__(self) -> tuple[Any, ...]:
        return die_by, ("SIGSEGV",)


class EndsWhoLoadsIt:
    def __init__(self, code: int) -> None:
        self.code = code

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (self.code,)


class LeavesWhereItIsLoaded:
    def __reduce__(self) -> tuple[Any, ...]:
        return sys.exit, ("out of a pickle",)


class DeadlyError(Exception):
    def __reduce__(self) -> tuple[Any, ...]:
        return die_by, ("SIGSEGV",)


def raise_what_kills_whoever_loads_it() -> NoReturn:
    raise DeadlyError


class DefiantError(SystemExit):
    """Raised by its own loading."""

    def __reduce__(self) -> tuple[Any, ...]:
        return defy, ()


def defy() -> NoReturn:
    raise DefiantError("not to be loaded")


class DefiesLoading:
    def __reduce__(self) -> tuple[Any, ...]:
        return defy, ()


def make(what: str) -> object:
    """Make what is loaded as it says."""
    made = {
        "raises": LoadsNowhere,
        "leaves": LeavesWhereItIsLoaded,
        "crashes": KillsWhoLoadsIt,
        "defies": DefiesLoading,
    }
    return EndsWhoLoadsIt(int(what.removeprefix("exits "))) if what.startswith("exits") else made[what]()


def plain_or_pickled(item: int | str) -> object:
    """Of an odd number itself, of an even one what needs a pickle; of anything else what is loaded as it says."""
    if isinstance(item, str):
        return make(item)
    return item if item % 2 else complex(item)


def make_what_cannot_be_loaded() -> LoadsNowhere:
    return LoadsNowhere()


def hang() -> None:
    time.sleep(600)


def call(what: tuple[Any, tuple[Any, ...]]) -> Any:
    function, arguments = what
    return function(*arguments)


class PipedQueue:
    """A queue as joblib's and PyTorch's are: a pipe, a lock at each end, and pickles.

    Args:
        context: makes these.
    """

    def __init__(self, context: Any) -> None:
        self._reader, self._writer = context.Pipe(duplex=False)
        self._read_lock, self._write_lock = context.Lock(), context.Lock()

    def put(self, item: object) -> None:
        data = pickle.dumps(item)
        with self._write_lock:
            self._writer.send_bytes(data)

    def get(self) -> object:
        with self._read_lock:
            data = self._reader.recv_bytes()
        return pickle.loads(data)


class SnatchingQueue(PipedQueue):
    """One whose first getter is killed with a message in its hands that it has not loaded."""

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self._once = context.Semaphore(1)

    def get(self) -> object:
        with self._read_lock:
            data = self._reader.recv_bytes()
            is_first = self._once.acquire(block=False)
        if is_first:
            die_by("SIGKILL")
        return pickle.loads(data)


class DeadlyQueue:
    """A queue for tasks that kills the first process that gets the end mark.

    Args:
        queue: the queue.
        once: a semaphore of one, for the one that dies.
    """

    def __init__(self, queue: Any, once: Any) -> None:
        self._queue = queue
        self._once = once
        self._writer = queue._writer

    def put(self, item: object) -> None:
        self._queue.put(item)

    def get(self) -> object:
        item = self._queue.get()
        if item is None and self._once.acquire(block=False):
            die_by("SIGKILL")
        return item


def fork_and(how: str) -> int:
    """Fork a child that comes back from the task, as `how` says; the exit code of the child."""
    pid = os.fork()
    if pid == 0:
        if how == "return":
            return -1
        if how == "leave":
            sys.exit(3)
        raise KeyboardInterrupt if how == "be interrupted" else ValueError("the child's")
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class ForksWhenLoaded:
    """Becomes the exit code of a child that its loading forks, and that comes back from it."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __reduce__(self) -> tuple[Any, ...]:
        return fork_and, (self.how,)


class ForksWhenPickled:
    """Becomes the exit code of a child that its pickling forks, and that comes back from it."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __reduce__(self) -> tuple[Any, ...]:
        return int, (fork_and(self.how),)


def note_and_return(path: str, value: Any) -> Any:
    note(path, str(os.getpid()))
    return value


def returned(value: Any) -> Any:
    return value


def note_and_fork(path: str) -> int:
    """Note the process, and then fork a child that returns."""
    note(path, str(os.getpid()))
    return fork_and("return")


def fork_beside_a_child(_: object) -> bool:
    """Have a child of one's own, and fork one that comes back; whether the former is left alone."""
    own = shoal.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True)
    own.start()
    pid = os.fork()
    if pid == 0:
        return False
    os.waitpid(pid, 0)
    own.join(0.3)
    left_alone = own.exitcode is None
    own.kill()
    own.join()
    return left_alone
