"""The program's main module in a child that does not inherit it: its code is run again, as ``__mp_main__``.

The standard library does this with ``runpy``, which imports ``pkgutil`` and ``typing`` for programs that are no plain script; that is a fifteenth of the time
that a spawned child takes. A plain script is run here; and since the module's names are its own, and not a copy, what its functions declare
``global`` is what others see.

Here is also told which line of the main module a call comes from: every child comes by the lines that no main guard protects.
"""

from __future__ import annotations

import io
import sys
from functools import cache
from types import ModuleType

from shoal import _standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, FrameType
    from typing import Any

__all__ = ["become", "children_fail_at", "facts_of_script", "place_in", "run_script"]


_STANDARD_WAY = _standard.spawn._fixup_main_from_path


def facts_of_script(path: str | None) -> dict[str, Any]:
    """What a module that is a script says of itself."""
    return {"__file__": path, "__cached__": None, "__loader__": None, "__package__": "", "__spec__": None}


def become(code: CodeType, facts: dict[str, Any]) -> None:
    """Run the code as this process's main module."""
    _standard.spawn.old_main_modules.append(sys.modules["__main__"])
    module = ModuleType("__mp_main__")
    vars(module).update(facts)
    sys.modules["__mp_main__"] = module
    exec(code, vars(module))  # noqa: S102 - the program's own main module
    sys.modules["__main__"] = module


def run_script(path: str) -> bool:
    """Make a script the main module, as the standard library's ``spawn.prepare`` would.

    Returns:
        False, with nothing done, if it is not a plain script: a directory, a zip file, compiled code, ….

    Raises:
        BaseException: what the script raises, and SyntaxError.
    """
    if _standard.spawn._fixup_main_from_path is not _STANDARD_WAY:
        return False  # somebody has a way of their own
    if getattr(sys.modules["__main__"], "__file__", None) == path:
        return True
    try:
        with io.open_code(path) as file:
            source = file.read()
    except OSError:
        return False
    if b"\0" in source:
        return False
    code = compile(source, path, "exec", dont_inherit=True)
    given = sys.argv[:1]
    sys.argv[:1] = [path]  # as for a script that is run by itself
    try:
        become(code, facts_of_script(path))
    finally:
        sys.argv[:1] = given
    return True


def place_in(name: str) -> tuple[str, int] | None:
    """Find the file and the line of the main module from where this is called; None if it is not called while the module runs.

    Args:
        name: what the main module is called in this process.
    """
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") == name:
            return frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back
    return None


@cache
def children_fail_at(place: tuple[str, int]) -> bool:
    """Tell whether children come by a line of the main module, and end if it raises: nothing that it is in can keep them from that."""
    import ast  # noqa: PLC0415 - rarely needed

    path, line = place
    try:
        with io.open_code(path) as file:
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError):  # what children import is something else
        return False
    around = [
        node
        for node in ast.walk(tree)
        if isinstance(node, (ast.If, ast.Try, ast.With)) and node.lineno <= line <= (node.end_lineno or line)
    ]
    return not any(not isinstance(node, ast.If) or "__name__" in ast.unparse(node.test) for node in around)
