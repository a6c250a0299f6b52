"""Whatever a program imports from the standard library's modules about connections, it finds in shoal's."""

from __future__ import annotations

import inspect
import multiprocessing.connection
import multiprocessing.reduction
import multiprocessing.resource_sharer
import os
import select
import socket
import threading

import pytest

import shoal
from shoal import connection, reduction, resource_sharer

LONG = 20.0
MODULES = [
    (multiprocessing.connection, connection),
    (multiprocessing.reduction, reduction),
    (multiprocessing.resource_sharer, resource_sharer),
]


@pytest.mark.parametrize(("theirs", "ours"), MODULES, ids=lambda module: module.__name__)
def test_no_public_name_is_missing(theirs, ours):
    names = {
        name for name, value in vars(theirs).items() if not name.startswith("_") and not inspect.ismodule(value)
    } | set(theirs.__all__)
    names -= {"ABCMeta"}  # imported there
    assert {name for name in names if not hasattr(ours, name)} == set()
    assert set(theirs.__all__) <= set(ours.__all__) | {"sendfds"}


@pytest.mark.parametrize("name", ["deliver_challenge", "answer_challenge", "Client", "Listener", "Pipe", "wait"])
def test_parameters_are_the_standard_ones_and_extras_are_by_keyword(name: str):
    theirs, ours = (inspect.signature(getattr(module, name)).parameters for module in MODULES[0])
    extras = list(ours.values())[len(theirs) :]
    for mine, standard in zip(ours.values(), theirs.values(), strict=False):
        assert (mine.name, mine.default, mine.kind) == (standard.name, standard.default, standard.kind)
    later = {"digest_name"}  # of 3.12
    assert all(extra.kind is extra.KEYWORD_ONLY or extra.name in later for extra in extras)


def test_names_that_programs_take_from_the_module_mean_what_they_meant():
    assert (connection.default_family, set(connection.families)) == ("AF_UNIX", {"AF_INET", "AF_UNIX"})
    assert connection.CONNECTION_TIMEOUT == multiprocessing.connection.CONNECTION_TIMEOUT
    assert connection.arbitrary_address("AF_INET") == ("localhost", 0)
    assert os.path.isabs(connection.arbitrary_address("AF_UNIX"))  # noqa: PTH117 - a string
    with pytest.raises(ValueError, match="unrecognized family"):
        connection.arbitrary_address("AF_PIPE")
    assert connection._ForkingPickler is multiprocessing.connection._ForkingPickler
    assert {"Client", "_ConnectionBase", "wait"} <= set(dir(connection))
    with pytest.raises(AttributeError):
        connection.no_such_name  # noqa: B018


def test_a_connection_of_any_making_is_a_connection():
    first, second = shoal.Pipe()
    over_socket = connection.Connection(os.eventfd(0))
    for end in (first, second, over_socket):
        assert isinstance(end, connection.Connection)
        end.close()
    assert isinstance(over_socket, multiprocessing.connection.Connection)


def test_wait_takes_everything_that_can_be_waited_for_in_any_mix():
    process = shoal.get_context("fork").Process(target=int)
    process.start()
    shoal_end, shoal_other = shoal.Pipe()
    standard_end, standard_other = multiprocessing.Pipe()
    sock, sock_other = socket.socketpair()
    over_socket, over_socket_other = (connection.Connection(end.detach()) for end in socket.socketpair())
    reader, writer = os.pipe()
    queue = shoal.SimpleQueue()
    objects = [process.sentinel, shoal_end, standard_end, sock, over_socket, reader, queue._reader]
    process.join()
    for ready, tell in (
        ([process.sentinel], lambda: None),
        ([shoal_end], lambda: shoal_other.send(1)),
        ([standard_end], lambda: standard_other.send(1)),
        ([sock], lambda: sock_other.send(b"x")),
        ([over_socket], lambda: over_socket_other.send(1)),
        ([reader], lambda: os.write(writer, b"x")),
        ([queue._reader], lambda: queue.put(1)),
    ):
        tell()
        assert connection.wait(ready, LONG) == ready
        assert multiprocessing.connection.wait(ready, LONG) == ready
        assert set(connection.wait(objects, LONG)) >= set(ready)
    assert connection.wait(objects) == objects
    assert connection.wait(iter(objects), -1) == objects
    for end in (shoal_end, shoal_other, standard_end, standard_other, sock, sock_other, over_socket, over_socket_other):
        end.close()
    os.close(reader)
    os.close(writer)


def test_wait_says_what_it_cannot_wait_for():
    with pytest.raises(ValueError, match="Invalid file object"):
        connection.wait(["a string"], 0)
    with pytest.raises(ValueError, match="Invalid file descriptor"):
        connection.wait([-1], 0)
    closed = connection.Connection(os.eventfd(0))
    closed.close()
    with pytest.raises(OSError, match="closed"):
        connection.wait([closed], 0)
    assert connection.wait([], 0) == []


def test_wait_wakes_for_a_message_that_comes_while_it_waits():
    ours, theirs = shoal.Pipe()
    sock, other = socket.socketpair()
    for objects in ([ours], [sock, ours]):
        timer = threading.Timer(0.05, theirs.send, ["late"])
        timer.start()
        assert connection.wait(objects, LONG) == [ours]
        assert ours.recv() == "late"
        timer.join()
    for end in (ours, theirs, sock, other):
        end.close()


def test_a_select_on_a_connection_over_a_socket_is_true_message_by_message():
    """Nothing is read ahead."""
    ours, theirs = (connection.Connection(end.detach()) for end in socket.socketpair())
    for number in range(3):
        theirs.send(number)
    poller = select.poll()
    poller.register(ours, select.POLLIN)
    for number in range(3):
        assert poller.poll(0)
        assert ours.recv() == number
    assert not poller.poll(0)
    ours.close()
    theirs.close()


# --- what is not for a pipe ----------------------------------------------------------------------------------------------


def test_the_descriptor_of_an_end_that_receives_refuses_raw_bytes_at_once():
    with shoal.Pipe()[0] as one, pytest.raises(OSError, match="Invalid argument"):
        os.write(one.fileno(), b"\0")


def test_what_is_no_descriptor_is_an_error_to_who_receives_one():
    one, other = shoal.Pipe()
    with one, other:
        one.send({"handle": 5})
        with pytest.raises(RuntimeError, match=r"'dict'.*send_handle"):
            reduction.recv_handle(other)
