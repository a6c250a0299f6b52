"""Directories for sockets: made for this user alone, and gone when the tree has ended, however it ended.

A process that ends by itself removes what it has made, as with the standard library. Where it is killed, nobody would; so the arena says which directories there
are, and the tree's watcher removes them, with the sockets in them, when the last process of the tree has gone.

Relies on the standard ``util.Finalize``, and keeps the directory where the standard ``util.get_temp_dir`` does, so both give the same one.
"""

from __future__ import annotations

import errno
import os

from shoal import _native, _runtime, _standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["directory", "make_directory", "socket_path"]

TRIES = 100  # random names that may be taken
LONGEST_PATH = 107  # bytes of a path that a socket can be bound to


def directory() -> str:
    """This process's directory for temporary files, made when it is first asked for. Children inherit it.

    Raises:
        OSError: if it cannot be made.
    """
    config = _standard.process.current_process()._config  # type: ignore[attr-defined]
    if config.get("tempdir") is None:
        import tempfile  # noqa: PLC0415 - slow to import, and seldom needed

        try:
            config["tempdir"] = make_directory(tempfile.gettempdir(), _forget_own)
        except (OSError, MemoryError) as error:
            if isinstance(error, OSError) and error.errno != errno.ENAMETOOLONG:
                raise
            # A path longer than the arena has room for, or an arena that is full: this one goes with its process, if that ends by itself.
            return str(_standard.util.get_temp_dir())
    return str(config["tempdir"])


def socket_path(name: str) -> str:
    """Return a path for a socket of that name, in this process's directory, or, if that lies too deep for a socket, in a new one under ``/tmp``.

    Raises:
        OSError: if the directory cannot be made.
    """
    path = f"{directory()}/{name}"
    if len(os.fsencode(path)) <= LONGEST_PATH:
        return path
    return f"{make_directory('/tmp')}/{name}"  # noqa: S108 - a directory for this user alone


def make_directory(place: str, afterwards: Any = None) -> str:
    """Make a directory with a name that nobody can guess; it goes with this process, or with the tree.

    Args:
        place: an absolute path: where it is to be.
        afterwards: called without arguments when it has been removed.

    Returns:
        Its path.

    Raises:
        OSError: if it cannot be made.
    """
    import secrets  # noqa: PLC0415 - seldom needed
    import shutil  # noqa: PLC0415

    _runtime.answer_for_names()
    for _ in range(TRIES):
        path = f"{place}/pymp-{secrets.token_hex(4)}"
        try:
            _native.directory_make(path)
        except FileExistsError:
            continue
        _standard.util.info("created temp directory %s", path)
        _standard.util.Finalize(None, _remove, args=(shutil.rmtree, path, afterwards), exitpriority=-100)
        return path
    raise FileExistsError(errno.EEXIST, f"no free name found in {TRIES} tries", place)


def _remove(rmtree: Any, path: str, afterwards: Any) -> None:
    rmtree(path, ignore_errors=True)
    _native.name_forget(path, True)
    if afterwards is not None:
        afterwards()


def _forget_own() -> None:
    current: Any = _standard.process.current_process()
    if current is not None:  # None at the end of the interpreter
        current._config["tempdir"] = None
