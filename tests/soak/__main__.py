"""``make soak``: ten minutes of random kills over running pools and queues, and then a look at what became of each task and item, and at what is left.

    python tests/soak --seconds 30 --seed 7

Exit status 1 means that something was lost, delivered twice, out of order, left behind, or hung; what, is printed.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import os
import random
import signal
import sys
import tempfile
import threading
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import soak_parts as parts
from tqdm import tqdm

import shoal
from shoal import _native, forkserver

FULL = 600.0  # seconds, unless told
LEAVING = 100_000  # tasks, each in a worker of its own, in a full run
MINUTE = 60.0  # seconds for which one pool of each kind loses a worker every 50 ms, in a full run
PAUSE = 0.05  # seconds between two blows, on average
STOPPED = 0.05  # seconds that a stopped process stays so, at most
SETTLE = 20.0  # seconds until everything must be as it was
KEPT = (
    300 << 20
)  # bytes that the arena may have kept for the next ones: pages of free blobs (256 MiB), free segments, tables

WHAT = ("SIGKILL", "SIGSTOP", "the fork server killed", "the watcher killed")


class Blows:
    """Who is hit, and with what.

    Args:
        running: what there is to hit.
        seed: of what is random in it.
    """

    def __init__(self, running: list[parts.Part], seed: int) -> None:
        self._running = running
        self._random = random.Random(seed)
        self._stopped: list[tuple[float, int]] = []
        self._next_spawned = 0.0
        self.count = dict.fromkeys(WHAT, 0)

    def strike(self) -> None:
        """One blow."""
        chance = self._random.random()
        if chance < 0.005 and (pid := forkserver._forkserver._forkserver_pid):
            self._send(pid, signal.SIGKILL)
            self.count[WHAT[2]] += 1
        elif chance < 0.01 and (pid := _native.watcher_pid()):
            self._send(pid, signal.SIGKILL)
            self.count[WHAT[3]] += 1
        else:
            self._hit(self._random.choice([part for part in self._running if part.victims()]))

    def _hit(self, part: parts.Part) -> None:
        if part.name.endswith(
            "(spawn)"
        ):  # an interpreter takes its time to start; killed before that, again and again, it breaks the pool, rightly
            if time.monotonic() < self._next_spawned:
                return
            self._next_spawned = time.monotonic() + 1
        victims = part.victims()
        if not victims:
            return
        victim = self._random.choice(victims)
        if self._random.random() < 0.6:
            if victim.is_alive():
                part.killed(victim)
                victim.kill()
                self.count[WHAT[0]] += 1
        elif victim.pid is not None and self._send(victim.pid, signal.SIGSTOP):
            self._stopped.append((time.monotonic() + self._random.random() * STOPPED, victim.pid))
            self.count[WHAT[1]] += 1

    def let_go(self, *, all_of_them: bool = False) -> None:
        """Wake those who were stopped long enough."""
        now = time.monotonic()
        for entry in list(self._stopped):
            if all_of_them or entry[0] < now:
                self._stopped.remove(entry)
                self._send(entry[1], signal.SIGCONT)

    @staticmethod
    def _send(pid: int, number: int) -> bool:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
            return True
        return False


def state() -> dict[str, Any]:
    """What must be afterwards as it was before."""
    gc.collect()
    sweeper = shoal.get_context("fork").Process(
        target=abs, args=(1,)
    )  # what is retired is swept when a process has gone
    sweeper.start()
    sweeper.join()
    sweeper.close()
    found: dict[str, Any] = _native.arena_statistics()
    found.pop("quota")
    found["descriptors"] = len(os.listdir("/proc/self/fd"))
    found["children"] = len(shoal.active_children())
    found["threads"] = len(os.listdir("/proc/self/task"))
    return found


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What is left over, in words."""
    return [
        f"left: {after[name] - was} {name} (before: {was})"
        for name, was in before.items()
        if after[name] > was + (KEPT if name == "bytes" else 0)
    ]


