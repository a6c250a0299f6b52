"""Loading an outcome in trial, in the worker that has made it, before the application does.

What kills whoever loads it kills the worker then, and is that one task's `WorkerLostError`. A type does so mostly whenever it is loaded. So a worker tries the first
outcome with a type that it has not sent before, if loading it runs code at all (`shoal._pickling.kinds`); a pool that verifies results tries every one.

Loading may have effects: a file that is removed when it has been read, a block that has a new owner. So what goes to the application after the trial of a new
type is what the trial has made, pickled in its turn: each pickle is loaded once. What hands over a thing that cannot be pickled again shows it by other signs, and is not
tried (`shoal._pickling.handing_over`).
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from shoal import _native, reduction
from shoal._pickling import kinds
from shoal._pool.failures import UnloadableError

if TYPE_CHECKING:
    import pickle
    from collections.abc import Sequence

    Pickled = tuple[bytes, Sequence[pickle.PickleBuffer]]

__all__ = ["dumps_trying_each", "dumps_trying_new"]

LARGEST = 16 << 20  # bytes of an outcome that is tried for its type: the trial needs as much memory again, twice

handed_over = _native.handed_over
dumps = reduction.dumps
noted = kinds.noted


def dumps_trying_new(obj: Any) -> Pickled:
    """Pickle an outcome; load it, if there is a type in it that this process has not sent before.

    Raises:
        Exception: whatever pickling raises.
    """
    if noted:
        kinds.forget_noted()
    before = handed_over()
    data, buffers = dumps(obj)
    if not noted or handed_over() != before:
        return data, buffers
    return _tried_for_its_types(data, buffers)


def _tried_for_its_types(data: bytes, buffers: Sequence[pickle.PickleBuffer]) -> Pickled:
    new = kinds.noted_here()
    if not new or len(data) + sum(buffer.raw().nbytes for buffer in buffers) > LARGEST:
        return data, buffers
    pickled: Pickled = data, buffers
    with suppress(BaseException):  # foreign code; if it raises in the application, too, that is told there
        pickled = dumps(_load(data, buffers))
    kinds.learn(new)
    return pickled


def dumps_trying_each(obj: Any) -> Pickled:
    """Pickle an outcome, and load it if that hands nothing over.

    Raises:
        UnloadableError: with what loading it raised.
        Exception: whatever pickling raises.
    """
    before = handed_over()
    data, buffers = dumps(obj)
    if handed_over() == before:
        try:
            _load(data, buffers)
        except BaseException as reason:  # noqa: BLE001 - unpickling runs foreign code
            raise UnloadableError(reason) from None
    return data, buffers


def _load(data: bytes, buffers: Sequence[pickle.PickleBuffer]) -> Any:
    """Load from copies, as the application does: whatever is done with them there must not be done to the outcome itself."""
    return reduction.loads(data, [bytearray(buffer.raw()) for buffer in buffers])
