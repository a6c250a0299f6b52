"""The two packages behind the name ``multiprocessing``: what is found and loaded once a program imports it under the alias.

* ``multiprocessing``, what the program sees. It has shoal's names; its modules are shoal's modules, the same objects, where shoal has them,
  and the standard library's where it does not.
* ``_standard_multiprocessing``, the standard library's package, loaded under a name of its own. The imports inside it are relative, so they
  stay inside it, at any time: no circle can arise, and a standard module works with its own kin, as it does by hand
  (``import shoal`` without the alias). ``shoal._standard`` is the door to it.

A standard class or function says ``multiprocessing.x`` in its ``__module__`` where that name leads to it, and the name of the second package otherwise:
so whatever can be pickled can be found again.

The module relies on ``_shoal_alias``, which loads it, and on nothing of shoal until ``multiprocessing`` is executed. It promises that an
interpreter which cannot import shoal gets the standard library, as if nothing had been done.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from types import FunctionType, ModuleType

from _shoal_alias import ALIAS, STANDARD, AliasFinder, active, uninstall  # type: ignore[import-not-found]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from typing import Any

OWN = (
    "__name__",
    "__qualname__",
    "__module__",
    "__package__",
    "__path__",
    "__spec__",
    "__loader__",
    "__builtins__",
    "__cached__",
    "__getattr__",
    "__dir__",
)


class Packages:
    """Finds ``multiprocessing`` and its modules in shoal, and the standard ones under the second name."""

    def find_spec(self, fullname: str, path: Sequence[str] | None) -> ModuleSpec | None:
        """Find a module of either package."""
        package, _, name = fullname.partition(".")
        if package == ALIAS:
            return self._find_alias(fullname, name, path)
        return self._find_standard(fullname, name, path)

    def _find_alias(self, fullname: str, name: str, path: Sequence[str] | None) -> ModuleSpec | None:
        standard = self.find_elsewhere(fullname, path)
        if standard is None or standard.loader is None:
            return None
        if not name:
            shoal = self._find_shoal()
            if shoal is None:
                uninstall()
                return None
            spec = _spec(fullname, AliasPackageLoader(self, standard), shoal.origin)
            spec.submodule_search_locations = list(standard.submodule_search_locations or ())
            return spec
        theirs = self.find_in_shoal(name)
        return _spec(fullname, AliasModuleLoader(self, name, standard), (theirs or standard).origin)

    def _find_standard(self, fullname: str, name: str, path: Sequence[str] | None) -> ModuleSpec | None:
        standard = self.find_elsewhere(fullname if name else ALIAS, path)
        if standard is None or standard.loader is None:
            return None
        spec = _spec(fullname, StandardLoader(self, name, standard.loader), standard.origin)
        spec.submodule_search_locations = standard.submodule_search_locations
        spec.cached = standard.cached
        spec.has_location = standard.has_location
        return spec

    def _find_shoal(self) -> ModuleSpec | None:
        """Find shoal, if what bears the name is shoal and has a native module for this interpreter."""
        module = sys.modules.get("shoal")
        spec = self.find_elsewhere("shoal", None) if module is None else module.__spec__
        if spec is None or not spec.submodule_search_locations:
            return None
        native = self.find_elsewhere("shoal._native", spec.submodule_search_locations)
        return spec if native is not None and native.loader is not None else None

    def find_in_shoal(self, name: str) -> ModuleSpec | None:
        """Find shoal's module of a name, without importing it."""
        module = sys.modules.get("shoal." + name)
        if module is not None:
            return module.__spec__
        shoal = sys.modules.get("shoal")
        return None if shoal is None else self.find_elsewhere("shoal." + name, shoal.__path__)

    def find_elsewhere(self, fullname: str, path: Sequence[str] | None) -> ModuleSpec | None:
        """Ask all other finders, as the interpreter does."""
        for finder in sys.meta_path:
            if hasattr(finder, "find_spec") and not isinstance(finder, AliasFinder):
                spec = finder.find_spec(fullname, path)
                if spec is not None:
                    return spec
        return None


class AliasPackageLoader:
    """Makes the package ``multiprocessing``: shoal's names, or the standard package where shoal cannot be imported."""

    def __init__(self, finder: Packages, standard: ModuleSpec) -> None:
        self.finder = finder
        self.standard = standard

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Leave it to the interpreter to make the module."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Fill the module."""
        before = set(sys.modules)
        module.__getattr__ = _late_names(module)  # type: ignore[method-assign]
        try:
            import shoal
        except ImportError:
            if "shoal" in sys.modules:  # another thread is at it
                raise
            _forget(set(sys.modules) - before)
            uninstall()
            _become_standard(module, self.standard)
            return
        module.__file__ = shoal.__file__
        module.__dict__.update((name, value) for name, value in vars(shoal).items() if _is_content(name, value))
        for name in list(sys.modules):
            package, _, rest = name.partition(".")
            if rest and (package == "shoal" or (package == STANDARD and self.finder.find_in_shoal(rest) is None)):
                self._bind(module, rest, name)

    def _bind(self, module: ModuleType, name: str, real: str) -> None:
        """Make a module that is loaded already one of ``multiprocessing``.

        Not by an import: that would take the module's lock, which a thread may hold that waits for the package to be complete.
        """
        standard = self.finder.find_elsewhere(f"{ALIAS}.{name}", module.__path__)
        if standard is not None:
            AliasModuleLoader(self.finder, name, standard).bind(sys.modules[real])
            if "." not in name:
                setattr(module, name, sys.modules[real])


