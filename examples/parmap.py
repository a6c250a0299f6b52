"""A parallel map in one line, for any callable, with no pool to make and to close. Only shoal has it."""

import hashlib

import shoal


class Scale:
    """Something with a method."""

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, number):
        """Multiply."""
        return self.factor * number


def digest(text):
    """A function of a module."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def main():
    """What can be mapped."""
    print(shoal.parmap(digest, ["one", "two", "three"]))

    offset = 100
    print(shoal.parmap(lambda x: x + offset, range(5)))
    print(shoal.parmap(Scale(3), (x for x in range(5))))
    print(shoal.parmap(pow, [2, 3, 4], [5, 2, 3]))

    # In a worker, too.
    print(shoal.parmap(lambda row: shoal.parmap(lambda column: row * column, range(4)), range(3)))

    try:
        shoal.parmap(lambda x: 1 // x, [1, 0])
    except ZeroDivisionError as error:
        print(f"An error in a worker is raised here: {error}")


if __name__ == "__main__":
    main()
