"""What the processes of the soak run. They tell of what they do by appending short lines to files: one ``write`` each, which no kill cuts in two."""

from __future__ import annotations

import os
import time
from typing import Any

import shoal

__all__ = ["consume", "leave", "nothing", "produce", "run"]

_logs: dict[str, int] = {}


def tell(path: str, line: str) -> None:
    """Append a line."""
    if path not in _logs:
        _logs[path] = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.write(_logs[path], f"{line}\n".encode())


def run(path: str, number: int, seconds: float, bulk: int) -> tuple[int, bytes]:
    """A task: tell that it is run, take its time, return its double and some ballast."""
    tell(path, str(number))
    if seconds:
        time.sleep(seconds)
    return 2 * number, bytes(bulk)


def run_item(item: tuple[str, int, float, int]) -> tuple[int, bytes]:
    """The same, of one argument."""
    return run(*item)


def nothing(number: int) -> int:
    """A task that says and takes nothing."""
    return 2 * number


def leave(method: str, least: int, over: Any, reports: Any) -> None:
    """Run tasks, a worker for each, until it is over and there were enough of them; report how many there were, twenty at a time, or what is wrong."""
    patience = 150.0  # seconds
    numbers = range(20)
    with shoal.get_context(method).Pool(2, maxtasksperchild=1) as pool:
        done = 0
        while done < least or not over.is_set():
            found = pool.map_async(nothing, numbers, chunksize=1).get(patience)
            if found != [2 * number for number in numbers]:
                reports.send(f"wrong results: {found}")
                break
            done += len(numbers)
            reports.send(len(numbers))
        pool.close()
        pool.join()


def produce(queue: Any, path: str, producer: int, over: Any) -> None:
    """Put numbered items, small and large, until it is over or this is killed."""
    number = 0
    while not over.is_set():
        tell(path, f"b {producer} {number}")
        queue.put((producer, number, bytes(200_000 if number % 50 == 49 else number % 500)))
        tell(path, f"d {producer} {number}")
        number += 1
        if number % 10 == 0:
            time.sleep(0.005)
    tell(path, f"e {producer} {number}")


def consume(queue: Any, path: str, consumer: int) -> None:
    """Get items until None comes."""
    while (item := queue.get()) is not None:
        tell(path, f"g {consumer} {item[0]} {item[1]}")
