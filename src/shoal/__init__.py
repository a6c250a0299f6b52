"""Process-based parallelism: everything ``multiprocessing`` documents, an order of magnitude faster, and unable to hang.

``import shoal as mp`` is all that a program needs. The names are those of the standard library's package, and a few of shoal's own, bound to a default context; what
they make is imported when it is first made.
"""

from shoal import _standard, context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from shoal._connection.tls import TLS as TLS

__all__ = list(_standard.package.__all__)
__all__ += ["parmap"]

SUBDEBUG = 5
SUBWARNING = 25

globals().update((name, getattr(context._default_context, name)) for name in __all__)


def __getattr__(name: str) -> object:
    """Import what is rarely needed: ssl takes longer than all of shoal."""
    if name == "TLS":
        from shoal._connection.tls import TLS  # noqa: PLC0415

        return TLS
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


del TYPE_CHECKING  # under the alias, what stands here is what `multiprocessing` has
