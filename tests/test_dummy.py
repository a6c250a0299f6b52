"""``shoal.dummy``: the standard ``multiprocessing.dummy``, and what programs written for processes ask of it."""

from __future__ import annotations

import ctypes
import inspect
import multiprocessing.connection
import multiprocessing.dummy as standard
import os
import queue
import socket
import threading
import time
from typing import Any

import pytest

import shoal
import shoal.dummy as mp
from shoal.dummy import connection
from shoal.pool import ThreadPool

SECONDS = 20


# --- the standard module's names ----------------------------------------------------------------------------------------


def test_every_name_of_the_standard_module_is_there():
    assert set(standard.__all__) <= set(mp.__all__)
    public = {name for name in vars(standard) if not name.startswith("_")}
    assert public - set(vars(mp)) == {"array", "weakref"}, "those are modules that it imports"
    assert {name for name in vars(standard.connection) if not name.startswith("_")} <= {*vars(connection), "Queue"}
    for name in mp.__all__:
        assert hasattr(mp, name)


@pytest.mark.parametrize("name", ["DummyProcess", "Array", "Value", "Manager", "Pool", "Pipe", "active_children"])
def test_signatures_are_the_standard_ones_and_extras_are_keywords(name: str):
    theirs = inspect.signature(getattr(standard, name)).parameters
    ours = inspect.signature(getattr(mp, name)).parameters
    for (their_name, their), (our_name, our) in zip(theirs.items(), ours.items(), strict=False):
        assert (their_name, their.kind) == (our_name, our.kind)
    for extra in list(ours)[len(theirs) :]:
        assert ours[extra].kind is inspect.Parameter.KEYWORD_ONLY


def test_locks_are_those_of_threads():
    assert (mp.Lock, mp.Condition, mp.Event, mp.Barrier) == (
        threading.Lock,
        threading.Condition,
        threading.Event,
        threading.Barrier,
    )
    assert isinstance(mp.RLock(), type(threading.RLock()))
    assert issubclass(mp.Semaphore, threading.Semaphore)
    assert issubclass(mp.BoundedSemaphore, threading.BoundedSemaphore)
    assert issubclass(mp.Queue, queue.Queue)
    assert mp.JoinableQueue is mp.Queue
    assert (mp.dict, mp.list, mp.set) == (dict, list, set)
    assert (mp.TimeoutError, mp.ProcessError) == (shoal.TimeoutError, shoal.ProcessError)


# --- processes ----------------------------------------------------------------------------------------------------------


def test_a_process_is_a_thread_of_this_process():
    told: list[Any] = []
    process = mp.Process(target=lambda *args, **kwargs: told.append((args, kwargs)), args=[1, 2], kwargs={"three": 3})
    assert (process.exitcode, process.pid, process.is_alive(), process.daemon) == (None, None, False, False)
    process.start()
    process.join(SECONDS)
    assert told == [((1, 2), {"three": 3})]
    assert (process.exitcode, process.pid, process.is_alive()) == (0, os.getpid(), False)
    process.close()
    assert isinstance(process, threading.Thread)
    assert mp.Process is mp.DummyProcess
    assert mp.Process(daemon=True).daemon is True


def test_a_process_runs_until_its_function_returns():
    gate = mp.Event()
    process = mp.Process(target=gate.wait, args=(SECONDS,), name="waits")
    process.start()
    assert process in mp.active_children()
    assert (process.name, process.exitcode, process.is_alive()) == ("waits", None, True)
    with pytest.raises(ValueError, match="still running"):
        process.close()
    gate.set()
    process.join(SECONDS)
    assert process not in mp.active_children()


def test_the_current_process_knows_its_parent_and_its_children():
    seen: dict[str, Any] = {}

    def child() -> None:
        seen["me"], seen["parent"] = mp.current_process(), mp.parent_process()
        grandchild = mp.Process(target=lambda: None)
        grandchild.start()
        seen["children"] = grandchild
        grandchild.join()

    process = mp.Process(target=child)
    process.start()
    process.join(SECONDS)
    assert (seen["me"], seen["parent"]) == (process, mp.current_process())
    assert seen["children"] not in mp.active_children()
    assert mp.parent_process() is None

    def in_a_plain_thread() -> None:
        seen["plain"] = mp.active_children()

    thread = threading.Thread(target=in_a_plain_thread)
    thread.start()
    thread.join(SECONDS)
    assert seen["plain"] == []


