"""A pool of workers: the same function for many items, the results in order."""

import multiprocessing


def square(number):
    """The function; a pool calls it in its workers."""
    return number * number


def main():
    """Three ways to ask."""
    with multiprocessing.Pool(processes=4) as pool:
        print(pool.map(square, range(10)))

        # One call, without waiting for it.
        result = pool.apply_async(square, (20,))
        print(result.get(timeout=10))

        # Results as they come, each as soon as it is there.
        print(sum(pool.imap_unordered(square, range(10))))

        try:
            pool.apply(square, ("twenty",))
        except TypeError as error:
            print(f"An error in a worker is raised here: {error}")


if __name__ == "__main__":
    main()
