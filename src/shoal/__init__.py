"""Process-based parallelism: everything ``multiprocessing`` documents, an order of magnitude faster, and unable to hang.

``import shoal as mp`` is all that a program needs. The names are those of the standard library's package, bound to a default context; what they
make is imported when it is first made.
"""

from shoal import _standard, context

__all__ = list(_standard.package.__all__)

SUBDEBUG = 5
SUBWARNING = 25

globals().update((name, getattr(context._default_context, name)) for name in __all__)
