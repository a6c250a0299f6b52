"""Small networks of their own for tests: hosts are network namespaces, the first one is linked to each of the others by a pair of virtual Ethernet devices."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_numbers = itertools.count(1)


def why_not() -> str | None:
    """Why there can be no such network here; None if there can."""
    if shutil.which("ip") is None:
        return "iproute2 is not installed"
    name = f"shoal-try-{os.getpid()}"
    done = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return f"network namespaces are not permitted here: {done.stderr.strip()}"
    try:
        for command in (
            ["link", "add", "try0", "type", "veth", "peer", "name", "try1"],
            ["addr", "add", "10.79.0.1/24", "dev", "try0"],
        ):
            done = subprocess.run(["ip", "-n", name, *command], capture_output=True, text=True, check=False)
            if done.returncode != 0:
                return f"virtual Ethernet is not to be had here: {done.stderr.strip()}"
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)
    return None


class Network:
    """A server's host and so many others."""

    def __init__(self, others: int) -> None:
        self._name = f"shoal-{os.getpid()}-{next(_numbers)}"
        self._others = others

    def host(self, number: int) -> str:
        """The name of a host: 0 is the server's."""
        return f"{self._name}-{number}"

    def address(self, number: int) -> str:
        """Where host ``number`` finds the server."""
        return f"10.79.{number}.1"

    def start(self, number: int, *command: str, **options: Any) -> subprocess.Popen[str]:
        """Run Python with these arguments on a host."""
        return subprocess.Popen(
            ["ip", "netns", "exec", self.host(number), sys.executable, *command],
            stdout=subprocess.PIPE,
            text=True,
            **options,
        )

    def cut(self, number: int) -> None:
        """Cut the link between the server and a host."""
        self._ip(0, "link", "set", f"to{number}", "down")

    def mend(self, number: int) -> None:
        """Mend it."""
        self._ip(0, "link", "set", f"to{number}", "up")

    def make(self) -> None:
        """Make the hosts, and link them."""
        for number in range(self._others + 1):
            subprocess.run(["ip", "netns", "add", self.host(number)], check=True)
            self._ip(number, "link", "set", "lo", "up")
        for number in range(1, self._others + 1):
            device = f"to{number}"
            self._ip(0, "link", "add", device, "type", "veth", "peer", "name", "eth", "netns", self.host(number))
            for host, name, last in ((0, device, 1), (number, "eth", 2)):
                self._ip(host, "addr", "add", f"10.79.{number}.{last}/24", "dev", name)
                self._ip(host, "link", "set", name, "up")

    def remove(self) -> None:
        """Remove everything."""
        for number in range(self._others + 1):
            subprocess.run(["ip", "netns", "del", self.host(number)], check=False, capture_output=True)

    def _ip(self, number: int, *command: str) -> None:
        subprocess.run(["ip", "-n", self.host(number), *command], check=True)


@contextlib.contextmanager
def network(others: int) -> Iterator[Network]:
    made = Network(others)
    try:
        made.make()
        yield made
    finally:
        made.remove()
