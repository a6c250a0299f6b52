"""What the tests of foreign code run in other processes: importable in a child of any start method."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from typing import Any, NoReturn

import shoal


def square(number: int) -> int:
    return number * number


def fail(word: str) -> NoReturn:
    raise LookupError(word)


def pid() -> int:
    return os.getpid()


def die(how: int) -> NoReturn:
    if how < 0:
        os.kill(os.getpid(), -how)
    os._exit(how)


def what_cannot_be_pickled() -> Any:
    return threading.Lock()


def who_am_i() -> dict[str, Any]:
    """As both packages see it, and logging."""
    record = logging.LogRecord("name", logging.INFO, "path", 1, "message", (), None)
    theirs, ours = multiprocessing.current_process(), shoal.current_process()
    parents = multiprocessing.parent_process(), shoal.parent_process()
    return {
        "names": {theirs.name, ours.name, record.processName},
        "same": theirs is ours,
        "parents": {parent.pid for parent in parents if parent is not None},
        "pid": theirs.pid,
    }


def tell_who_i_am(to: Any, leave: Any) -> None:
    to.put(who_am_i())
    leave.wait()


def use(shared: dict[str, Any], answers: Any) -> None:
    """Use each of the things in the way of its kind, and say what came of it."""
    told = {}
    with shared["lock"], shared["rlock"], shared["rlock"]:
        told["counter"] = shared["queue"].get(timeout=20)
    with shared["condition"]:
        shared["condition"].notify_all()
    shared["semaphore"].release()
    shared["event"].set()
    told["barrier"] = shared["barrier"].wait(20) in {0, 1}
    if "value" in shared:
        with shared["value"].get_lock():
            shared["value"].value += 1
        shared["array"][1] = 7
    shared["connection"].send(("sent", shared["connection"].recv()))
    shared["joinable"].get(timeout=20)
    shared["joinable"].task_done()
    shared["simple"].put("simple")
    answers.put(told)


def use_what_comes(messages: Any, answers: Any) -> None:
    """Of a process that was given nothing of the kind when it was started."""
    use(messages.get(timeout=20), answers)


def use_what_comes_beside_its_own(messages: Any, answers: Any) -> None:
    """Of a process that has made shared objects of its own before the first one comes."""
    own = shoal.Event(), shoal.Queue()
    answers.put(own)
    theirs, counter = messages.get(timeout=20)
    counter.value += 1
    own[1].put("by its queue")
    theirs.set()
    answers.put(own[0].wait(20))


def report_then_use_what_comes(messages: Any, answers: Any) -> None:
    kept = shoal.Lock()
    answers.put("has some")
    use_what_comes_beside_its_own(messages, answers)
    del kept


def pass_on_what_comes(messages: Any, further: Any, answers: Any) -> None:
    further.put(messages.get(timeout=20))
    further.close()
    further.join_thread()
    answers.put("passed on")


def set_what_comes(messages: Any, now: Any, answers: Any) -> None:
    now.wait(20)
    messages.get(timeout=20).set()
    answers.put("set")


def take_what_comes(receiver: Any, answers: Any) -> None:
    lock = receiver.recv()
    lock.acquire()
    answers.put("held")
    answers.close()
    answers.join_thread()  # a standard queue's answer leaves by a thread
    os.kill(os.getpid(), signal.SIGKILL)


def take_and_leave(lock: Any, answers: Any, how: str) -> None:
    lock.acquire()
    answers.put("held")
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)


def wait_for(event: Any, answers: Any) -> None:
    answers.put("waiting")
    answers.put(event.wait(20))
