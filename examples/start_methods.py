"""Contexts: each has a start method of its own and the whole interface, so one program can use several."""

import multiprocessing


def answer(queue, method):
    """What a child does, however it was started."""
    queue.put(f"a child by {method}: {multiprocessing.current_process().name}")


def main():
    """Set the default, and start a child by each method, with a queue of the same context."""
    # What the program uses where it names no context; it can be set once.
    multiprocessing.set_start_method("spawn")
    print("from now on:", multiprocessing.get_start_method())
    try:
        multiprocessing.set_start_method("fork")
    except RuntimeError as error:
        print("refused:", error)

    for method in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        queue = context.Queue()
        child = context.Process(target=answer, args=(queue, method), name=f"{method}ed")
        child.start()
        print(queue.get())
        child.join()


if __name__ == "__main__":
    main()