def test_only_its_maker_starts_a_process():
    process = mp.Process(target=lambda: None)
    with mp.Pool(1) as pool, pytest.raises(RuntimeError, match="no other thread"):
        pool.apply(process.start)


# --- what is shared -----------------------------------------------------------------------------------------------------


def test_locks_and_semaphores_say_whether_they_are_held():
    for make in (mp.Lock, mp.RLock, lambda: mp.Semaphore(1), lambda: mp.BoundedSemaphore(1)):
        lock: Any = make()
        assert lock.locked() is False
        with lock:
            assert lock.locked() is True
            with mp.Pool(1) as pool:
                assert pool.apply(lock.locked) is True, "whoever asks"
        assert lock.locked() is False
    assert mp.Semaphore(3).get_value() == 3


def test_a_queue_has_what_one_between_processes_has():
    items: Any = mp.Queue(2)
    items.put(1)
    items.put(2)
    with pytest.raises(queue.Full):
        items.put(3, timeout=0.01)
    assert [items.get(), items.get(timeout=1)] == [1, 2]
    items.task_done()
    items.task_done()
    items.join()
    items.close()
    items.join_thread()
    items.cancel_join_thread()
    simple = mp.SimpleQueue()
    assert simple.empty()
    simple.put("x")
    assert simple.get() == "x"
    simple.close()


def test_a_value_and_an_array_have_a_lock():
    number = mp.Value("i", 5)
    with number.get_lock():
        number.value += 1
    assert (number.value, number.get_obj().value, repr(number)) == (6, 6, "<Value('i', 6)>")
    assert mp.Value("d").value == 0.0
    with number:
        pass
    lock = threading.RLock()
    assert mp.Value("i", 0, lock).get_lock() is lock
    array = mp.Array("i", [1, 2, 3])
    with array.get_lock():
        array[0] = 9
    assert array[:].tolist() == [9, 2, 3]
    assert mp.Array("d", 3).tolist() == [0.0] * 3
    assert mp.RawArray("i", range(2)).tolist() == [0, 1]
    assert mp.RawValue("i", 4).value == 4
    with pytest.raises(ValueError, match="-1"):
        mp.Array("i", -1)


def test_ctypes_classes_work_as_between_processes():
    class Point(ctypes.Structure):
        _fields_ = (("x", ctypes.c_double), ("y", ctypes.c_double))

    point = mp.Value(Point, 1.0, 2.0)
    with point.get_lock():
        point.x += 1
    assert (point.x, point.y) == (2.0, 2.0)
    text = mp.Array("c", b"abc")
    assert text.value == b"abc"
    assert mp.Array(ctypes.c_int, 3)[:] == [0, 0, 0]
    assert mp.Array(Point, [(1, 2), (3, 4)])[1].y == 4


def test_the_manager_is_the_module():
    manager = mp.Manager()
    assert manager is mp
    with mp.Manager() as manager:
        space = manager.Namespace(x=1, _hidden=2)
        space.y = "two"
        assert repr(space) == "Namespace(x=1, y='two')"
        assert manager.list([1]) == [1]
        assert manager.Queue().empty()
    manager.shutdown()
    assert mp.get_context("spawn") is mp
    assert mp.cpu_count() == shoal.cpu_count()


def test_the_pool_is_a_thread_pool():
    with mp.Pool(2, initializer=lambda: None, initargs=()) as pool:
        assert type(pool) is ThreadPool
        assert pool.map(len, ["a", "bb"]) == [1, 2]
    with mp.Manager() as manager, manager.Pool(1) as pool:
        assert pool.apply(threading.current_thread) is not threading.current_thread()


# --- pipes --------------------------------------------------------------------------------------------------------------


