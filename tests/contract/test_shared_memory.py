"""``SharedMemory`` and ``ShareableList``: blocks that processes find by name."""

from __future__ import annotations

import pickle
import signal
import struct
import sys
from typing import TYPE_CHECKING, Any

import pytest
from contract_children import memory as child
from contract_children.waiting import LONG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.context import BaseContext
    from multiprocessing.shared_memory import ShareableList, SharedMemory

    from contract_children.instances import Instance

ITEMS = ["howdy", b"HoWdY", -273.154, 100, None, True, 42, ""]


@pytest.fixture
def make(instance: Instance) -> Iterator[Callable[..., SharedMemory]]:
    """Make blocks that are gone after the test."""
    made: list[SharedMemory] = []

    def make(size: int = 1000, name: str | None = None) -> SharedMemory:
        made.append(instance.module("shared_memory").SharedMemory(name, create=True, size=size))
        return made[-1]

    yield make
    for block in made:
        block.close()
        try:
            block.unlink()
        except FileNotFoundError:
            continue


@pytest.fixture
def make_list(instance: Instance) -> Iterator[Callable[..., ShareableList]]:
    made: list[ShareableList] = []

    def make(*args: Any, **kwargs: Any) -> ShareableList:
        made.append(instance.module("shared_memory").ShareableList(*args, **kwargs))
        return made[-1]

    yield make
    for items in made:
        items.shm.close()
        items.shm.unlink()


def run(mp: BaseContext, target: Callable[..., object], *args: Any) -> int:
    process = mp.Process(target=target, args=args)
    process.start()
    process.join(LONG)
    return process.exitcode


# --- blocks ---------------------------------------------------------------------------------------------------------------


def test_a_block_is_found_by_name_by_a_child_and_by_what_it_is_sent(mp: BaseContext, instance: Instance, make):
    block = make()
    assert block.size >= 1000
    assert len(block.buf) == block.size
    assert bytes(block.buf) == bytes(block.size)
    assert run(mp, child.write, instance, block.name, b"by name") == 0
    assert bytes(block.buf[:7]) == b"by name"
    assert run(mp, child.write, instance, block, b"by gift") == 0
    assert bytes(block.buf[:7]) == b"by gift"
    assert block.name in repr(block)
    assert str(block.size) in repr(block)


def test_a_block_made_by_a_child_outlives_it(mp: BaseContext, instance: Instance):
    receiver, sender = mp.Pipe(duplex=False)
    assert run(mp, child.make_and_tell, instance, sender) == 0
    block = instance.module("shared_memory").SharedMemory(receiver.recv())
    assert bytes(block.buf[:5]) == b"child"
    block.close()
    block.unlink()


def test_a_child_that_attaches_and_is_killed_takes_nothing_along(mp: BaseContext, instance: Instance, make):
    block = make()
    assert run(mp, child.attach_and_die, instance, block.name) == -signal.SIGKILL
    assert block.buf[0] == 1
    assert run(mp, child.write, instance, block.name, b"still") == 0
    assert bytes(block.buf[:5]) == b"still"


@pytest.mark.methods("fork")
def test_a_forked_child_uses_what_its_parent_holds_and_leaves_it_whole(mp: BaseContext, make):
    block = make()
    block.buf[:4] = b"give"
    child.inherited.append(block)
    try:
        receiver, sender = mp.Pipe(duplex=False)
        assert run(mp, child.use_what_was_inherited, sender) == 0
    finally:
        child.inherited.clear()
    assert receiver.recv() == b"give"
    assert bytes(block.buf[:4]) == b"seen"


def test_a_block_pickles_by_name(make):
    block = make()
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        other = pickle.loads(pickle.dumps(block, protocol))
        assert (type(other), other.name, other.size) == (type(block), block.name, block.size)
        other.buf[protocol] = protocol
        assert block.buf[protocol] == protocol
        other.close()


def test_a_name_can_be_chosen_and_the_size_of_a_block_that_is_there_cannot(instance: Instance, make):
    cls = instance.module("shared_memory").SharedMemory
    name = f"shoal-contract-{instance}"
    block = make(512, name)
    assert block.name == name
    other = cls(name, size=10 * block.size)
    assert other.size == block.size
    other.close()
    block.buf[0] = 7
    with pytest.raises(FileExistsError):
        cls(name, create=True, size=512)
    assert block.buf[0] == 7
    block.unlink()
    again = make(100, name)
    assert again.buf[0] == 0
    assert block.buf[0] == 7, "who is attached keeps the old block"


def test_what_makes_no_sense_is_refused(instance: Instance):
    cls = instance.module("shared_memory").SharedMemory
    for size in (0, -1):
        with pytest.raises(ValueError):
            cls(create=True, size=size)
    for arguments in ({"size": -1, "name": "x"}, {}, {"name": None, "size": 10}):
        with pytest.raises(ValueError):
            cls(**arguments)
    with pytest.raises(FileNotFoundError):
        cls("shoal-contract-not-there")
    for name in ("no/such", "", "/"):
        with pytest.raises(OSError, match="Invalid argument"):
            cls(name, create=True, size=1)
    for no_name in (5, b"bytes", ["list"]):
        with pytest.raises(TypeError):
            cls(no_name, create=True, size=1)
        with pytest.raises(TypeError):
            cls(no_name)


