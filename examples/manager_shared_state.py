"""A Namespace, a dict and a list that live in a manager's server process, edited by children.

Each child gets proxies; what it changes is seen by all. A lock of the manager keeps the read and the write of one sum together.
"""

import multiprocessing


def measure(number, settings, results, finished, lock):
    """What a child does."""
    result = number**settings.power
    results[number] = result
    finished.append(number)
    with lock:
        settings.total += result


def main():
    """Start four of them, and look at what they have left."""
    with multiprocessing.Manager() as manager:
        settings = manager.Namespace(power=2, total=0)
        results = manager.dict()
        finished = manager.list()
        lock = manager.Lock()
        children = [
            multiprocessing.Process(target=measure, args=(number, settings, results, finished, lock))
            for number in range(4)
        ]
        for child in children:
            child.start()
        for child in children:
            child.join()
        print("results:", dict(sorted(results.items())))
        print("finished:", sorted(finished))
        print("total:", settings.total)


if __name__ == "__main__":
    main()
