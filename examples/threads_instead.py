"""From processes to threads and back is one import: `multiprocessing.dummy` has the same names, on threads.

Threads suit work that waits (for a network, for a disk), processes suit work that computes.
"""

import multiprocessing
import multiprocessing.dummy
import os
import time


def wait_a_moment(number):
    """Work that waits; and where it was done."""
    time.sleep(0.05)
    return number, os.getpid()


def main():
    """The same lines on both."""
    for kind, library in (("processes", multiprocessing), ("threads", multiprocessing.dummy)):
        with library.Pool(4) as pool:
            results = pool.map(wait_a_moment, range(8), chunksize=1)
        numbers = [number for number, _ in results]
        here = all(pid == os.getpid() for _, pid in results)
        print(f"{kind}: {numbers}, {'in this process' if here else 'in other processes'}")


if __name__ == "__main__":
    main()
