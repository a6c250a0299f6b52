"""The library's own log, and a program's log that several processes write: each line says which one it is from."""

import logging
import multiprocessing
import sys


def work(number):
    """Write one line."""
    logging.getLogger("work").warning("task %d", number)


def prepare():
    """In each child, however it is started, logging is set up anew."""
    logging.basicConfig(stream=sys.stdout, format="%(processName)s: %(message)s", force=True)


def child(number):
    """Be one process of the program."""
    prepare()
    work(number)


def main():
    """First one's own log, then that of the library."""
    prepare()
    for number in range(2):
        process = multiprocessing.Process(target=child, args=(number,), name=f"worker {number}")
        process.start()
        process.join()
    work(2)

    logger = multiprocessing.get_logger()
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("[%(levelname)s/%(processName)s] %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)
    logger.info("nobody sees this")
    logger.warning("doomed")
    print(multiprocessing.get_logger() is logger, logger.name)


if __name__ == "__main__":
    main()
