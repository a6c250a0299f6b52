"""What the fork server knows before its first fork: the modules that the main module imports, and the main module's code.

The main module itself is not run in the server (unless a program names ``__main__`` in ``set_forkserver_preload``): each child runs it, as
``__mp_main__``, as children of all start methods do that inherit no memory. But what takes its time, importing and compiling, has been done by then.
"""

from __future__ import annotations

import ast
import io
import runpy
import sys
from importlib import import_module
from pathlib import Path

from shoal import _main_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.machinery import ModuleSpec
    from types import CodeType
    from typing import Any

__all__ = ["MainModule", "import_one", "imports_of"]


def import_one(name: str) -> BaseException | None:
    """Import a module if it can be; return what kept it from that: the import will fail where the program makes it, with the program's own message."""
    try:
        import_module(name)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whether it matters is the caller's business
        return error
    return None


def imports_of(source: str | bytes, package: str = "") -> list[str]:
    """The modules that a module imports when it is run, outside functions, classes and a main guard.

    Args:
        source: of the module.
        package: the package that its relative imports start from.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return []
    return list(dict.fromkeys(_imports_in(tree.body, package)))


def _imports_in(statements: list[ast.stmt], package: str) -> Iterator[str]:
    for statement in statements:
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - statement.level + 1] if statement.level else []
            origin = ".".join([*base, statement.module] if statement.module else base)
            if origin and (package or not statement.level):
                yield origin
        elif isinstance(statement, ast.If):
            condition = ast.unparse(statement.test)
            if "__name__" not in condition and "TYPE_CHECKING" not in condition:
                yield from _imports_in(statement.body, package)
            yield from _imports_in(statement.orelse, package)
        elif isinstance(statement, (ast.Try, ast.With)):
            yield from _imports_in(statement.body, package)


class MainModule:
    """The program's main module: compiled in the server, run in its children.

    Args:
        data: the preparation data of whoever started the server.
    """

    def __init__(self, data: dict[str, Any]) -> None:
        self.name: str | None = data.get("init_main_from_name")
        self.path: str | None = data.get("init_main_from_path")
        self.code: CodeType | None = None
        self.spec: ModuleSpec | None = None
        self._state: tuple[int, int] | None = None
        self.imports: list[str] = []
        self.refresh()

    def refresh(self) -> bool:
        """Compile it, if it has changed since it was last compiled; tell whether it has. Whatever goes wrong, children do without."""
        before = self.code
        try:
            self._compile()
        except (Exception, SystemExit):  # noqa: BLE001 - a directory, a zip file, a syntax error, …: not what this is for
            self.code = None
        return self.code is not before

    def _compile(self) -> None:
        if self.path is None and self.spec is None and self.name is not None and not self.name.endswith("__main__"):
            self.spec = runpy._get_module_details(self.name)[1]  # type: ignore[attr-defined]
        file = self.path if self.spec is None else self.spec.origin
        if file is None:
            return
        status = Path(file).stat()
        if self._state == (status.st_mtime_ns, status.st_size):
            return
        with io.open_code(file) as stream:
            source = stream.read()
        self.code = compile(source, file, "exec", dont_inherit=True)
        self.imports = imports_of(source, self.spec.parent or "" if self.spec is not None else "")
        self._state = (status.st_mtime_ns, status.st_size)

    def stands_for(self, data: dict[str, Any]) -> bool:
        """Tell whether this is the main module that a child is to have, and there is code to run."""
        if self.code is None:
            return False
        return self.name == data.get("init_main_from_name") and self.path == data.get("init_main_from_path")

    def run(self) -> None:
        """Make the main module of this process, as the standard library's ``spawn.prepare`` would."""
        if self.code is None:
            return
        current = sys.modules["__main__"]
        if self.spec is None:
            if getattr(current, "__file__", None) == self.path:
                return
            facts = _main_module.facts_of_script(self.path)
        else:
            if getattr(getattr(current, "__spec__", None), "name", None) == self.name:
                return
            spec = self.spec
            facts = {
                "__file__": spec.origin,
                "__cached__": spec.cached,
                "__loader__": spec.loader,
                "__package__": spec.parent,
                "__spec__": spec,
            }
        _main_module.become(self.code, facts)