def soak(seconds: float, seed: int, methods: list[str]) -> int:
    """Run it; the exit status."""
    contexts = {method: shoal.get_context(method) for method in methods}
    with tempfile.TemporaryDirectory(prefix="shoal-soak-") as directory:
        warm_up(contexts)
        before = state()
        place = Path(directory)
        running: list[parts.Part] = [parts.PoolPart(context, place, seed) for context in contexts.values()]
        first = next(iter(contexts.values()))
        running += [
            parts.KilledWorkers(context, place, seed, min(MINUTE, seconds / 5)) for context in contexts.values()
        ]
        running.append(parts.QueuePart(first, place))
        running.append(parts.BriefPools(first, seed))
        running.append(
            parts.LeavingWorkers(first, int(LEAVING * min(1.0, seconds / FULL) / (1 if seconds >= FULL else 4)))
        )
        blows = Blows(running, seed)
        show(running, blows, seconds)
        blows.let_go(all_of_them=True)
        found: list[str] = []
        lost = 0
        while running:
            part = running.pop(0)
            part.finish()
            report(part)
            found += part.violations()
            lost += len(part.history.lost) if isinstance(part, parts.PoolPart | parts.QueuePart) else 0
            del part  # what it refers to must be gone before what is left is counted
        found += settled(before)
    print(", ".join(f"{what}: {count}" for what, count in blows.count.items()) + f"; lost with their processes: {lost}")
    print(f"seed {seed}: {'all is well' if not found else f'{len(found)} violations'}")
    for what in found:
        print(f"VIOLATION {what}")
    return 1 if found else 0


def report(part: parts.Part) -> None:
    """Say what a part has done, as soon as it has come to its end."""
    kills = f", {part.history.kills} workers killed" if isinstance(part, parts.PoolPart) else ""
    print(f"{part.name}: {part.done} done{kills}", flush=True)


def warm_up(contexts: dict[str, Any]) -> None:
    """What is made once and stays: the watcher, the fork server, tables of the arena."""
    for context in contexts.values():
        with context.Pool(2) as pool:
            pool.map(abs, range(10))
        pool.join()


def show(running: list[parts.Part], blows: Blows, seconds: float) -> None:
    """Strike until the time is over, and show how far it is."""
    end = time.monotonic() + seconds
    layout = "{desc} {percentage:3.0f}% |{bar}| {n:.0f}/{total:.0f} s, {postfix}"
    with tqdm(total=seconds, desc="soak", bar_format=layout, mininterval=1, disable=None) as bar:
        while (left := end - time.monotonic()) > 0 and not any(part.troubles for part in running):
            blows.strike()
            pause = time.monotonic() + blows._random.expovariate(1 / PAUSE)
            while time.monotonic() < min(pause, end):
                time.sleep(0.005)
                blows.let_go()
            bar.n = seconds - left
            bar.set_postfix_str(
                f"{sum(blows.count.values())} blows, {sum(part.done for part in running)} done", refresh=False
            )
            bar.update(0)


def settled(before: dict[str, Any]) -> list[str]:
    """Wait until everything is as it was; what is not, in words."""
    until = time.monotonic() + SETTLE
    while True:
        found = differences(before, state())
        if not found or time.monotonic() > until:
            return found
        time.sleep(0.1)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="soak", description="Kill at random, and look what became of everything.")
    parser.add_argument("--seconds", type=float, default=FULL, help="how long (%(default)s)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of what is random")
    parser.add_argument("--methods", default="fork,forkserver,spawn", help="start methods (%(default)s)")
    arguments = parser.parse_args()
    faulthandler.register(signal.SIGUSR1, all_threads=True)  # where it hangs
    tqdm.monitor_interval = 0  # no thread of its own
    warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads, which is what is done here
    threading.excepthook = lambda hook: print(f"VIOLATION in a thread: {hook.exc_value!r}")
    return soak(arguments.seconds, arguments.seed, arguments.methods.split(","))


if __name__ == "__main__":
    sys.exit(main())
