"""A small program that starts processes.

``start_plain.py MODULE METHOD STARTS`` prints the median of the seconds that a start and a join took.
"""

from __future__ import annotations

import importlib
import sys
import time


def nothing() -> None:
    """What the children do."""


def main() -> None:
    """Two starts to warm up, then each of the others by itself."""
    module, method, starts = sys.argv[1:]
    context = importlib.import_module(module).get_context(method)
    durations = []
    for _ in range(2 + int(starts)):
        begin = time.perf_counter()
        process = context.Process(target=nothing)
        process.start()
        process.join()
        durations.append(time.perf_counter() - begin)
        if process.exitcode != 0:
            sys.exit(f"a child ended with exit code {process.exitcode}")
    timed = sorted(durations[2:])
    print(timed[len(timed) // 2])


if __name__ == "__main__":
    main()
