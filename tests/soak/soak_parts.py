"""What runs while things are killed: pools that are never short of work, and a queue with producers and consumers."""

from __future__ import annotations

import faulthandler
import itertools
import random
import sys
import threading
import time
import traceback
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import soak_work as work
from soak_history import PoolHistory, QueueHistory

import shoal
from shoal.errors import PoolTerminatedError, WorkerLostError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["BriefPools", "KilledWorkers", "LeavingWorkers", "Part", "PoolPart", "QueuePart"]

PATIENCE = 150.0  # seconds for one outcome, on a machine that is busy with other things: what takes longer hangs


class Part:
    """Something that runs in threads of its own and judges itself."""

    name = ""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.troubles: list[str] = []
        self.done = 0
        self.threads: list[threading.Thread] = []

    def work(self, loop: Callable[[], object]) -> None:
        """Do something again and again in a thread."""

        def repeat() -> None:
            with self.troubled():
                while not self.over.is_set():
                    loop()

        self.threads.append(threading.Thread(target=repeat, name=self.name))
        self.threads[-1].start()

    @contextmanager
    def troubled(self) -> Iterator[None]:
        """Note what is raised, whatever it is: it is what the soak is for. What the threads and the children are doing then is told at once."""
        try:
            yield
        except Exception as error:  # noqa: BLE001
            self.troubles.append(f"{self.name}: {error!r}")
            print(f"{self.name}: {error!r}", file=sys.stderr)
            traceback.print_exception(error)
            faulthandler.dump_traceback(all_threads=True)
            for child in psutil.Process().children():
                with suppress(psutil.NoSuchProcess):
                    print(child.pid, child.status(), child.cpu_times()[:2], child.cmdline()[-1:], file=sys.stderr)

    def victims(self) -> list[Any]:
        """Processes that may be killed."""
        return []

    def killed(self, process: Any) -> None:
        """Learn that one is about to be killed."""

    def finish(self) -> None:
        """Come to an end; everything under way is waited for."""
        self.over.set()
        for thread in self.threads:
            thread.join(2 * PATIENCE)
            if thread.is_alive():
                self.troubles.append(f"{self.name}: a thread hangs")

    def violations(self) -> list[str]:
        """What was not as it must be."""
        return self.troubles


class PoolPart(Part):
    """A pool with all kinds of calls on their way.

    Args:
        context: makes it.
        place: where workers tell of what they run.
        seed: of what is random in it.
        name: of this part.
    """

    def __init__(self, context: Any, place: Path, seed: int, name: str = "pool") -> None:
        super().__init__()
        self.name = f"{name} ({context.get_start_method()})"
        self.log = place / f"{self.name}.run"
        self.log.touch()
        self.history = PoolHistory()
        self._random = random.Random(seed)
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self.pool = context.Pool(2)
        self.work(self._calls)
        self.work(self._map)
        self.work(self._imap)

    def _items(self, count: int, *, chunked: bool = False) -> list[tuple[str, int, float, int]]:
        """Tasks to be run. Outcomes of a chunk that are not small are lost along with the item that was running (20 us of work), so there they are small."""
        with self._lock:
            numbers = [next(self._numbers) for _ in range(count)]
            self.history.submitted.update(numbers)
        slow, large = self._random.random() < 0.3, not chunked and self._random.random() < 0.1
        return [(str(self.log), number, 0.002 if slow else 0.0, 100_000 if large else 10) for number in numbers]

    def _settle(self, number: int, get: Callable[[], tuple[int, bytes]]) -> None:
        try:
            self.history.values[number] = get()[0]
        except WorkerLostError:
            self.history.lost.add(number)
        self.done += 1

    def _calls(self) -> None:
        items = self._items(20)
        for item, result in [(item, self.pool.apply_async(work.run, item)) for item in items]:
            self._settle(item[1], lambda result=result: result.get(PATIENCE))

    def _map(self) -> None:
        """Of a map that fails nobody learns what became of its items, only that they were run once at most."""
        items = self._items(40)
        try:
            values = self.pool.map_async(work.run_item, items).get(PATIENCE)
        except WorkerLostError:
            self.history.dropped.update(item[1] for item in items)
        else:
            self.history.values.update((item[1], value[0]) for item, value in zip(items, values, strict=True))
        self.done += len(items)

    def _imap(self) -> None:
        chunksize = self._random.choice([1, 7, 60])
        items = self._items(60, chunked=chunksize > 1)
        results = self.pool.imap(work.run_item, items, chunksize=chunksize)
        taken = len(items) if self._random.random() < 0.8 else 20
        for item in items[:taken]:
            self._settle(item[1], lambda: results.next(PATIENCE))
        self.history.dropped.update(item[1] for item in items[taken:])  # an iterator that nobody reads to its end

    def victims(self) -> list[Any]:
        """Its workers."""
        return list(self.pool._pool)

    def killed(self, process: Any) -> None:  # noqa: ARG002 - one is like another
        """Count."""
        self.history.kills += 1

    def finish(self) -> None:
        """Close the pool."""
        super().finish()
        self.pool.close()
        self.pool.join()

    def violations(self) -> list[str]:
        """By its history."""
        self.history.run = [int(line) for line in self.log.read_text().split()]
        return self.troubles + [f"{self.name}: {what}" for what in self.history.violations()]


