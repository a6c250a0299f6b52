"""A pickler that sends functions and classes by value where they cannot be imported by name: lambdas, closures, what a notebook defines.

The work is cloudpickle's. This module decides when it is asked: what can be found under its name, in an importable module or in a ``__main__`` that
children have as well, goes by name, as always; and what is not code (an open file, a memoryview) is never replaced by a copy, as cloudpickle would.

Relies on cloudpickle alone. What it writes is read by plain ``pickle.loads``.
"""

from __future__ import annotations

import io
import operator
import sys
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

import cloudpickle

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["ByValuePickler", "goes_by_name"]

# Copies of these would be surprises, not help: they stay the errors that they are.
NOT_CODE = (io.TextIOWrapper, memoryview)


# Where the file's name stands among the arguments of ``types.CodeType`` (Python 3.11 to 3.14).
FILENAME = 10


def _reduce_code(code: CodeType) -> Any:
    """Take code apart as cloudpickle does, but leave it the name of its file, which cloudpickle replaces since 3.1.3: a traceback shows the line."""
    make, arguments = cloudpickle.Pickler.dispatch_table[CodeType](code)
    return make, (*arguments[:FILENAME], code.co_filename, *arguments[FILENAME + 1 :])


def goes_by_name(obj: Any, *, main_by_value: bool) -> bool:
    """Tell whether a function or class is found under its own name, where a receiver will look for it."""
    module, name = getattr(obj, "__module__", None), getattr(obj, "__qualname__", None)
    if (
        not isinstance(module, str)
        or not isinstance(name, str)
        or (main_by_value and module in {"__main__", "__mp_main__"})
    ):
        return False
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is obj


def _is_ctypes_array(obj: Any) -> bool:
    """Tell whether it is what multiplying a ctypes type makes. Such a class has no place of its own, and cloudpickle cannot take it apart."""
    ctypes = sys.modules.get("ctypes")
    return ctypes is not None and isinstance(obj, type(ctypes.Array)) and obj is obj._type_ * obj._length_


class ByValuePickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Pickles what goes by name by name, and other functions and classes by value.

    Args:
        file: whatever has a ``write``.
        protocol: of pickle.
        buffer_callback: as ``pickle.Pickler`` has it.
        reducers: reducing functions by type, which come before cloudpickle's.
        main_by_value: whether what ``__main__`` defines goes by value too, because receivers do not have it.
    """

    def __init__(
        self,
        file: Any,
        protocol: int,
        buffer_callback: Callable[[Any], object] | None,
        reducers: Mapping[type, Callable[[Any], Any]],
        *,
        main_by_value: bool,
    ) -> None:
        self.dispatch_table = {
            **{kind: reduce for kind, reduce in cloudpickle.Pickler.dispatch_table.items() if kind not in NOT_CODE},
            CodeType: _reduce_code,
            **reducers,
        }
        super().__init__(file, protocol=protocol, buffer_callback=buffer_callback)
        self.main_by_value = main_by_value

    def reducer_override(self, obj: Any) -> Any:
        """Leave to the pickler what goes by name, and the rest to cloudpickle."""
        if isinstance(obj, (FunctionType, type)) and goes_by_name(obj, main_by_value=self.main_by_value):
            return NotImplemented
        if _is_ctypes_array(obj):
            return operator.mul, (obj._type_, obj._length_)
        return super().reducer_override(obj)
