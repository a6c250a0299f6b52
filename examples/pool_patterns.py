"""All that a pool offers: each way of asking, what an error, a timeout and a lazy input do, and its two ends."""

import multiprocessing


def times(a, b):
    """Multiply."""
    return a * b


def inverse(number):
    """Fail for nought."""
    return 1 / number


def whole_or_none(number):
    """Take a chunk apart, or not."""
    return number if number % 3 else None


def prepare(event):
    """Be called first in each worker, which can be given what does not go with a task."""
    global gate
    gate = event


def late(word):
    """Answer when it is time."""
    gate.wait()
    return word


def main():
    """Ask in every way."""
    event = multiprocessing.Event()
    with multiprocessing.Pool(3, initializer=prepare, initargs=(event,)) as pool:
        print("apply:", pool.apply(times, (6, 7)))
        print("map:", pool.map(whole_or_none, range(7), chunksize=2))
        print("starmap:", pool.starmap(times, [(1, 2), (3, 4)]))
        print("imap:", list(pool.imap(whole_or_none, (n for n in range(4)))))
        print("imap_unordered:", sorted(pool.imap_unordered(inverse, [1, 2, 4])))

        # Without waiting; callbacks are called here, in a thread of the pool.
        told = []
        results = [pool.apply_async(times, (n, n), callback=told.append) for n in range(4)]
        print("apply_async:", [result.get(timeout=30) for result in results])
        failed = pool.map_async(inverse, [1, 0], error_callback=lambda error: told.append(type(error).__name__))
        failed.wait(timeout=30)
        print("map_async:", failed.ready(), failed.successful())
        print("callbacks:", sorted(told, key=str))

        # An error comes where its result is asked for, and the others are still to be had.
        numbers = pool.imap(inverse, [2, 0, 4])
        found = []
        while len(found) < 3:
            try:
                found.append(next(numbers))
            except ZeroDivisionError as error:
                found.append(str(error))
        print("an error among results:", found)

        # Who does not want to wait says for how long.
        slow = pool.apply_async(late, ("here",))
        try:
            slow.get(timeout=0.01)
        except multiprocessing.TimeoutError:
            event.set()
            print("not there yet, but in the end:", slow.get())

        event.clear()
        slow = pool.imap(late, ["here"])
        try:
            slow.next(timeout=0.01)
        except multiprocessing.TimeoutError:
            event.set()
            print("the same of an iterator:", slow.next())

    pool.join()  # leaving the block has terminated it
    try:
        pool.map(inverse, [1])
    except ValueError as error:
        print("too late:", error)

    patient = multiprocessing.Pool(2, maxtasksperchild=1)
    last = patient.map_async(inverse, [1, 2, 4, 8])
    patient.close()  # what was asked for is still answered
    patient.join()
    print("after close and join:", last.get())


if __name__ == "__main__":
    main()
