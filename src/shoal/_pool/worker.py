"""The loop in a worker: claim a task, run it, publish the outcome.

Ctrl-C at a terminal reaches every process of the group. The application answers it and ends its workers; a worker itself stays quiet. It
does not ignore the signal (programs started by a task would inherit that), it handles it by doing nothing, unless the application or the
initializer set a handler of their own.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

from shoal import _native
from shoal._bootstrap import exitcode_of
from shoal._pool import lineage
from shoal._pool.failures import FAILURES, Bounce, Failure, NotRun, unsendable
from shoal._pool.functions import CALL, EACH, FRESH, ITEMS, NOT_HERE, ONE, STAR, STARRED
from shoal._runtime import interrupts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shoal._pool.transport import WorkerEnd

__all__ = ["BROKEN", "LEAVING", "READY", "STARTED", "be_thread", "serve"]

# What a worker says of itself: numbers in place of a task's; the payload is (identity, …).
STARTED = 1  # runs Python code of this module
READY = 2  # its initializer has returned
BROKEN = 3  # its initializer raised: (identity, failure)
LEAVING = 4  # has run as many tasks as it may

FEW = 8  # outcomes that travel without pickle, if they are plain and in a tuple


def serve(
    end: WorkerEnd,
    initializer: Callable[..., object] | None,
    initargs: tuple[Any, ...],
    maxtasks: int | None,
    *,
    wrap_exception: bool,
) -> None:
    """Run tasks until there are no more, or `maxtasks` were run; in a child that a task has forked, until it comes back from that.

    Args:
        end: where tasks come from and outcomes go.
        initializer: called first; if it raises, that breaks the pool.
        initargs: what it is called with.
        maxtasks: tasks to run before leaving; None for no limit.
        wrap_exception: whether the traceback goes along with an exception.

    Raises:
        BaseException: in such a child, what the task has raised.
    """
    identity = end.identity
    forks = lineage.forks
    interrupts.bear()
    interrupts.let_through()
    if initializer is not None:
        end.publish(STARTED, False, (identity,))
        try:
            initializer(*initargs)
        except BaseException as error:  # whatever it raises breaks the pool
            if lineage.forks != forks:
                raise
            end.publish(BROKEN, False, (identity, Failure(error, remote=wrap_exception)))
            raise SystemExit(1) from None  # the pool tells of it, once; not every worker on the terminal
        if lineage.forks != forks:
            return
    end.publish(READY, False, (identity,))
    if _run(end, maxtasks, remote=wrap_exception):
        end.publish(LEAVING, False, (identity,))


def be_thread(serve: Callable[[], None]) -> None:
    """Serve in a thread of the application, which leaves by returning where a process leaves by SystemExit.

    A child that a task has forked has no other thread, nor anything to return to. So it ends here; the application's exit functions are not for it.
    """
    forks = lineage.forks
    code = 0
    try:
        serve()
    except SystemExit as leaving:
        if lineage.forks != forks:
            code = exitcode_of(leaving)
    except BaseException:
        if lineage.forks == forks:
            raise
        sys.excepthook(*sys.exc_info())
        code = 1
    if lineage.forks != forks:
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        _native.set_exit_code(code & 0xFF)
        os._exit(code & 0xFF)


def _run(end: WorkerEnd, maxtasks: int | None, *, remote: bool) -> bool:  # noqa: C901, PLR0912 - the hot loop, in one piece
    """Run tasks; returns whether it stops because it has run as many as it may."""
    claim = end.claim
    publish = end.publish
    functions = end.functions()
    known = functions.known
    left = -1 if maxtasks is None else maxtasks
    forks = lineage.forks
    while left:
        try:
            claimed = claim()
        except (EOFError, OSError):  # the application is gone
            return False
        if claimed is None:
            return False
        task, payload = claimed
        del claimed
        if lineage.forks != forks:  # a child that loading the task has forked
            if payload.__class__ in FAILURES:
                raise payload.exception
            return False
        function = None
        value: Any = None
        try:
            mode = payload[0]
            function = known(payload[1])
            if function is None:
                function = functions.resolve(payload)
            if function is NOT_HERE:
                value = Bounce()
                left += 1  # it was not run
            elif mode == ONE:
                value = function(payload[2])
            elif mode == CALL:
                arguments, keywords = payload[2]
                value = function(*arguments, **keywords)
            elif mode == STAR:
                value = function(*payload[2])
            else:
                value = _run_by_mode(end, task, mode, function, payload, remote=remote)
        except BaseException as error:  # SystemExit and KeyboardInterrupt are outcomes of a task like others
            if lineage.forks != forks:  # a child that the task has forked
                raise
            value = _failed(payload, error, remote=remote)
        if lineage.forks != forks:
            return False
        try:
            publish(task, True, value)
        except BaseException as error:
            if lineage.forks != forks:
                raise
            _publish_anyway(end, task, payload, value, error)
        if lineage.forks != forks:  # a child that pickling the outcome has forked
            return False
        left -= 1
        del payload, function, value, task
    return True


def _failed(payload: Any, error: BaseException, *, remote: bool) -> Failure:
    """Make the outcome of a task that raised, or whose arguments could not be loaded."""
    if payload.__class__ in FAILURES:
        return NotRun(payload.exception, remote=remote)
    return Failure(error, remote=remote)


def _run_by_mode(
    end: WorkerEnd, task: int, mode: int, function: Callable[..., Any], payload: tuple[Any, ...], *, remote: bool
) -> Any:
    mode %= FRESH
    argument = payload[2]
    if mode == ONE:
        return function(argument)
    if mode == STAR:
        return function(*argument)
    if mode == CALL:
        return function(*argument[0], **argument[1])
    return _run_items(end, task, mode - ITEMS, function, argument, remote=remote)


def _run_items(
    end: WorkerEnd,
    task: int,
    mode: int,
    function: Callable[..., Any],
    items: Sequence[Any],
    *,
    remote: bool,
) -> tuple[Any, ...]:
    """Run the items of a chunk in steps; publish after each step but the last, whose report is returned."""
    count = len(items)
    done = 0
    failed = partial(Failure, remote=remote) if mode & EACH else None
    forks = lineage.forks
    while True:
        began = perf_counter()
        outcomes = end.run(task, function, items, done, bool(mode & STARRED), failed)
        if lineage.forks != forks:
            return ()
        seconds = perf_counter() - began
        report = (done, seconds, tuple(outcomes) if len(outcomes) <= FEW else outcomes)
        done += len(outcomes)
        if done >= count:
            return report
        try:
            end.publish(task, False, report)
        except BaseException as error:
            if lineage.forks != forks:
                raise
            if not mode & EACH:
                raise unsendable(error, outcomes, end.check).exception from None
            end.publish(task, False, _only_sendable(end, report))
        if lineage.forks != forks:
            return ()


def _only_sendable(end: WorkerEnd, report: tuple[Any, ...]) -> tuple[Any, ...]:
    """Put an error in the place of each outcome that cannot be published."""
    outcomes = []
    for outcome in report[2]:
        try:
            end.check(outcome)
        except BaseException as error:  # noqa: BLE001 - pickling runs foreign code
            outcomes.append(unsendable(error, outcome, end.check))
        else:
            outcomes.append(outcome)
    return (*report[:2], tuple(outcomes))


def _publish_anyway(end: WorkerEnd, task: int, payload: Any, value: Any, error: BaseException) -> None:
    """Publish something in place of an outcome that could not be published."""
    if value.__class__ is not tuple or payload[0] % FRESH < ITEMS:
        end.publish(task, True, unsendable(error, value, end.check))
    elif payload[0] % FRESH >= ITEMS + EACH:
        end.publish(task, True, _only_sendable(end, value))
    else:
        end.publish(task, True, unsendable(error, list(value[2]), end.check))
