"""How a parallel map works, on `Process` and `Pipe` alone.

There is one process for each CPU, and each has its share of the items: worker k of n takes the items k, k + n, k + 2n, and so on. Workers are forked, so they have the
function and the items by inheritance; only results travel, through one pipe for each worker. `shoal.parmap` does more: it deals out the next items to whoever is ready,
works with every start method, and survives what may happen to a worker.
"""

import multiprocessing

fork = multiprocessing.get_context("fork")


def work(function, share, connection):
    """In a worker: compute the share, and send the results, or what went wrong."""
    try:
        connection.send((True, [function(item) for item in share]))
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent is to know
        connection.send((False, error))


def parmap(function, items):
    """Return `list(map(function, items))`."""
    items = list(items)
    count = min(multiprocessing.cpu_count(), len(items))
    workers = []
    for k in range(count):
        receiver, sender = fork.Pipe(duplex=False)
        process = fork.Process(target=work, args=(function, items[k::count], sender))
        process.start()
        sender.close()  # only the worker holds it now, so if the worker dies, recv() below raises EOFError
        workers.append((process, receiver))

    results = [None] * len(items)
    failure = None
    for k, (process, receiver) in enumerate(workers):
        good, outcome = receiver.recv()  # before join(): a worker that has much to send waits until it is read
        process.join()
        if good:
            results[k::count] = outcome
        else:
            failure = failure or outcome
    if failure is not None:
        raise failure
    return results


def main():
    """Try it."""
    factor = 3
    print(parmap(lambda x: factor * x, range(10)))
    print(parmap(str.upper, "abc"), parmap(len, []))
    try:
        parmap(lambda x: 1 // x, range(3))
    except ZeroDivisionError as error:
        print(f"An error in a worker is raised here: {error}")


if __name__ == "__main__":
    main()