@pytest.mark.shoal_only("before Python 3.13 the standard library takes what stands before the zero byte for the name")
def test_a_zero_byte_ends_no_name(instance: Instance, make):
    cls = instance.module("shared_memory").SharedMemory
    block = make()
    with pytest.raises(ValueError):
        cls(f"{block.name}\0inside", create=True, size=1)
    with pytest.raises(ValueError):
        cls(f"{block.name}\0")
    name, block._name = block._name, f"{block._name}\0"
    with pytest.raises(ValueError):
        block.unlink()
    block._name = name


def test_unlink_takes_the_name_away_once(mp: BaseContext, instance: Instance, make):
    block = make()
    block.buf[0] = 1
    assert run(mp, child.unlink, instance, block.name) == 0
    assert block.buf[0] == 1
    with pytest.raises(FileNotFoundError):
        instance.module("shared_memory").SharedMemory(block.name)
    with pytest.raises(FileNotFoundError):
        block.unlink()


def test_close_can_be_said_twice_but_not_while_somebody_looks(make):
    block = make()
    view = block.buf[10:20]
    with pytest.raises(BufferError):
        block.close()
    view[0] = 9
    view.release()
    block.close()
    block.close()
    assert block.buf is None
    assert block.size >= 1000


@pytest.mark.usefixtures("descriptors_steady")
def test_blocks_leave_no_descriptor_behind(instance: Instance, make, descriptors_steady):
    make().close()
    descriptors_steady()
    cls = instance.module("shared_memory").SharedMemory
    for _ in range(20):
        block = make()
        cls(block.name)  # dropped without a close
        cls(block.name).close()
        block.close()
        block.unlink()


# --- lists ----------------------------------------------------------------------------------------------------------------


def test_a_list_holds_what_it_was_given(make_list):
    items = make_list(ITEMS)
    assert list(items) == ITEMS
    assert len(items) == len(ITEMS)
    assert items[-2] == 42
    assert repr(list(items)) in repr(items)
    assert items.shm.name in repr(items)
    assert items.format == "8s8sdqxxxxxx?xxxxxxxx?q8s"
    assert items.count("howdy") == 1
    assert items.count("nobody") == 0
    assert items.index(42) == 6
    with pytest.raises(ValueError):
        items.index("nobody")
    with pytest.raises(IndexError):
        items[len(ITEMS)]
    with pytest.raises(IndexError):
        items[len(ITEMS)] = 1


@pytest.mark.shoal_only("the standard library reads and writes what is no item")
def test_nothing_is_before_the_beginning(make_list):
    items = make_list(ITEMS)
    with pytest.raises(IndexError):
        items[-len(ITEMS) - 1]
    with pytest.raises(IndexError):
        items[-len(ITEMS) - 1] = 1
    assert list(items) == ITEMS


def test_an_item_can_be_replaced_by_what_fits(make_list):
    items = make_list(["howdy", 1, b"12345678"])
    items[0] = 2.5
    items[1] = None
    items[2] = b"x" * 16
    assert list(items) == [2.5, None, b"x" * 16]
    items[0] = "words"
    assert items[0] == "words"
    with pytest.raises(ValueError, match="exceeds available storage"):
        items[0] = "far more than eight bytes"
    assert items[0] == "words"


def test_zero_bytes_at_the_end_are_lost(make_list):
    assert list(make_list(["?\0", b"\x03\x02\x01\0\0\0", "\0inside\0x"])) == ["?", b"\x03\x02\x01", "\0inside\0x"]


def test_a_list_is_found_by_name_and_pickles(mp: BaseContext, instance: Instance, make_list):
    items = make_list(range(10))
    assert run(mp, child.count_up, items) == 0
    assert list(items) == list(range(1, 11))
    other = instance.module("shared_memory").ShareableList(name=items.shm.name)
    other[0] = "changed"
    assert items[0] == "changed"
    other.shm.close()
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        other = pickle.loads(pickle.dumps(items, protocol))
        assert list(other) == list(items)
        other.shm.close()
    assert len(pickle.dumps(items)) == len(pickle.dumps(make_list(range(400))))


def test_a_list_is_copied_into_another_block_and_may_be_empty(make_list, instance: Instance):
    items = make_list(ITEMS)
    copy = make_list(items, name=f"shoal-contract-list-{instance}")
    assert (list(copy), copy.format) == (list(items), items.format)
    copy[-2] = 77
    assert (items[-2], copy[-2]) == (42, 77)
    empty = make_list()
    assert (len(empty), empty.format, list(empty), empty.count(None)) == (0, "", [], 0)


def test_items_of_other_types_are_refused(make_list):
    for items, error in (([[1]], KeyError), ([1 << 64], struct.error)):
        with pytest.raises(error):
            make_list(items)


@pytest.mark.shoal_only("the standard library gives a str places for its characters, and cuts its bytes")
def test_a_str_has_room_for_all_its_bytes(make_list):
    items = make_list(["é" * 8, "日本語"])
    assert list(items) == ["é" * 8, "日本語"]


def test_the_names_of_the_module_are_the_standard_ones(instance: Instance):
    module = instance.module("shared_memory")
    assert {"SharedMemory", "ShareableList"} <= set(module.__all__)
    assert module.ShareableList[int] is not None
    if instance.library == "shoal":
        standard = sys.modules["multiprocessing.shared_memory"]
        assert issubclass(module.SharedMemory, standard.SharedMemory)
        assert issubclass(module.ShareableList, standard.ShareableList)
