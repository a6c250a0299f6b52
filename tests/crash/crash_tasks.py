"""What the processes of the crash tests run, beside ``pool_tasks``."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from typing import Any

import psutil

import shoal
from shoal import _native
from shoal.connection import Listener


def sleep_long(_: object = None) -> None:
    time.sleep(60)


def heed_no_termination() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.write(1, b"ready\n")
    time.sleep(60)


def listen(event: Any) -> None:
    with Listener():
        say_ready(event)


def say_ready(event: Any) -> None:
    event.set()
    time.sleep(60)


def say_when_told(started: Any, go_on: Any, alive: Any) -> None:
    started.set()
    go_on.wait()
    say_ready(alive)


def kill_watchers() -> None:
    """Both, so that neither can replace the other."""
    while not (pid := _native.watcher_pid()) or not (watcher := psutil.Process(pid)).children():
        time.sleep(0.01)
    both = [watcher, *watcher.children()]
    for process in both:
        process.suspend()
    for process in both:
        process.kill()
    for process in both:
        process.wait()


def wait_for(event: Any) -> None:
    event.wait(60)


def start_sleepers(method: str, pids: Any, *, die_with_parent: bool) -> None:
    """Start a daemon and one that is no daemon, and sleep."""
    context = shoal.get_context(method)
    daemon = context.Process(target=sleep_long, daemon=True)
    lasting = context.Process(target=sleep_long, die_with_parent=die_with_parent)
    daemon.start()
    lasting.start()
    pids.put((daemon.pid, lasting.pid))
    time.sleep(60)


def nest(method: str, depth: int, event: Any = None) -> int:
    """A pool in a pool in a pool …; returns how deep it got, or sets the event and sleeps there."""
    if depth == 0:
        if event is not None:
            event.set()
            time.sleep(60)
        return 0
    with shoal.get_context(method).Pool(1) as pool:
        return 1 + int(pool.apply(nest, (method, depth - 1, event)))


def pid_and_wait(event: Any) -> int:
    event.wait(60)
    return os.getpid()


def wait_quietly(event: Any) -> None:
    """Until it is ended. Ctrl-C reaches it, too, and is not its business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    event.set()
    time.sleep(60)


def put_bytes(queue: Any, count: int) -> None:
    queue.put(bytes(count))


def answer(queue: Any, connection: Any, event: Any, lock: Any) -> None:
    """Things that somebody waits for, one by one."""
    queue.put(1)
    queue.put(2)
    time.sleep(0.02)
    connection.send(3)
    with lock:
        event.set()


CAP_SYS_ADMIN, CAP_SYS_RESOURCE = 21, 24


def be_bound_by_limits() -> None:
    """Neither the superuser nor who has these capabilities is bound by RLIMIT_NPROC; everything else the process may do it keeps."""
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    os.setresuid(65534, 0, 0)
    head = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()
    if libc.capget(head, sets) == 0:
        for kind in (0, 1):  # effective, permitted
            sets[kind] &= ~(1 << CAP_SYS_ADMIN | 1 << CAP_SYS_RESOURCE)
        libc.capset(head, sets)


def hold(thing: Any, how: str, event: Any) -> None:
    """Have something in hand, and keep it."""
    if how == "take":
        thing.acquire()
    elif how == "enter":
        thing.__enter__()
    elif how == "get_one":
        thing.get()
    event.set()
    if how == "wait_at":
        thing.wait()
    time.sleep(60)


def hold_and_fail(thing: Any, how: str) -> None:
    thing.acquire()
    if how == "raise":
        raise RuntimeError("with the lock in hand")
    sys.exit(3)


def pass_and(barrier: Any, how: str, event: Any) -> None:
    """Pass a barrier, and end before coming again."""
    barrier.wait()
    event.wait()
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "raise":
        raise RuntimeError("between two rounds")
    elif how == "leave":
        sys.exit(3)


def come_when_told(barrier: Any, ready: Any, how: str, event: Any) -> None:
    """Pass a barrier when told so, and end before coming again."""
    ready.wait()
    pass_and(barrier, how, event)


def pass_often(barrier: Any, times: int, done: Any) -> None:
    passed = 0
    try:
        while passed < times:
            barrier.wait()
            passed += 1
    except threading.BrokenBarrierError:
        pass
    done.put(passed)


def get_and_fail(queue: Any, how: str) -> None:
    queue.get()
    if how == "raise":
        raise RuntimeError("the item cannot be dealt with")
    sys.exit(3)


def hand_on(queue: Any, received: Any) -> None:
    """Hand on what is taken, for another to report; keep what says so."""
    while True:
        item = queue.get()
        received.put(os.getpid())
        if item == "kept":
            time.sleep(60)


def wait_for_notification(condition: Any, entered: Any, told: Any) -> None:
    with condition:
        entered.release()
        condition.wait()
        told.set()


def take_and_exit(*locks: Any) -> None:
    for lock in locks:
        lock.acquire()
