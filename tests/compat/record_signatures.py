"""Writes down what the modules of the standard ``multiprocessing`` define: names, signatures, defaults. No code is kept.

    python tests/compat/record_signatures.py /usr/lib/python3.13 3.13 > tests/compat/signatures/3.13.json

Reads the sources, so any version can be recorded by any interpreter. Of two branches that only the running system could tell apart, both are read; what belongs to
Windows is left out. What the sources make while they are imported is followed in the three places where they do: the package's own names are those of its default
context, ``MakeProxyType`` makes methods of what it is told, ``register`` makes a manager's.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

MODULES = (
    "",
    "connection",
    "context",
    "dummy",
    "dummy.connection",
    "forkserver",
    "heap",
    "managers",
    "pool",
    "popen_fork",
    "popen_forkserver",
    "popen_spawn_posix",
    "process",
    "queues",
    "reduction",
    "resource_sharer",
    "resource_tracker",
    "shared_memory",
    "sharedctypes",
    "spawn",
    "synchronize",
    "util",
)
WINDOWS = {"sys.platform == 'win32'": True, "sys.platform != 'win32'": False, "_winapi": True, "os.name == 'nt'": True}
VALUE = "value"
MADE = "(*args, **kwds)"

Names = dict[str, Any]  # a function's parameters, a class's {"bases", "members"}, or VALUE


def signature_of(arguments: ast.arguments, *, method: bool) -> str:
    """The parameters, without a method's own object and without annotations."""
    if method:
        del (arguments.posonlyargs or arguments.args)[:1]
    for one in ast.walk(arguments):
        if isinstance(one, ast.arg):
            one.annotation = None
    return f"({ast.unparse(arguments)})"


def function(node: ast.FunctionDef | ast.AsyncFunctionDef, *, in_class: bool) -> str:
    marks = {ast.unparse(mark) for mark in node.decorator_list}
    if marks & {"property", "functools.cached_property"} or any(
        mark.endswith((".setter", ".getter")) for mark in marks
    ):
        return VALUE
    return signature_of(node.args, method=in_class and "staticmethod" not in marks)


def windows(node: ast.If) -> bool | None:
    """Whether the first branch is Windows's, or the second; None if that is not the question."""
    return next((answer for text, answer in WINDOWS.items() if text in ast.unparse(node.test)), None)


def wanted(name: str, *, in_class: bool) -> bool:
    return not name.startswith("_") or (in_class and name in {"__init__", "__call__", "__enter__", "__exit__"})


def inherited(names: Names) -> Names:
    """Give classes what they have from bases whose names begin with an underscore; then drop all such names."""
    for what in names.values():
        if isinstance(what, dict):
            for base in what["bases"]:
                if base.startswith("_") and isinstance(names.get(base), dict):
                    what["members"] = {**names[base]["members"], **what["members"]}
    return {name: what for name, what in names.items() if wanted(name, in_class=False)}


def names_in(body: list[ast.stmt], *, in_class: bool = False) -> Names:
    """The names that statements define, and what they are; underscored classes among them, for what others inherit."""
    found: Names = {}
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            if wanted(node.name, in_class=in_class):
                found.setdefault(node.name, function(node, in_class=in_class))
        elif isinstance(node, ast.ClassDef):
            if wanted(node.name, in_class=in_class) or not in_class:
                bases = [ast.unparse(base) for base in node.bases]
                found[node.name] = {"bases": bases, "members": names_in(node.body, in_class=True)}
        elif isinstance(node, ast.If):
            found = {**found, **({} if windows(node) is True else names_in(node.body, in_class=in_class))}
            found = {**({} if windows(node) is False else names_in(node.orelse, in_class=in_class)), **found}
        elif isinstance(node, ast.Try):
            found |= names_in([*node.body, *node.orelse], in_class=in_class)
        elif isinstance(node, (ast.With, ast.For)):
            continue  # what only serves the import
        else:
            found |= assigned(node, in_class=in_class)
    return found


def assigned(node: ast.stmt, *, in_class: bool) -> Names:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    targets = [one for target in targets for one in (target.elts if isinstance(target, ast.Tuple) else [target])]
    names = [one.id for one in targets if isinstance(one, ast.Name) and wanted(one.id, in_class=in_class)]
    value = getattr(node, "value", None)
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "MakeProxyType":
        methods = [one.value for one in ast.walk(value.args[1]) if isinstance(one, ast.Constant)]
        members = {name: MADE for name in methods if wanted(name, in_class=True)}
        return {name: {"bases": ["BaseProxy"], "members": members} for name in names}
    return dict.fromkeys(names, VALUE)


def registered(tree: ast.Module, names: Names) -> None:
    """Give managers the methods that ``register`` makes."""
    for node in tree.body:
        call = node.value if isinstance(node, ast.Expr) else None
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "register":
            owner, name = ast.unparse(call.func.value), call.args[0]
            made = not any(
                keyword.arg == "create_method" and ast.unparse(keyword.value) == "False" for keyword in call.keywords
            )
            if owner in names and isinstance(name, ast.Constant) and made:
                names[owner]["members"][name.value] = MADE


def exported(tree: ast.Module) -> list[str] | None:
    """What ``__all__`` says, as far as it is written down; None if it is made otherwise or not there."""
    found: list[str] | None = None
    for node in tree.body:
        if isinstance(node, ast.If) and windows(node) is not None:
            more = exported(ast.Module(node.orelse if windows(node) else node.body, []))
            found = found if more is None else [*(found or []), *more]
        elif isinstance(node, (ast.Assign, ast.AugAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(one, ast.Name) and one.id == "__all__" for one in targets):
                with suppress(ValueError):
                    found = [*(found or []), *ast.literal_eval(node.value)]
    return found


def record(library: Path) -> dict[str, Any]:
    """Record the package below a directory of the standard library."""
    modules: dict[str, Any] = {}
    for module in MODULES:
        path = library.joinpath("multiprocessing", *module.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = inherited(names_in(tree.body))
        registered(tree, names)
        modules[module] = {"all": exported(tree), "names": dict(sorted(names.items()))}
    context = modules["context"]["names"]
    own = {**context["BaseContext"]["members"], **context["DefaultContext"]["members"]}
    own = {name: what for name, what in own.items() if not name.startswith("_")}
    modules[""]["names"] |= own
    modules[""]["all"] = sorted(own)
    return modules


def main() -> None:
    library, version = sys.argv[1:]
    text = json.dumps({"version": version, "modules": record(Path(library))}, indent=1, sort_keys=True)
    print(re.sub(r"\[\s+([^][{}]*?)\s+\]", lambda found: "[" + " ".join(found[1].split()) + "]", text))


if __name__ == "__main__":
    main()