class KilledWorkers(PoolPart):
    """A pool that loses a worker every 50 ms for a while; nothing else is done to it.

    It is one that is ready to work: an interpreter that is killed whenever it starts never runs anything. One that takes long to start (spawn) is killed every
    second, or there would be no work done for as long as it goes on.

    Args:
        context: makes it.
        place: where workers tell of what they run.
        seed: of what is random in it.
        seconds: how long it goes on.
    """

    def __init__(self, context: Any, place: Path, seed: int, seconds: float) -> None:
        self._pause = 1.0 if context.get_start_method() == "spawn" else 0.05  # seconds
        super().__init__(context, place, seed, f"a worker killed every {1000 * self._pause:g} ms")
        self._killer = threading.Thread(target=self._kill, args=(seconds,), name=self.name)
        self._killer.start()

    def _kill(self, seconds: float) -> None:
        began = time.monotonic()
        crew = self.pool._collector.crew
        for blow in range(int(seconds / self._pause)):
            time.sleep(max(0.0, began + (blow + 1) * self._pause - time.monotonic()))
            ready = [process for process in list(self.pool._pool) if (one := crew.by_pid(process.pid)) and one.ready]
            if ready:
                self.killed(ready[0])
                self._random.choice(ready).kill()

    def victims(self) -> list[Any]:
        """Nobody: this part kills by itself."""
        return []

    def finish(self) -> None:
        """Close the pool when the killing is over."""
        self._killer.join()
        super().finish()


class BriefPools(Part):
    """Pools that are terminated in the middle of their work, one after the other."""

    name = "terminated pools"

    def __init__(self, context: Any, seed: int) -> None:
        super().__init__()
        self._context = context
        self._random = random.Random(seed)
        self.work(self._one)

    def _one(self) -> None:
        pool = self._context.Pool(2)
        results = [pool.apply_async(work.nothing, (i,)) for i in range(200)]
        results.append(pool.map_async(work.nothing, range(1000), chunksize=1))
        self.over.wait(self._random.random() * 0.1)
        pool.terminate()
        pool.join()
        for number, result in enumerate(results):
            try:
                value = result.get(PATIENCE)
            except PoolTerminatedError:
                continue
            if value != 2 * number and number < 200:
                self.troubles.append(f"{self.name}: {number} gave {value}")
        self.done += 1


