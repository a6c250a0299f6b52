"""The first thing that a Python interpreter under ``shoal run`` executes: it puts the alias in place and steps aside.

``shoal run`` puts this directory at the head of PYTHONPATH. Any interpreter that inherits the environment comes by here, one of another
version or of another virtual environment too; hence this file is valid Python 2 and 3, relies on nothing but ``sys``, and is short. It promises that
afterwards the interpreter is as it was: ``sys.path`` without this directory, and the ``sitecustomize`` that the user has, if any,
imported in place of this one, with whatever it raises.
"""

import sys

_here = __file__.rpartition("/")[0]

if sys.version_info >= (3, 11) and sys.implementation.name == "cpython":
    try:
        import _shoal_alias  # type: ignore[import-not-found]
    except ImportError:
        pass
    else:
        _shoal_alias.install()

sys.path[:] = [entry for entry in sys.path if entry != _here]
sys.path_importer_cache.pop(_here, None)
del sys.modules["sitecustomize"]

# An ImportError here says that the user has none: site expects exactly that one, and is silent.
import sitecustomize  # type: ignore[import-not-found] # noqa: E402, F401
