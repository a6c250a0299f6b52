"""Shared memory by name: a block of bytes, a list of simple values, and a manager that takes both away when it ends."""

import multiprocessing
from multiprocessing.managers import SharedMemoryManager
from multiprocessing.shared_memory import ShareableList, SharedMemory


def greet(name):
    """Find the block by its name, and write into it."""
    block = SharedMemory(name)
    block.buf[:5] = b"howdy"
    block.close()


def double(values):
    """Change the items in place. The list travels as its name."""
    for place, value in enumerate(values):
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            values[place] = value * 2
    values.shm.close()


def run(function, argument):
    """Call it in a child."""
    child = multiprocessing.Process(target=function, args=(argument,))
    child.start()
    child.join()


def main():
    """Share them with children."""
    block = SharedMemory(create=True, size=10)
    block.buf[:5] = bytes([22, 33, 44, 55, 66])
    run(greet, block.name)
    print(bytes(block.buf[:5]))
    block.close()
    block.unlink()
    try:
        SharedMemory(block.name)
    except FileNotFoundError:
        print("the block is gone")

    values = ShareableList(["howdy", b"HoWdY", -273.154, 100, None, True, 42])
    run(double, values)
    print(list(values), len(values), values.index(200), values.count(None))
    try:
        values[0] = "a text that is longer than the first was"
    except ValueError as error:
        print("refused:", error)
    values.shm.close()
    values.shm.unlink()

    with SharedMemoryManager() as manager:
        squares = manager.ShareableList([n * n for n in range(5)])
        run(double, squares)
        print(list(squares))


if __name__ == "__main__":
    main()