class AliasModuleLoader:
    """Makes ``multiprocessing.x`` be ``shoal.x``, or the standard library's where shoal has none: the same module object."""

    def __init__(self, finder: Packages, name: str, standard: ModuleSpec) -> None:
        self.finder = finder
        self.name = name
        self.standard = standard
        self.spec: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Return the real module, once the package is complete: another thread may be making it."""
        __import__(ALIAS)
        if not active():
            return None
        real = ("shoal." if self.finder.find_in_shoal(self.name) else STANDARD + ".") + self.name
        __import__(real)
        self.spec = sys.modules[real].__spec__
        return sys.modules[real]

    def exec_module(self, module: ModuleType) -> None:
        """Give the module back the spec which the import system has just replaced; run it only if it turned out to be a standard one."""
        if self.spec is None:
            _become_standard(module, self.standard)
        else:
            module.__spec__ = self.spec
            self.bind(module)

    def bind(self, real: ModuleType) -> None:
        """Let the name in ``multiprocessing`` mean this module."""
        sys.modules[f"{ALIAS}.{self.name}"] = real
        if real.__name__.partition(".")[0] == "shoal" and not hasattr(real, "__getattr__"):
            real.__getattr__ = _standard_names(real, self.name)  # type: ignore[method-assign]
        publish(self.finder, self.name)


class StandardLoader:
    """Runs a module of the standard package under the second name."""

    def __init__(self, finder: Packages, name: str, loader: Loader) -> None:
        self.finder = finder
        self.name = name
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Leave it to the interpreter to make the module."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Run it; then the module bears its own loader again, for whoever asks for its source."""
        if self.name:
            self.loader.exec_module(module)
        else:
            exec(self.loader.get_code(ALIAS), vars(module))  # type: ignore[attr-defined]  # noqa: S102
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        if self.name and hasattr(module, "get_context") and self.finder.find_in_shoal(self.name) is None:
            vars(module)["get_context"] = _context_of_shoal
        publish(self.finder, self.name)


def publish(finder: Packages, name: str) -> None:
    """Let the classes and functions of a standard module bear the name under which ``multiprocessing`` leads to them, or else the second one."""
    private, public = (f"{package}.{name}" if name else package for package in (STANDARD, ALIAS))
    module = sys.modules.get(private)
    if module is None:
        return
    seen = module if not name or finder.find_in_shoal(name) is None else sys.modules.get("shoal." + name)
    for key, value in list(vars(module).items()):
        if isinstance(value, (type, FunctionType)) and value.__module__ in {private, public}:
            value.__module__ = public if getattr(seen, key, None) is value else private


def rename_standard() -> None:
    """Let what was imported as ``multiprocessing`` before the alias go on under the second name, the same objects."""
    early = [name for name in sys.modules if name == ALIAS or name.startswith(ALIAS + ".")]
    for name in early:
        module = sys.modules.pop(name)
        spec = module.__spec__
        if spec is None:
            continue
        spec.name = STANDARD + name[len(ALIAS) :]
        module.__package__ = spec.parent
        if spec.submodule_search_locations is not None:
            module.__name__ = spec.name
        sys.modules[spec.name] = module
    for name in early:
        publish(Packages(), name[len(ALIAS) + 1 :])


def _spec(name: str, loader: Any, origin: str | None) -> ModuleSpec:
    """Make a spec with the interpreter's own class, without importing importlib."""
    from _frozen_importlib import ModuleSpec as InterpreterSpec

    spec: ModuleSpec = InterpreterSpec(name, loader, origin=origin)
    return spec


def _is_content(name: str, value: object) -> bool:
    """Whether a name of shoal is one of ``multiprocessing``. Modules in it are not: they come with their own import, as ever."""
    return name not in OWN and not (isinstance(value, ModuleType) and value.__name__.endswith("." + name))


def _late_names(module: ModuleType) -> Callable[[str], object]:
    """What came after the package was made: names and modules that were imported since, and names that only the standard package has."""

    def late(name: str) -> object:
        for package in () if name.startswith("__") else ("shoal", STANDARD):
            if f"{package}.{name}" in sys.modules and f"{ALIAS}.{name}" not in sys.modules:
                with suppress(ImportError):
                    __import__(f"{ALIAS}.{name}")
                    return sys.modules[f"{ALIAS}.{name}"]
            with suppress(AttributeError):
                value = getattr(sys.modules.get(package), name)
                if _is_content(name, value):
                    return value
        raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}", name=name, obj=module)

    return late


def _standard_names(module: ModuleType, name: str) -> Callable[[str], object]:
    """Names of a standard module that shoal's module of the same name does not have."""

    def from_standard(attribute: str) -> object:
        if not attribute.startswith("__"):
            with suppress(ImportError, AttributeError):
                __import__(f"{STANDARD}.{name}")
                return getattr(sys.modules[f"{STANDARD}.{name}"], attribute)
        raise AttributeError(f"module {module.__name__!r} has no attribute {attribute!r}", name=attribute, obj=module)

    return from_standard


def _context_of_shoal(method: str | None = None) -> object:
    """Return shoal's context: ``get_context`` in those standard modules that shoal lacks, so that the program's start method holds there too."""
    return sys.modules["shoal"].get_context(method)


def _become_standard(module: ModuleType, standard: ModuleSpec) -> None:
    """Let a module that was to be shoal's be the standard one after all."""
    vars(module).pop("__getattr__", None)
    module.__spec__ = standard
    module.__file__ = standard.origin
    if standard.loader is not None:
        module.__loader__ = standard.loader
        standard.loader.exec_module(module)


def _forget(names: set[str]) -> None:
    for name in names:
        if name.partition(".")[0] in {"shoal", STANDARD}:
            sys.modules.pop(name, None)
