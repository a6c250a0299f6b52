"""Workers of one's own on two queues: tasks go into one, results come out of the other, a sentinel for each sends them home."""

import multiprocessing
import time


def serve(tasks, results):
    """Take tasks until there is a None."""
    for function, arguments in iter(tasks.get, None):
        results.put(f"{function.__name__}{arguments} = {function(*arguments)}")


def times(a, b):
    """Multiply, after a moment."""
    time.sleep(a % 3 / 100)
    return a * b


def plus(a, b):
    """Add, after a moment."""
    time.sleep(a % 3 / 100)
    return a + b


def main():
    """Have more tasks done than there are workers; add some while they work."""
    tasks, results = multiprocessing.Queue(), multiprocessing.Queue()
    for n in range(3):
        tasks.put((times, (n, 7)))
    workers = [multiprocessing.Process(target=serve, args=(tasks, results)) for _ in range(2)]
    for worker in workers:
        worker.start()
    print("unordered:", sorted(results.get() for _ in range(3)))

    for n in range(3):
        tasks.put((plus, (n, 8)))
    print("and more:", sorted(results.get() for _ in range(3)))

    for _ in workers:
        tasks.put(None)
    for worker in workers:
        worker.join()
    print("workers left with", [worker.exitcode for worker in workers])

    # A queue that counts what was taken and not yet done: join() waits for the last task_done().
    counted = multiprocessing.JoinableQueue()
    cleaner = multiprocessing.Process(target=tick_off, args=(counted,), daemon=True)
    cleaner.start()
    for n in range(5):
        counted.put(n)
    counted.join()
    print("all ticked off:", counted.empty())


def tick_off(queue):
    """Do nothing, well."""
    while True:
        queue.get()
        queue.task_done()


if __name__ == "__main__":
    main()
