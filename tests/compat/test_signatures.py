"""Whatever the standard package defines, shoal defines: the same parameters, in the same order, with the same defaults, and nothing more but by keyword.

What the standard package defines is data, one file a version (``signatures/``, written by ``record_signatures.py``). shoal answers to the record of the running version
without a reservation; and to that of the newest version in that its names are there and its parameters are accepted.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import multiprocessing
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import shoal.synchronize

RECORDS = Path(__file__).with_name("signatures")
RUNNING = "{}.{}".format(*sys.version_info[:2])
NEWEST = max((path.stem for path in RECORDS.glob("*.json")), key=lambda name: int(name.partition(".")[2]))
# What is not compared, and why.
EXEMPT = {
    ("managers", "view_types"): "a helper of the module's own body",
    ("managers", "SharedMemoryManager"): "it names the arguments that the standard one passes on unnamed",
    ("managers", "SharedMemoryServer"): "what the manager runs in its server; the same",
    (
        "managers",
        "Server.serve_client",
    ): "the loop of one thread of the standard server; shoal's server is written otherwise",
    (
        "synchronize",
        "SemLock",
    ): "the base of the standard library's own locks; shoal's are made by their own classes, and have its methods",
    ("sharedctypes", "template"): "the source text from which the standard module makes properties",
    (
        "forkserver",
        "main",
    ): "what the standard fork server runs, as the running version has it; shoal's server is another program",
}
Parameter = inspect.Parameter


def modules(version: str) -> dict[str, Any]:
    return json.loads((RECORDS / f"{version}.json").read_text(encoding="utf-8"))["modules"]


def shoals(module: str) -> Any:
    return importlib.import_module(f"shoal.{module}" if module else "shoal")


def parameters_of(text: str) -> list[Parameter]:
    """Read recorded parameters; a default that is no literal becomes its own text."""
    arguments = ast.parse(f"def f{text}: pass").body[0].args
    found = []

    def add(one: ast.arg, kind: Any, default: ast.expr | None) -> None:
        value = Parameter.empty
        if default is not None:
            try:
                value = ast.literal_eval(default)
            except ValueError:
                value = Computed(ast.unparse(default))
        found.append(Parameter(one.arg, kind, default=value))

    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + arguments.defaults
    for position, (one, default) in enumerate(zip(positional, defaults, strict=True)):
        only = position < len(arguments.posonlyargs)
        add(one, Parameter.POSITIONAL_ONLY if only else Parameter.POSITIONAL_OR_KEYWORD, default)
    if arguments.vararg:
        add(arguments.vararg, Parameter.VAR_POSITIONAL, None)
    for one, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        add(one, Parameter.KEYWORD_ONLY, default)
    if arguments.kwarg:
        add(arguments.kwarg, Parameter.VAR_KEYWORD, None)
    return found


class Computed(str):
    """A default that the sources compute."""

    __slots__ = ()


def faults(recorded: str, found: inspect.Signature, *, lenient: bool, later: str | None = None) -> list[str]:
    """What is wrong with a signature.

    Leniently: another version's parameters must be accepted, its defaults need not be the same. What a later version has is none too many.
    """
    theirs, ours = parameters_of(recorded), list(found.parameters.values())
    wrong = []
    if lenient:
        names = {one.name for one in ours}
        swallows = any(one.kind is Parameter.VAR_KEYWORD for one in ours)
        return [f"does not take {one.name}" for one in theirs if one.name not in names and not swallows]
    for position, their in enumerate(theirs):
        our = ours[position] if position < len(ours) else None
        if their.kind in {Parameter.KEYWORD_ONLY, Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL}:
            our = next((one for one in ours if one.kind is their.kind and one.name == their.name), None)
        if our is None or our.name != their.name or our.kind is not their.kind:
            wrong.append(f"{their} is {our}")
        elif their.default is Parameter.empty:
            continue  # who requires less refuses nobody
        elif isinstance(their.default, Computed):
            if our.default is Parameter.empty:
                wrong.append(f"{their} has no default")
        elif their.name.startswith("_"):
            continue  # a default that keeps something, not a parameter
        elif our.default != their.default or type(our.default) is not type(their.default):
            wrong.append(f"{their} has another default: {our}")
    known = {one.name for one in [*theirs, *parameters_of(later or "()")]}
    by_name = {Parameter.KEYWORD_ONLY, Parameter.VAR_KEYWORD}
    more = [one for one in ours if one.name not in known and one.kind not in by_name]
    return [*wrong, *(f"{one} is more than there is to be, and not by keyword only" for one in more)]


def complaints_of(where: str, recorded: Any, found: Any, *, lenient: bool, later: Any = None) -> list[str]:
    """What is wrong with one thing of a module, or of a class; `later` is what the newest version has there."""
    if recorded == "value":
        return []
    if isinstance(recorded, str):
        if not callable(found):
            return [f"{where} cannot be called"]
        try:
            signature = inspect.signature(found)
        except ValueError as error:
            return [f"{where} does not tell its signature: {error}"]
        later = later if isinstance(later, str) and later.startswith("(") else None
        return [f"{where}: {fault}" for fault in faults(recorded, signature, lenient=lenient, later=later)]
    members = dict(recorded["members"])
    later_members = later["members"] if isinstance(later, dict) else {}
    wrong = []
    constructor = members.pop("__init__", None)
    if constructor is not None:
        wrong += complaints_of(where, constructor, found, lenient=lenient, later=later_members.get("__init__"))
    for name, what in members.items():
        member = getattr(found, name, None)
        if not hasattr(found, name):
            wrong.append(f"{where}.{name} is missing")
        elif isinstance(what, str) and what != "value":
            bound = inspect.getattr_static(found, name)
            if not isinstance(bound, (staticmethod, classmethod)):
                member = _without_self(member)
            wrong += complaints_of(f"{where}.{name}", what, member, lenient=lenient, later=later_members.get(name))
    return wrong


def _without_self(function: Any) -> Any:
    """A method as its callers see it."""
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        return function

    def stand_in() -> None:
        """Carries the signature."""

    stand_in.__signature__ = signature.replace(parameters=list(signature.parameters.values())[1:])  # type: ignore[attr-defined]
    return stand_in


def compare(version: str, module: str) -> list[str]:
    ours, record = shoals(module), modules(version)[module]
    lenient = version != RUNNING
    exported = [] if lenient else record["all"] or []
    missing = [f"__all__ lacks {name}" for name in exported if name not in ours.__all__]
    newest = modules(NEWEST)[module]["names"]
    for name, what in record["names"].items():
        if (module, name) in EXEMPT:
            continue
        if not hasattr(ours, name):
            missing.append(f"{name} is missing")
        else:
            missing += complaints_of(name, what, getattr(ours, name), lenient=lenient, later=newest.get(name))
    exempt = tuple(f"{name} " for where, name in EXEMPT if where == module)
    return [complaint for complaint in missing if not complaint.startswith(exempt)]


@pytest.mark.parametrize("module", modules(RUNNING), ids=lambda module: module or "multiprocessing")
def test_a_module_has_what_the_running_versions_has(module):
    assert compare(RUNNING, module) == []


@pytest.mark.parametrize("module", modules(NEWEST), ids=lambda module: module or "multiprocessing")
def test_a_module_has_what_the_newest_versions_has(module):
    assert compare(NEWEST, module) == []


@pytest.mark.parametrize("module", modules(RUNNING), ids=lambda module: module or "multiprocessing")
def test_what_all_names_is_there(module):
    ours = shoals(module)
    assert [name for name in ours.__all__ if not hasattr(ours, name)] == []


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore", "BoundedSemaphore"])
@pytest.mark.parametrize("method", ["acquire", "release", "__enter__", "__exit__"])
def test_locks_are_taken_and_released_as_the_standard_librarys_native_ones(kind, method):
    ours = inspect.signature(
        getattr(shoal.synchronize, kind).__dict__.get(method) or getattr(getattr(shoal, kind)(), method)
    )
    theirs = inspect.signature(getattr(multiprocessing.Lock()._semlock, method))
    if method == "__exit__":  # theirs takes three values or none
        assert ours.bind(None, None, None)
    else:
        assert str(ours) == str(theirs)


def test_underscored_names_that_foreign_code_uses_are_there():
    listed = tomllib.loads((RECORDS / "underscored.toml").read_text(encoding="utf-8"))
    missing = []
    for module, names in listed.items():
        for name in names:
            found = importlib.import_module(f"shoal.{module}")
            for part in name.split("."):
                if not hasattr(found, part):
                    missing.append(f"{module}.{name}")
                    break
                found = getattr(found, part)
    assert missing == []


def test_the_records_are_those_of_the_installed_sources():
    recorder = _recorder()
    library = Path(inspect.getsourcefile(json)).parent.parent
    assert recorder.record(library) == modules(RUNNING)


def _recorder() -> Any:
    spec = importlib.util.spec_from_file_location("record_signatures", RECORDS.with_name("record_signatures.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_util_has_whatever_can_be_imported_from_the_standard_one():
    ours = importlib.import_module("shoal.util")
    theirs = importlib.import_module("multiprocessing.util")
    assert [
        name for name in dir(theirs) if getattr(ours, name, None) is not getattr(theirs, name) and name[:2] != "__"
    ] == []


@pytest.mark.parametrize(
    ("recorded", "ours", "complaint"),
    [
        ("(a, b=1)", "(a, b=1)", None),
        ("(a, b=1)", "(a, b=1, *, more=None)", None),
        ("(a, b=1)", "(a, b=2)", "another default"),
        ("(a, b=1)", "(a, b=True)", "another default"),
        ("(a, b=1)", "(b=1, a=1)", "a is b=1"),
        ("(a, b=1)", "(a, c=1)", "b=1 is c=1"),
        ("(a, b=1)", "(a, /, b=1)", "a is a"),
        ("(a, b=1)", "(a, b=1, more=None)", "not by keyword only"),
        ("(a, b=1)", "(a)", "b=1 is None"),
        ("(*args, **kwds)", "(*args, **kwds)", None),
        ("(*, daemon=None)", "(*, daemon=None, more=1)", None),
        ("(*, daemon=None)", "(daemon=None)", "daemon"),
        ("(exe=sys.executable)", "(exe='x')", None),
        ("(exe=sys.executable)", "(exe)", "no default"),
    ],
)
def test_the_comparison_bites(recorded, ours, complaint):
    signature = inspect.Signature(parameters_of(ours))
    found = faults(recorded, signature, lenient=False)
    assert (not found) if complaint is None else any(complaint in fault for fault in found)
