"""A process from its making to its end: states, exit codes, relatives, an orderly and a violent death."""

import multiprocessing
import os
import signal
import sys
import time


def introduce(title):
    """Say who this is, and whose child."""
    parent = multiprocessing.parent_process()
    print(f"{title}: {multiprocessing.current_process().name}, child of {parent.name}: {parent.pid == os.getppid()}")
    sys.stdout.flush()


def fail():
    """Leave with an exit code."""
    sys.exit(3)


def main():
    """Watch three of them."""
    first = multiprocessing.Process(target=introduce, args=("a child",), name="first")
    print("before:", first.pid, first.is_alive(), first.exitcode)
    first.start()
    first.join()
    print("after:", first.is_alive(), first.exitcode)

    second = multiprocessing.Process(target=fail)
    second.start()
    second.join()
    print("exit code:", second.exitcode)

    third = multiprocessing.Process(target=time.sleep, args=(600,), daemon=True)
    third.start()
    print("alive:", third in multiprocessing.active_children(), third.is_alive())
    third.terminate()
    third.join(timeout=10)
    print("killed by", signal.Signals(-third.exitcode).name)
    third.close()
    try:
        third.is_alive()
    except ValueError as error:
        print("closed:", error)


if __name__ == "__main__":
    main()
