"""The instances that every contract test runs on, and what the tests share.

A test that asks for ``mp`` (a context) or ``instance`` (where that context comes from) runs once per instance: shoal and the standard
library, each with fork, spawn and forkserver. What differs by design is said by a marker, which leaves the other instances out.
"""

from __future__ import annotations

import gc
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

# Spawned children import the functions that they run; they are given this process's sys.path.
sys.path.insert(0, str(Path(__file__).parent))

from contract_children.instances import INSTANCES, THREADS, Instance
from contract_children.partner import Partner
from contract_children.waiting import LONG, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.context import BaseContext
    from multiprocessing.pool import Pool

HERE = Path(__file__).parent

# What children inherit at a fork or through the fork server is nothing a test waits for.
FORK_WITH_THREADS = "ignore:.*multi-threaded, use of fork:DeprecationWarning"


def pytest_configure(config: pytest.Config) -> None:
    for line in (
        "shoal_only(reason): by design the standard library behaves otherwise",
        "standard_only(reason): by design shoal behaves otherwise",
        "methods(*names): the start methods that the test is about (all unless told)",
        "threads_too: the tests hold for the packages' `dummy` as well",
        "processes_only(reason): among those, one that does not",
    ):
        config.addinivalue_line("markers", line)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings(FORK_WITH_THREADS))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "instance" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker
    instances = INSTANCES
    if marker("threads_too") and not marker("processes_only"):
        instances = [*INSTANCES, *THREADS]
    for name, library in (("shoal_only", "shoal"), ("standard_only", "standard")):
        if only := marker(name):
            if not only.args:
                pytest.fail(f"{metafunc.definition.nodeid}: {name} needs a reason", pytrace=False)
            instances = [instance for instance in instances if instance.library == library]
    if methods := marker("methods"):
        instances = [instance for instance in instances if instance.method in methods.args]
    metafunc.parametrize("instance", instances, ids=str, indirect=True)


@pytest.fixture
def instance(request: pytest.FixtureRequest) -> Instance:
    """Where the context comes from; children are given it, so that they find the same library."""
    return request.param


@pytest.fixture
def mp(instance: Instance) -> Iterator[BaseContext]:
    """The context under test. A child that a failing test left behind is killed, and the standard library's threads come to their
    end: shoal would warn of a fork beside them in the next test.
    """
    yield instance.context()
    if instance.method != "threads":
        instance.module("resource_sharer").stop(LONG)
    if threading.active_count() > 1:
        gc.collect()  # a queue's thread ends with its queue
        eventually(lambda: threading.active_count() == 1, seconds=1)
    for child in instance.module().active_children():
        if instance.method != "threads":
            child.kill()
        child.join()


@pytest.fixture
def partners(mp: BaseContext) -> Iterator[Callable[..., Partner]]:
    """Start processes that hold the given things and do with them what they are told."""
    started = []

    def start(**things: Any) -> Partner:
        started.append(Partner(mp, **things))
        return started[-1]

    yield start
    for partner in started:
        partner.leave()


@pytest.fixture
def pool(mp: BaseContext) -> Iterator[Pool]:
    """Two workers; on the way out it must end as a pool ought to."""
    with mp.Pool(2) as pool:
        yield pool
        pool.close()
        pool.join()
