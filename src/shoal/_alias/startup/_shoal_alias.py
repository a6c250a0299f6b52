"""The finder that makes the name ``multiprocessing`` mean shoal, as far as every interpreter's start-up needs it.

It stands first in ``sys.meta_path``, answers no other name, and does nothing until the first import of ``multiprocessing`` or of a module in it; then
``_shoal_alias_packages`` does the work. It is kept small, imports nothing and therefore quotes its annotations: its cost is paid by every Python program
that is started under ``shoal run``, with or without compiled bytecode.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

ALIAS = "multiprocessing"
STANDARD = "_standard_multiprocessing"
PACKAGES = "_shoal_alias_packages"


class AliasFinder:
    """Finds ``multiprocessing`` and the standard package's second name, with their modules, and nothing else."""

    def find_spec(
        self, fullname: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        """Find a module of the two packages; None for every other name, which is the common case."""
        if fullname.partition(".")[0] not in (ALIAS, STANDARD):
            return None
        found: ModuleSpec | None = packages().Packages().find_spec(fullname, path)
        return found


def install() -> None:
    """Put the alias in place. If the standard package has been imported before, it goes on under its second name."""
    if not active():
        sys.meta_path.insert(0, AliasFinder())
        if ALIAS in sys.modules:
            packages().rename_standard()


def uninstall() -> None:
    """Take the finder away: the next import finds what it would have found without it."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, AliasFinder)]


def active() -> bool:
    """Whether ``multiprocessing`` means shoal in this interpreter."""
    return any(isinstance(finder, AliasFinder) for finder in sys.meta_path)


def packages() -> "ModuleType":
    """The module that does the work, from the directory of this one."""
    if PACKAGES not in sys.modules:
        here = __file__.rpartition("/")[0]
        sys.path.insert(0, here)
        try:
            __import__(PACKAGES)
        finally:
            sys.path.remove(here)
    return sys.modules[PACKAGES]
