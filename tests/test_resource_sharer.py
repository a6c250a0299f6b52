"""Descriptors in messages: whoever sent one and is gone, or does not answer, is an error at the receiver; and nothing stays behind."""

from __future__ import annotations

import os
import pickle
import resource
import signal
import socket
import threading
import time
from multiprocessing import connection
from multiprocessing import resource_sharer as standard
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import shoal
from shoal import resource_sharer
from shoal.errors import DescriptorLostError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LONG = 20.0


@pytest.fixture(autouse=True)
def _nothing_is_held() -> Iterator[None]:
    yield
    resource_sharer.stop(LONG)
    assert threading.active_count() == 1


@pytest.fixture
def fds() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def gone(thread_count: int = 1) -> bool:
    deadline = time.monotonic() + LONG
    while threading.active_count() > thread_count and time.monotonic() < deadline:
        time.sleep(0.01)
    return threading.active_count() == thread_count


def hand_over(to: Any, then: Any, method: str) -> None:
    """A sender: puts the reading end of a pipe into a connection and then does as it is told."""
    reader, writer = os.pipe()
    os.write(writer, b"in it")
    to.send_bytes(pickle.dumps(shoal.reducer.DupFd(reader)))
    os.close(reader)
    if then.recv() == "die":
        os.kill(os.getpid(), getattr(signal, method))
    then.recv()


@pytest.fixture
def sender() -> Iterator[Callable[..., Any]]:
    """Start a process that has sent a descriptor; gives what it sent, the process, and a connection to tell it to go on."""
    started = []

    def start(signal_name: str = "SIGKILL") -> tuple[Any, Any, Any]:
        receiver, to = shoal.Pipe(duplex=False)
        orders, go_on = shoal.Pipe(duplex=False)
        process = shoal.get_context("fork").Process(target=hand_over, args=(to, orders, signal_name))
        process.start()
        started.append(process)
        return pickle.loads(receiver.recv_bytes()), process, go_on

    yield start
    for process in started:
        process.kill()
        process.join()


@pytest.fixture
def stopped(sender: Callable[..., Any]) -> tuple[Any, Any]:
    """What a sender has sent, and its process, which is stopped."""
    sent, process, go_on = sender("SIGSTOP")
    go_on.send("die")
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    return sent, process


def test_a_descriptor_is_had_once(sender: Callable[..., Any]):
    sent, process, _ = sender()
    fd = sent.detach()
    assert os.read(fd, 100) == b"in it"
    assert not os.get_inheritable(fd)
    os.close(fd)
    with pytest.raises(DescriptorLostError, match=f"from process {process.pid}: it") as caught:
        sent.detach()
    assert caught.value.pid == process.pid
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.pid) == (str(caught.value), process.pid)
    assert isinstance(again, OSError)


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM"])
def test_a_sender_that_died_is_an_error_at_once_and_names_it(sender: Callable[..., Any], how: str):
    sent, process, go_on = sender(how)
    go_on.send("die")
    process.join()
    with pytest.raises(DescriptorLostError, match=f"process {process.pid}: it has ended"):
        sent.detach()


