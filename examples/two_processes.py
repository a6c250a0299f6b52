"""Two processes do twice the work in the time of one: fib(35), twice in a row and twice side by side.

python two_processes.py [n]
"""

import multiprocessing
import sys
import time


def fib(n):
    """The slow way: all the time goes into calls."""
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def show(n):
    """What each process does."""
    print(f"fib({n}) = {fib(n)}", flush=True)


def main():
    """Time both."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 35

    begin = time.perf_counter()
    show(n)
    show(n)
    print(f"one after the other: {time.perf_counter() - begin:.2f} s")

    begin = time.perf_counter()
    processes = [multiprocessing.Process(target=show, args=(n,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    print(f"side by side: {time.perf_counter() - begin:.2f} s")


if __name__ == "__main__":
    main()
