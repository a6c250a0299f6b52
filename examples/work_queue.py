"""A work queue that one machine serves and others work off.

On the machine that has the work, and on as many others as there are:

    python work_queue.py serve 10.0.0.1 50000 2
    python work_queue.py work 10.0.0.1 50000

The server waits for the work to be done and prints the results; the last argument says how many workers there are to be sent home. Workers may be started first: they wait
for the server. Across a network that others can read, give both sides ``tls=shoal.TLS(cert, key, ca)`` instead of the option ``-W ignore``.
"""

import contextlib
import queue
import socket
import sys
import threading

from shoal.managers import BaseManager

KEY = b"a secret that all machines know"


class Work(BaseManager):
    """Tasks and results; the server has them, the others only know their names."""


def serve(address, workers):
    """Hand out numbers, and gather their squares."""
    tasks, results = queue.Queue(), queue.Queue()
    Work.register("tasks", lambda: tasks)
    Work.register("results", lambda: results)
    server = Work(address, KEY).get_server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    numbers = range(10)
    for number in numbers:
        tasks.put(number)
    done = [results.get() for _ in numbers]
    for _ in range(workers):
        tasks.put(None)
    names = [results.get() for _ in range(workers)]  # each worker's last word
    print("squares:", sorted(square for _, square in done))
    print("workers:", len(names))


def work(address):
    """Square numbers until there are none."""
    Work.register("tasks")
    Work.register("results")
    manager = Work(address, KEY)
    manager.connect(retry=30)
    tasks, results = manager.tasks(), manager.results()
    while (number := tasks.get()) is not None:
        results.put((number, number * number))
    with contextlib.suppress(EOFError):  # the server has heard it, and gone home first
        results.put(socket.gethostname())
    print("worked")


if __name__ == "__main__":
    place = (sys.argv[2], int(sys.argv[3]))
    if sys.argv[1] == "serve":
        serve(place, int(sys.argv[4]))
    else:
        work(place)
