"""Producers put work into a queue, consumers take it out; one word for each consumer says that there is no more."""

import multiprocessing

PRODUCERS, CONSUMERS, JOBS = 2, 3, 50
DONE = None


def produce(tasks, first):
    """Put numbers into the queue."""
    for number in range(first, first + JOBS):
        tasks.put(number)


def consume(tasks, results):
    """Take numbers out, until told that there are no more."""
    for number in iter(tasks.get, DONE):
        results.put(number * number)


def main():
    """Start all, and gather what comes out."""
    tasks, results = multiprocessing.Queue(), multiprocessing.Queue()
    producers = [multiprocessing.Process(target=produce, args=(tasks, n * JOBS)) for n in range(PRODUCERS)]
    consumers = [multiprocessing.Process(target=consume, args=(tasks, results)) for _ in range(CONSUMERS)]
    for process in producers + consumers:
        process.start()
    for process in producers:
        process.join()
    for _ in consumers:
        tasks.put(DONE)

    squares = sorted(results.get() for _ in range(PRODUCERS * JOBS))
    for process in consumers:
        process.join()
    print(squares[:5], squares[-1])
    print("as computed here:", squares == [number * number for number in range(PRODUCERS * JOBS)])


if __name__ == "__main__":
    main()