def test_both_ends_of_a_pipe_send_and_receive_the_objects_themselves():
    one, other = mp.Pipe()
    thing = object()
    one.send(thing)
    assert other.recv() is thing
    other.send_bytes(b"0123456789", 2, 3)
    assert one.recv_bytes() == b"234"
    one.close()  # as a parent does with "its copy" of what it has given to a child
    one.send("still open")
    with other:
        assert other.recv() == "still open"


def test_bytes_have_their_limits():
    one, other = mp.Pipe(duplex=False)
    other.send_bytes(memoryview(b"abcdef"))
    target = bytearray(8)
    assert one.recv_bytes_into(target, 1) == 6
    assert bytes(target) == b"\0abcdef\0"
    other.send_bytes(b"too long")
    with pytest.raises(shoal.BufferTooShort) as caught:
        one.recv_bytes_into(bytearray(3))
    assert caught.value.args == (b"too long",)
    other.send_bytes(b"too long")
    with pytest.raises(OSError, match="8 bytes"):
        one.recv_bytes(3)
    for wrong in ((7,), (-1,), (0, 7), (3, 4)):
        with pytest.raises(ValueError, match="6"):
            other.send_bytes(b"abcdef", *wrong)
    with pytest.raises(TypeError):
        other.send_bytes("text", 1)
    other.send([1, 2])
    other.send_bytes(one.recv_bytes())  # an echo, as the interpreter's own tests have it
    assert one.recv() == [1, 2]


def test_poll_waits_for_something_to_receive_and_leaves_it_there():
    one, other = mp.Pipe()
    assert one.poll() is False
    assert one.poll(0.01) is False
    sender = threading.Timer(0.05, other.send, ["x"])
    sender.start()
    assert one.poll(None) is True
    assert one.poll() is True
    assert one.recv() == "x"
    sender.join()


def test_whoever_polls_takes_no_wake_up_from_whoever_receives():
    one, other = mp.Pipe()
    received: list[Any] = []
    receiver = threading.Thread(target=lambda: received.append(one.recv()))
    receiver.start()
    pollers = [threading.Thread(target=one.poll, args=(SECONDS,)) for _ in range(3)]
    for poller in pollers:
        poller.start()
    time.sleep(0.05)
    other.send("x")
    receiver.join(SECONDS)
    assert received == ["x"]
    other.send("for the pollers")
    for poller in pollers:
        poller.join(SECONDS)
        assert not poller.is_alive()


def test_wait_tells_which_of_several_is_ready():
    pipes = [mp.Pipe() for _ in range(3)]
    readers = [reader for reader, _ in pipes]
    assert connection.wait(readers, 0.01) == []
    gate = mp.Event()
    process = mp.Process(target=gate.wait, args=(SECONDS,))
    process.start()
    assert connection.wait([*readers, process.sentinel], 0) == []
    pipes[1][1].send("x")
    assert connection.wait([*readers, process.sentinel]) == [readers[1]]
    readers[1].recv()
    gate.set()
    assert connection.wait([*readers, process.sentinel], SECONDS) == [process]
    assert process.exitcode == 0
    assert all(reader._watching == [] for reader in readers)
    there, here = socket.socketpair()
    with there, here:
        assert connection.wait([here], 0) == []
        with pytest.raises(TypeError, match="together"):
            connection.wait([here, readers[0]], 0)
    assert connection.wait([], 0) == []


def test_listeners_are_found_by_their_address_or_their_name():
    with connection.Listener(("localhost", 6000), backlog=2) as listener:
        served: list[Any] = []

        def serve() -> None:
            for _ in range(2):
                with listener.accept() as accepted:
                    served.append(accepted.recv())
                    accepted.send("answer")

        server = mp.Process(target=serve)
        server.start()
        for address in (listener.address, ("localhost", 6000)):
            with connection.Client(address, authkey=b"not used") as client:
                client.send(str(address))
                assert client.recv() == "answer"
        server.join(SECONDS)
    with pytest.raises(ConnectionRefusedError):
        connection.Client(("localhost", 6000))
    with pytest.raises(OSError, match="closed"):
        listener.accept()
    assert issubclass(multiprocessing.connection.BufferTooShort, Exception)
