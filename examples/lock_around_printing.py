"""A lock keeps what belongs together together: three lines of each process, never mixed."""

import multiprocessing

WORDS = ("one", "two", "three")


def count(name, lock):
    """Print three lines in one go."""
    with lock:
        for word in WORDS:
            print(f"{name}: {word}", flush=True)


def main():
    """Five processes that want to print."""
    lock = multiprocessing.Lock()
    children = [multiprocessing.Process(target=count, args=(f"process {n}", lock)) for n in range(5)]
    for child in children:
        child.start()
    for child in children:
        child.join()


if __name__ == "__main__":
    main()