def test_a_sender_that_is_stopped_is_not_waited_for_without_end(
    stopped: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(resource_sharer, "PATIENCE", 0.3)
    sent, process = stopped
    with pytest.raises(DescriptorLostError, match="is it stopped"):
        sent.detach()
    os.kill(process.pid, signal.SIGCONT)


class Clock:
    """In the place of the module's `time`: tells when somebody rests."""

    def __init__(self) -> None:
        self.monotonic = time.monotonic
        self.rested = threading.Event()

    def sleep(self, seconds: float) -> None:
        self.rested.set()
        time.sleep(seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(resource_sharer, "time", clock)
    return clock


@pytest.fixture
def crowded(stopped: tuple[Any, Any]) -> Iterator[tuple[Any, int]]:
    """What a stopped sender has sent, and its process id; as many ask it as can wait."""
    sent, process = stopped
    crowd: list[socket.socket] = []

    def come() -> None:
        while len(crowd) < 1000:
            crowd.append(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            crowd[-1].setblocking(False)
            crowd[-1].connect(sent._address)

    with pytest.raises(BlockingIOError):
        come()
    yield sent, process.pid
    for visitor in crowd:
        visitor.close()


def test_who_finds_a_crowd_waits_for_room(crowded: tuple[Any, int], clock: Clock):
    sent, pid = crowded
    went_on = []

    def go_on() -> None:
        went_on.append(clock.rested.wait(LONG))
        os.kill(pid, signal.SIGCONT)

    thread = threading.Thread(target=go_on)
    thread.start()
    fd = sent.detach()
    thread.join()
    assert went_on == [True]
    assert os.read(fd, 100) == b"in it"
    os.close(fd)


def test_who_finds_a_crowd_does_not_wait_without_end(crowded: tuple[Any, int], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(resource_sharer, "PATIENCE", 0.3)
    sent, pid = crowded
    with pytest.raises(DescriptorLostError, match="is it stopped"):
        sent.detach()
    os.kill(pid, signal.SIGCONT)


def test_while_there_are_no_descriptors_it_rests_and_hands_out_afterwards(fds: tuple[int, int], clock: Clock):
    sent = resource_sharer.DupFd(fds[0])
    address, ticket = sent._address, sent._ticket
    taken: list[int] = []

    def take_all() -> None:
        while True:
            taken.append(os.dup(fds[0]))

    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as visitor:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
            with pytest.raises(OSError, match="Too many open files"):
                take_all()
            visitor.settimeout(LONG)
            visitor.connect(address)
            visitor.send(ticket)
            assert clock.rested.wait(LONG)
            while taken:
                os.close(taken.pop())
            answer, received, _, _ = socket.recv_fds(visitor, 1, 1)
        finally:
            for fd in taken:
                os.close(fd)
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert answer == b"\1"
    for fd in received:
        os.close(fd)


def test_a_sender_that_dies_while_it_is_asked_is_an_error(stopped: tuple[Any, Any]):
    sent, process = stopped
    killer = threading.Timer(0.1, process.kill)
    killer.start()
    with pytest.raises(DescriptorLostError):
        sent.detach()
    killer.join()


def test_the_thread_and_the_socket_go_when_nothing_is_left_to_hand_out(
    fds: tuple[int, int], descriptors_steady: Callable[[], None]
):
    first, second = resource_sharer.DupFd(fds[0]), resource_sharer.DupFd(fds[1])
    path = Path(first._address)
    assert path.is_socket()
    os.close(first.detach())
    assert path.is_socket(), "something is left"
    os.close(second.detach())
    assert gone()
    assert not path.exists()
    third = resource_sharer.DupFd(fds[0])  # and all begins again
    os.close(third.detach())
    assert gone()
    assert descriptors_steady


def test_where_no_thread_can_be_started_the_next_descriptor_tries_again(
    fds: tuple[int, int], monkeypatch: pytest.MonkeyPatch
):
    resource_sharer.stop(LONG)

    def no_more(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_more)
        with pytest.raises(RuntimeError, match="new thread"):
            resource_sharer.DupFd(fds[0])
    fetched, told = shoal.Pipe(duplex=False)
    process = shoal.get_context("fork").Process(target=fetch, args=(resource_sharer.DupFd(fds[0]), told))
    process.start()
    assert fetched.poll(LONG / 2)
    assert fetched.recv() == "fetched"
    process.join()


def fetch(df: resource_sharer.DupFd, told: Any) -> None:
    os.close(df.detach())
    told.send("fetched")


def test_what_was_kept_is_closed_when_it_is_stopped(fds: tuple[int, int], descriptors_steady: Callable[[], None]):
    kept = [resource_sharer.DupFd(fds[0]) for _ in range(10)]
    resource_sharer.stop(LONG)
    with pytest.raises(DescriptorLostError, match="taken already"):
        kept[0].detach()
    assert descriptors_steady


def test_a_fork_beside_the_thread_is_no_danger_and_the_child_hands_out_nothing_of_its_parent(fds: tuple[int, int]):
    kept = resource_sharer.DupFd(fds[0])
    process = shoal.get_context("fork").Process(target=_held_by_child)  # warns of nothing: warnings are errors
    process.start()
    process.join()
    assert process.exitcode == 0
    os.close(kept.detach())


def _held_by_child() -> None:
    assert resource_sharer._resource_sharer._held == {}
    reader, writer = os.pipe()
    os.close(resource_sharer.DupFd(writer).detach())
    resource_sharer.stop()
    os.close(reader)
    os.close(writer)


def test_strangers_and_nonsense_at_the_socket_disturb_nobody(sender: Callable[..., Any]):
    sent, _, _ = sender()
    for says in (b"", b"x", bytes(16), bytes(1000)):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.settimeout(LONG)
            sock.connect(sent._address)
            sock.send(says)
            assert sock.recv(10) == resource_sharer.UNKNOWN
    silent = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(10)]
    for sock in silent:
        sock.connect(sent._address)
    fd = sent.detach()
    assert os.read(fd, 100) == b"in it"
    os.close(fd)
    for sock in silent:
        sock.close()


def test_a_receiver_without_room_for_it_is_told(sender: Callable[..., Any]):
    sent, _, _ = sender()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The two lowest free numbers, whatever lies between them: the second is left free, and nothing above it.
    blocked = [os.dup(0)]
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, hard))
    try:
        # There is room for the socket that fetches it, and not for the descriptor itself.
        with pytest.raises(DescriptorLostError, match="no descriptor left"):
            sent.detach()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in blocked:
            os.close(fd)


def test_standard_connections_and_sockets_do_not_start_the_standard_librarys_thread():
    ours, theirs = socket.socketpair()
    receiver, to = shoal.Pipe(duplex=False)
    made = connection.Connection(os.dup(theirs.fileno()))
    to.send([theirs, made])
    arrived, again = receiver.recv()
    assert type(again) is connection.Connection
    arrived.sendall(b"a")
    again.send_bytes(b"b")
    assert ours.recv(100) == b"a" + b"\0\0\0\1b"
    assert standard._resource_sharer._thread is None
    for end in (ours, theirs, made, arrived, again):
        end.close()
