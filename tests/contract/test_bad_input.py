"""What is wrong is refused with the right exception, where it was said, and breaks nothing."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from contract_children import processes, tasks
from contract_children.waiting import LONG

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import BaseContext

    from contract_children.instances import Instance
    from contract_children.partner import Partner

UNPICKLABLE = "cannot pickle '_thread.lock' object"


@dataclass
class Job:
    """An object of which one attribute cannot be pickled."""

    name: str = "job"
    handle: Any = field(default_factory=threading.Lock)


def assert_path(error: BaseException, path: str, kind: str = "_thread.lock") -> None:
    """A note names the culprit, and the way to it from what the call was given."""
    notes = "\n".join(getattr(error, "__notes__", []))
    assert path in notes
    assert kind in notes


# --- what cannot be pickled --------------------------------------------------------------------------------------------------


def test_sending_it_raises_and_sends_nothing(mp: BaseContext):
    one, other = mp.Pipe()
    for obj in (threading.Lock(), Job(), ["large", bytes(1 << 20), threading.Lock()]):
        with pytest.raises(TypeError, match=UNPICKLABLE):
            one.send(obj)
        assert not other.poll()
    one.send("still good")
    assert other.recv() == "still good"


def test_putting_it_into_a_simple_queue_raises_and_puts_nothing(mp: BaseContext):
    queue = mp.SimpleQueue()
    with pytest.raises(TypeError, match=UNPICKLABLE):
        queue.put(Job())
    assert queue.empty()
    queue.put("still good")
    assert queue.get() == "still good"


@pytest.mark.methods("spawn", "forkserver")
def test_starting_a_process_with_it_raises_and_starts_nothing(mp: BaseContext):
    before = mp.active_children()
    process = mp.Process(target=processes.nothing, args=(Job(),))
    with pytest.raises(TypeError, match=UNPICKLABLE):
        process.start()
    with pytest.raises(TypeError, match=UNPICKLABLE):
        mp.Process(target=processes.nothing, kwargs={"job": Job()}).start()
    assert mp.active_children() == before
    assert (process.pid, process.exitcode, process.is_alive()) == (None, None, False)
    good = mp.Process(target=processes.nothing)
    good.start()
    good.join(LONG)
    assert good.exitcode == 0


@pytest.mark.methods("fork")
def test_a_forked_child_is_given_it_as_it_is(mp: BaseContext):
    receiver, sender = mp.Pipe(duplex=False)
    process = mp.Process(target=lambda job: sender.send(job.name), args=(Job("inherited"),))
    process.start()
    assert receiver.recv() == "inherited"
    process.join(LONG)


def test_a_pool_raises_where_it_was_handed_in(mp: BaseContext):
    with mp.Pool(1) as pool:
        for call in (
            lambda: pool.apply(tasks.length, (Job(),)),
            lambda: pool.apply(tasks.length, (), {"obj": Job()}),
            lambda: pool.map(tasks.length, [Job()]),
            lambda: pool.map(tasks.length, ["a", Job(), "b"], chunksize=1),
            lambda: pool.starmap(tasks.length, [(Job(),)]),
        ):
            with pytest.raises(TypeError, match=UNPICKLABLE):
                call()
        assert pool.map(tasks.length, ["a", "bc"]) == [1, 2]


def test_a_pool_tells_an_asynchronous_result_and_its_error_callback(mp: BaseContext):
    called: list[Any] = []
    failed: list[Any] = []
    options = {"callback": called.append, "error_callback": failed.append}
    with mp.Pool(1) as pool:
        results = [
            pool.apply_async(tasks.length, (Job(),), **options),
            pool.map_async(tasks.length, [Job()], **options),
            pool.starmap_async(tasks.length, [(Job(),)], **options),
        ]
        for result in results:
            with pytest.raises(TypeError, match=UNPICKLABLE):
                result.get(LONG)
        assert pool.apply(tasks.length, ("abc",)) == 3
    assert [type(error) for error in failed] == [TypeError] * 3
    assert called == []


def test_a_pool_tells_the_item_of_an_iterator(mp: BaseContext):
    with mp.Pool(1) as pool:
        for method in (pool.imap, pool.imap_unordered):
            results = method(tasks.length, ["a", Job(), "abc"])
            outcomes: list[Any] = []
            for _ in range(3):
                try:
                    outcomes.append(results.next(LONG))
                except TypeError as error:
                    outcomes.append(str(error))
            assert sorted(outcomes, key=str) == [1, 3, UNPICKLABLE]
            with pytest.raises(StopIteration):
                results.next(LONG)


@pytest.mark.shoal_only("the standard queue pickles in a thread, which prints the error and loses the item")
@pytest.mark.parametrize("kind", ["Queue", "JoinableQueue"])
def test_putting_it_into_a_queue_raises_and_puts_nothing(mp: BaseContext, kind: str):
    queue = getattr(mp, kind)(1)
    with pytest.raises(TypeError, match=UNPICKLABLE) as caught:
        queue.put(Job())
    assert_path(caught.value, ".handle")
    assert (queue.empty(), queue.qsize(), queue.full()) == (True, 0, False)
    queue.put("still good", timeout=LONG)
    assert queue.get(timeout=LONG) == "still good"


@pytest.mark.shoal_only("the standard library does not say where in the object the culprit is")
def test_the_error_names_the_way_to_the_culprit(mp: BaseContext, instance: Instance):
    def raised(call: Callable[..., Any], *args: Any, **kwargs: Any) -> BaseException:
        with pytest.raises(TypeError) as caught:
            call(*args, **kwargs)
        return caught.value

    _, sender = mp.Pipe()
    assert_path(raised(sender.send, Job()), ".handle")
    assert_path(raised(sender.send, {"jobs": [Job()]}), "['jobs'][0].handle")
    with open(os.devnull) as file:  # noqa: PTH123 - it is about the object that open() gives
        assert_path(raised(sender.send, Job(handle=file)), ".handle", "TextIOWrapper")
    with mp.Pool(1) as pool:
        assert_path(raised(pool.apply, tasks.length, (Job(),)), "args[0].handle")
        assert_path(raised(pool.apply, tasks.length, (), {"obj": Job()}), "kwds['obj'].handle")
        assert_path(raised(pool.apply_async(tasks.length, (Job(),)).get, LONG), "args[0].handle")
        assert_path(raised(pool.map, tasks.length, ["a", Job()]), ".handle")
        assert_path(raised(pool.imap(tasks.length, [Job()]).next, LONG), ".handle")
    if instance.method != "fork":
        assert_path(raised(mp.Process(target=processes.nothing, args=(Job(),)).start), "args[0].handle")


@pytest.mark.shoal_only("the standard library pickles functions by name only")
def test_what_cannot_be_imported_travels_by_value(mp: BaseContext, partners: Callable[..., Partner]):
    offset = 10
    receiver, sender = mp.Pipe(duplex=False)
    process = mp.Process(target=lambda to, number: to.send(number + offset), args=(sender, 1))
    process.start()
    assert receiver.recv() == 11
    process.join(LONG)
    with mp.Pool(1) as pool:
        assert pool.map(lambda number: number + offset, range(3)) == [10, 11, 12]
        assert pool.apply(lambda: offset) == 10
    queue = mp.Queue()
    partner = partners(queue=queue)
    queue.put(lambda: offset)
    assert partner.ask("queue.get")() == 10


# --- wrong arguments ---------------------------------------------------------------------------------------------------------

WRONG: dict[str, tuple[Callable[[BaseContext], Any], type[BaseException]]] = {
    "Semaphore('1')": (lambda mp: mp.Semaphore("1"), TypeError),
    "Semaphore(1.5)": (lambda mp: mp.Semaphore(1.5), TypeError),
    "BoundedSemaphore(None)": (lambda mp: mp.BoundedSemaphore(None), TypeError),
    "Lock(1)": (lambda mp: mp.Lock(1), TypeError),
    "Lock().acquire(timeout='1')": (lambda mp: mp.Lock().acquire(timeout="1"), TypeError),
    "Lock().acquire(unknown=1)": (lambda mp: mp.Lock().acquire(unknown=1), TypeError),
    "Barrier()": (lambda mp: mp.Barrier(), TypeError),
    "Queue('1')": (lambda mp: mp.Queue("1"), TypeError),
    "Queue().get(timeout='1')": (lambda mp: mp.Queue().get(timeout="1"), TypeError),
    "Queue(1).put(1, timeout='1')": (lambda mp: mp.Queue(1).put(1, timeout="1"), TypeError),
    "Pipe()[0].send_bytes(1)": (lambda mp: mp.Pipe()[0].send_bytes(1), TypeError),
    "Pipe()[0].send_bytes(b'', '1')": (lambda mp: mp.Pipe()[0].send_bytes(b"", "1"), TypeError),
    "Pipe()[0].poll('1')": (lambda mp: mp.Pipe()[0].poll("1"), TypeError),
    "Pipe()[0].recv_bytes('1')": (lambda mp: mp.Pipe()[0].recv_bytes("1"), TypeError),
    "Pool('2')": (lambda mp: mp.Pool("2"), TypeError),
    "Process(unknown=1)": (lambda mp: mp.Process(unknown=1), TypeError),
    "Process(args=1)": (lambda mp: mp.Process(args=1), TypeError),
    "Process(kwargs=1)": (lambda mp: mp.Process(kwargs=1), TypeError),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_argument_is_refused(mp: BaseContext, what: str):
    call, expected = WRONG[what]
    with pytest.raises(expected):
        call(mp)


# --- what cannot be counted, or is no lock ------------------------------------------------------------------------------------


def test_a_pool_wants_a_whole_number_of_processes(mp: BaseContext):
    before = mp.active_children()
    with pytest.raises(TypeError, match="'float' object cannot be interpreted as an integer"):
        mp.Pool(2.5)  # type: ignore[arg-type]
    assert mp.active_children() == before


@pytest.mark.parametrize("lock", [5, "lock"])
def test_a_condition_wants_something_to_acquire(mp: BaseContext, lock: Any):
    with pytest.raises(AttributeError, match="acquire"):
        mp.Condition(lock)
