"""Processes that wait for each other: an event, a condition, a barrier, and a semaphore that lets two in at a time."""

import multiprocessing


def runner(barrier, started, gate, places, inside, most):
    """Wait for all the others, then for the signal; then be one of two inside."""
    barrier.wait()
    with started:
        started.notify_all()
    gate.wait()
    with places:
        with inside.get_lock():
            inside.value += 1
            most.value = max(most.value, inside.value)
        with inside.get_lock():
            inside.value -= 1


def main():
    """Four of them."""
    barrier = multiprocessing.Barrier(5)
    started = multiprocessing.Condition()
    gate = multiprocessing.Event()
    places = multiprocessing.BoundedSemaphore(2)
    inside, most = multiprocessing.Value("i", 0), multiprocessing.Value("i", 0)
    arguments = (barrier, started, gate, places, inside, most)
    children = [multiprocessing.Process(target=runner, args=arguments) for _ in range(4)]
    for child in children:
        child.start()
    with started:
        barrier.wait()  # nobody can notify before this one waits, for that needs the condition's lock
        print("one has spoken:", started.wait(timeout=30))
    print("the gate is open:", gate.is_set())
    gate.set()
    for child in children:
        child.join()
    print("never more than two inside:", most.value <= 2, inside.value)
    try:
        places.release()
    except ValueError as error:
        print("refused:", error)


if __name__ == "__main__":
    main()
