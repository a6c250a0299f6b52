"""Rows about ``Listener`` and ``Client``: how long there and back takes over a socket, and how long it takes to be let in."""

from __future__ import annotations

import importlib
from itertools import repeat
from typing import Any

from benchmarks.backend import Backend, Feature
from benchmarks.crew import Crew
from benchmarks.pace import Pace, seconds_per_operation
from benchmarks.row import Measurement, Target, row

NEVER_SLOWER = Target(ratio=1)


def _connected(backend: Backend, family: str) -> tuple[Any, Any]:
    """Both ends of a connection over a socket; one of them is for a child."""
    module = importlib.import_module(f"{backend.module}.connection")
    with module.Listener(family=family) as listener:
        far = module.Client(listener.address)
        return listener.accept(), far


def _seconds_there_and_back(backend: Backend, pace: Pace, family: str, message: Any) -> float:
    near, far = _connected(backend, family)

    def echo(count: int) -> None:
        for _ in repeat(None, count):
            far.send(far.recv())

    def ask(count: int) -> None:
        for _ in repeat(None, count):
            near.send(message)
            near.recv()

    with Crew(backend.context(), [echo]) as crew:
        return seconds_per_operation(lambda count: crew.phase(count, here=lambda: ask(count)), pace, first=2)


@row("socket round trip, unix", unit="s", better="lower", needs=Feature.LISTENER, target=NEVER_SLOWER)
def socket_round_trip_unix(backend: Backend, pace: Pace) -> Measurement:
    """An int to a child over an AF_UNIX connection, and back."""
    return Measurement(_seconds_there_and_back(backend, pace, "AF_UNIX", 12345))


@row("socket round trip, inet", unit="s", better="lower", needs=Feature.LISTENER, target=NEVER_SLOWER)
def socket_round_trip_inet(backend: Backend, pace: Pace) -> Measurement:
    """An int to a child over an AF_INET connection on the loopback device, and back."""
    return Measurement(_seconds_there_and_back(backend, pace, "AF_INET", 12345))


@row("socket 16 MB bytes, unix", unit="B/s", better="higher", needs=Feature.LISTENER, target=NEVER_SLOWER)
def socket_16_mb(backend: Backend, pace: Pace) -> Measurement:
    """16 MB of bytes to a child over an AF_UNIX connection, and back."""
    message = bytes(pace.choose(full=16_000_000, quick=160_000))
    return Measurement(2 * len(message) / _seconds_there_and_back(backend, pace, "AF_UNIX", message))


def _seconds_to_be_let_in(backend: Backend, pace: Pace, family: str) -> float:
    module = importlib.import_module(f"{backend.module}.connection")
    with module.Listener(family=family, authkey=b"key") as listener:

        def call(count: int) -> None:
            for _ in repeat(None, count):
                module.Client(listener.address, authkey=b"key").close()

        def accept(count: int) -> None:
            for _ in repeat(None, count):
                listener.accept().close()

        with Crew(backend.context(), [call]) as crew:
            return seconds_per_operation(lambda count: crew.phase(count, here=lambda: accept(count)), pace, first=5)


@row("connect with key, unix", unit="s", better="lower", needs=Feature.LISTENER)
def connect_unix(backend: Backend, pace: Pace) -> Measurement:
    """A child connects over AF_UNIX, both sides prove that they have the key, and hang up."""
    return Measurement(_seconds_to_be_let_in(backend, pace, "AF_UNIX"))


@row("connect with key, inet", unit="s", better="lower", needs=Feature.LISTENER)
def connect_inet(backend: Backend, pace: Pace) -> Measurement:
    """The same over AF_INET on the loopback device."""
    return Measurement(_seconds_to_be_let_in(backend, pace, "AF_INET"))
