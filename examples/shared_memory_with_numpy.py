"""One array, many processes, no copy: shared memory by name, with NumPy looking at it."""

import multiprocessing
from multiprocessing.shared_memory import SharedMemory

import numpy as np

LENGTH = 1_000_000


def fill(name, begin, end):
    """Attach to the block by its name, and write one part of the array."""
    block = SharedMemory(name)
    array = np.ndarray(LENGTH, dtype=np.float64, buffer=block.buf)
    array[begin:end] = np.sqrt(np.arange(begin, end))
    del array  # nobody may look at the block any more when it is closed
    block.close()


def main():
    """Make the block, have it filled, look at it, take it away."""
    block = SharedMemory(create=True, size=LENGTH * 8)
    try:
        half = LENGTH // 2
        children = [multiprocessing.Process(target=fill, args=(block.name, begin, begin + half)) for begin in (0, half)]
        for child in children:
            child.start()
        for child in children:
            child.join()

        array = np.ndarray(LENGTH, dtype=np.float64, buffer=block.buf)
        print(array[:5].round(3), array[-1].round(3))
        print("as computed here:", np.array_equal(array, np.sqrt(np.arange(LENGTH))))
        del array
    finally:
        block.close()
        block.unlink()  # once, by whoever made it


if __name__ == "__main__":
    main()
