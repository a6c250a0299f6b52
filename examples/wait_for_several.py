"""Wait for whichever comes first: messages of several pipes, their ends, and the end of processes."""

import multiprocessing
from multiprocessing.connection import wait


def count(writer, name):
    """Say something a few times, and hang up."""
    for number in range(4):
        writer.send((name, number))
    writer.close()


def main():
    """Read all pipes as they have something; one that is at its end is left out."""
    readers, children = [], []
    for name in "abc":
        reader, writer = multiprocessing.Pipe(duplex=False)
        readers.append(reader)
        children.append(multiprocessing.Process(target=count, args=(writer, name)))
        children[-1].start()
        writer.close()  # so that the child has the only one, and its end is seen here

    heard = []
    while readers:
        for reader in wait(readers):
            try:
                heard.append(reader.recv())
            except EOFError:
                readers.remove(reader)
    print("heard:", sorted(heard))
    print("each in order:", all([n for who, n in heard if who == name] == [0, 1, 2, 3] for name in "abc"))

    # A process's sentinel is ready when it has ended.
    alive = {child.sentinel: child for child in children}
    while alive:
        for sentinel in wait(list(alive), timeout=30):
            alive.pop(sentinel).join()
    print("exit codes:", [child.exitcode for child in children])


if __name__ == "__main__":
    main()
