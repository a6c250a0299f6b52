"""ctypes objects in shared memory: a number, a string, and an array of structures, guarded by one lock."""

import ctypes
import multiprocessing
from multiprocessing.sharedctypes import Array, Value, copy


class Point(ctypes.Structure):
    """Two coordinates."""

    _fields_ = [("x", ctypes.c_double), ("y", ctypes.c_double)]


def modify(number, fraction, text, points):
    """Square the numbers, shout the text."""
    number.value **= 2
    fraction.value **= 2
    text.value = text.value.upper()
    for point in points:
        point.x **= 2
        point.y **= 2


def main():
    """Give them to a child; what it has changed is changed here."""
    lock = multiprocessing.RLock()  # an item takes it, too, while `get_lock` holds it
    number = Value("i", 7)
    fraction = Value(ctypes.c_double, 0.5, lock=False)
    text = Array("c", b"hello world", lock=lock)
    points = Array(Point, [(1.5, -6.25), (-5.75, 2.0), (2.375, 9.5)], lock=lock)
    before = copy(points.get_obj())

    child = multiprocessing.Process(target=modify, args=(number, fraction, text, points))
    child.start()
    child.join()
    print(number.value, fraction.value, text.value)
    print("after:", [(point.x, point.y) for point in points])
    print("before:", [(point.x, point.y) for point in before])

    with points.get_lock():  # several steps as one
        points[0].x, points[0].y = points[0].y, points[0].x
    print("swapped:", (points[0].x, points[0].y))


if __name__ == "__main__":
    main()
