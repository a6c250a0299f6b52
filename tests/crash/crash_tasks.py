"""What the processes of the crash tests run, beside ``pool_tasks``."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import shoal


def sleep_long(_: object = None) -> None:
    time.sleep(60)


def say_ready(event: Any) -> None:
    event.set()
    time.sleep(60)


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
