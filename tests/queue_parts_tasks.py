"""Queue classes that put parts of their own into the standard library's, as loky does; the children of test_queue_parts.py import them."""

from __future__ import annotations

import multiprocessing.queues
import pickle
from typing import Any

import shoal.queues

# What a standard queue hands to a child, in its order.
STATE = ("_ignore_epipe", "_maxsize", "_reader", "_writer", "_rlock", "_wlock", "_sem", "_opid")


def feeding(base: Any) -> Any:
    """A queue that notes in each item who pickled it, by a feeder of its own."""

    class Feeding(base):
        def __init__(self, tag: str, *, ctx: Any) -> None:
            super().__init__(ctx=ctx)
            self.tag = tag

        def __getstate__(self) -> tuple[Any, ...]:
            return (*(getattr(self, name) for name in STATE), self.tag)

        def __setstate__(self, state: tuple[Any, ...]) -> None:
            *standard, self.tag = state
            for name, value in zip(STATE, standard, strict=True):
                setattr(self, name, value)
            self._reset()

        def _start_thread(self) -> None:
            send = self._send_bytes
            self._send_bytes = lambda data: send(pickle.dumps((self.tag, pickle.loads(data))))
            super()._start_thread()

    return Feeding


def simple(base: Any) -> Any:
    """A queue that pickles by itself."""

    class Simple(base):
        def __getstate__(self) -> tuple[Any, ...]:
            return self._reader, self._writer, self._rlock, self._wlock

        def __setstate__(self, state: tuple[Any, ...]) -> None:
            self._reader, self._writer, self._rlock, self._wlock = state
            self._poll = self._reader.poll

        def put(self, obj: object) -> None:
            data = pickle.dumps(("own", obj))
            with self._wlock:
                self._writer.send_bytes(data)

    return Simple


class StandardFeeding(feeding(multiprocessing.queues.Queue)):
    pass


class ShoalFeeding(feeding(shoal.queues.Queue)):
    pass


class StandardSimple(simple(multiprocessing.queues.SimpleQueue)):
    pass


class ShoalSimple(simple(shoal.queues.SimpleQueue)):
    pass


FEEDING = {"standard": StandardFeeding, "shoal": ShoalFeeding}
SIMPLE = {"standard": StandardSimple, "shoal": ShoalSimple}


def put_twice(queue: Any) -> None:
    queue.put("from the child")
    queue.put(2)