class LeavingWorkers(Part):
    """A pool whose workers leave after each task.

    It is in a process of its own, which stays small: this one grows by what all parts remember, and each worker is a fork.

    Args:
        context: makes the pool.
        least: tasks to be run, however long that takes.
    """

    name = "workers that leave"

    def __init__(self, context: Any, least: int) -> None:
        super().__init__()
        self._over = context.Event()
        self._reports, sender = context.Pipe(duplex=False)
        self._process = shoal.get_context("spawn").Process(
            target=work.leave, args=(context.get_start_method(), least, self._over, sender)
        )
        self._process.start()
        sender.close()
        self.work(self._hear)

    def _hear(self) -> None:
        """Until the process has closed its end: that is over later than the others, when it has run what it must."""
        while True:
            if not self._reports.poll(PATIENCE):
                raise TimeoutError(f"{self._process} told nothing for {PATIENCE:g} s")
            try:
                report = self._reports.recv()
            except EOFError:
                self.over.set()
                return
            if isinstance(report, str):
                self.troubles.append(f"{self.name}: {report}")
            else:
                self.done += report

    def finish(self) -> None:
        """Let it run what is missing, and end."""
        self._over.set()
        for thread in self.threads:
            thread.join()  # bounded: each report is
        super().finish()
        if self.troubles:
            self._process.kill()
        self._process.join(PATIENCE)
        if self._process.exitcode:
            self.troubles.append(f"{self.name}: {self._process} failed")
        self._process.close()
        self._reports.close()
        del self._process, self._reports, self._over


class QueuePart(Part):
    """A queue with producers and consumers, each of whom is replaced when it is killed.

    Args:
        context: makes it.
        place: where they tell of what they do.
    """

    name = "queue"

    def __init__(self, context: Any, place: Path) -> None:
        super().__init__()
        self._context = context
        self.log = place / "queue"
        self.log.touch()
        self.history = QueueHistory()
        self._queue = context.Queue()
        self._over = context.Event()
        self._numbers = itertools.count(1)
        self._producers: dict[Any, int] = {}
        self._consumers: dict[Any, int] = {}
        for _ in range(2):
            self._start(self._producers)
            self._start(self._consumers)
        self.work(self._replace)

    def _start(self, kind: dict[Any, int]) -> None:
        number = next(self._numbers)
        target, more = (work.produce, (self._over,)) if kind is self._producers else (work.consume, ())
        process = self._context.Process(target=target, args=(self._queue, str(self.log), number, *more), daemon=True)
        process.start()
        kind[process] = number

    def _replace(self) -> None:
        self.over.wait(0.02)
        for kind in (self._producers, self._consumers):
            for process in [process for process in kind if not process.is_alive()]:
                del kind[process]
                if not self.over.is_set():
                    self._start(kind)

    def victims(self) -> list[Any]:
        """All of them."""
        return [*self._producers, *self._consumers]

    def killed(self, process: Any) -> None:
        """Count."""
        if process in self._consumers:
            self.history.killed_consumers += 1

    def finish(self) -> None:
        """Let the producers end, then the consumers."""
        super().finish()
        self._over.set()
        for process in self._producers:
            process.join(PATIENCE)
        while not any(process.is_alive() for process in self._consumers):
            self._start(self._consumers)
        for _ in self._consumers:
            self._queue.put(None)
        for process in self._consumers:
            process.join(PATIENCE)
            if process.exitcode is None:
                self.troubles.append(f"{self.name}: {process} hangs")
                process.kill()
        self._producers.clear()
        self._consumers.clear()
        self._queue.close()
        del self._queue, self._over
        self._read()

    def _read(self) -> None:
        history = self.history
        for what, *numbers in self._lines():
            who, number, *rest = map(int, numbers)
            if what == "b":
                history.begun.add((who, number))
            elif what == "d":
                history.done.add((who, number))
            elif what == "g":
                history.got.setdefault(who, []).append((number, rest[0]))
        self.done = sum(map(len, history.got.values()))

    def violations(self) -> list[str]:
        """By its history."""
        return self.troubles + [f"{self.name}: {what}" for what in self.history.violations()]

    def _lines(self) -> Iterator[list[str]]:
        with self.log.open() as lines:
            for line in lines:
                yield line.split()
