"""A number and a list of numbers in shared memory: what a child writes, its parent reads."""

import multiprocessing


def fill(number, array):
    """Change them in place."""
    number.value = 3.1415927
    for i in range(len(array)):
        array[i] = -array[i]


def count(counter, times):
    """Add one, many times. Reading, adding and writing are three steps, so the lock is held over them."""
    for _ in range(times):
        with counter.get_lock():
            counter.value += 1


def main():
    """Let children change what this process made."""
    number = multiprocessing.Value("d", 0.0)
    array = multiprocessing.Array("i", range(10))
    child = multiprocessing.Process(target=fill, args=(number, array))
    child.start()
    child.join()
    print(number.value)
    print(array[:])

    counter = multiprocessing.Value("i", 0)
    children = [multiprocessing.Process(target=count, args=(counter, 1000)) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    print(f"four children counted to {counter.value}")


if __name__ == "__main__":
    main()
