"""fib(35) twice: one after the other, with two processes, and with a pool of two.

An ordinary program for ``multiprocessing``. It prints what it did; with ``--report FILE`` it writes the figures there as JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

TWICE = 2


def fib(n: int) -> int:
    """Return the n-th Fibonacci number, in the slow way."""
    return n if n <= 1 else fib(n - 1) + fib(n - 2)


def library() -> str:
    """Return the name of the package that this process has as ``multiprocessing``."""
    return str(multiprocessing.get_context().Process.__module__.partition(".")[0])


def compute(n: int) -> tuple[int, str]:
    """Return fib(n), and who brought us here."""
    return fib(n), library()


def compute_and_put(n: int, results: Any) -> None:
    """Do the work of one process."""
    results.put(compute(n))


def alone(n: int) -> list[tuple[int, str]]:
    """One after the other, in this process."""
    return [compute(n) for _ in range(TWICE)]


def two_processes(n: int) -> list[tuple[int, str]]:
    """One process for each."""
    results: Any = multiprocessing.Queue()
    workers = [multiprocessing.Process(target=compute_and_put, args=(n, results)) for _ in range(TWICE)]
    for worker in workers:
        worker.start()
    found = [results.get() for _ in workers]
    for worker in workers:
        worker.join()
    return found


def pool_of_two(n: int) -> list[tuple[int, str]]:
    """Through the map of a pool, which is made and closed within the time."""
    with multiprocessing.Pool(TWICE) as pool:
        return pool.map(compute, [n] * TWICE)


def timed(work: Callable[[int], list[tuple[int, str]]], n: int) -> dict[str, Any]:
    """Do one kind of work, and return its time in seconds with what came out."""
    start = time.perf_counter()
    found = work(n)
    seconds = time.perf_counter() - start
    values, libraries = zip(*found, strict=True)
    return {"seconds": seconds, "result": list(values), "libraries": sorted(set(libraries))}


def main() -> None:
    """Do the three kinds of work in turn."""
    parser = argparse.ArgumentParser(description="fib(n) twice: alone, with two processes, with a pool of two")
    parser.add_argument("-n", type=int, default=35)
    parser.add_argument("--report", type=Path, help="write the figures to this file, as JSON")
    options = parser.parse_args()
    runs = {
        "alone": timed(alone, options.n),
        "processes": timed(two_processes, options.n),
        "pool": timed(pool_of_two, options.n),
    }
    for name, run in runs.items():
        print(f"{name:10}{run['seconds']:8.3f} s   {run['result']}   {', '.join(run['libraries'])}")
    if options.report:
        options.report.write_text(json.dumps({"runs": runs, "facts": {"n": options.n}}), encoding="utf-8")


if __name__ == "__main__":
    main()
