"""What the parent tells a child that does not inherit its memory, and the child's first steps.

The parent sends what the standard library's ``get_preparation_data`` collects (paths, arguments, logging, how to find the main module), so that whoever replaces
that function, there or here, is heard. The child attaches to the tree's arena, prepares itself by the standard ``prepare``, which runs the main module
as ``__mp_main__``, and then unpickles the process object. A ``__main__`` that children cannot have (a notebook, ``python -c``, a program from standard input, ``python -m package``) is
not an obstacle: what it defines travels by value.

Relies on the standard ``multiprocessing.spawn``. Promises that a script without a main guard ends in one error, never in a loop.
"""

from __future__ import annotations

import atexit
import io
import sys

from shoal import _bootstrap, _main_module, _native, _runtime, _standard, reduction
from shoal._pickling import payload
from shoal._runtime import default_context, programs
from shoal.errors import MainGuardError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

__all__ = [
    "_main",
    "freeze_support",
    "get_command_line",
    "get_executable",
    "get_preparation_data",
    "import_main_path",
    "set_executable",
]

_theirs: Any = _standard.spawn
_home = __file__.rsplit("/", 2)[0]

# What the interpreter calls a main module that came from no file that a child could read.
NO_FILES = frozenset({"<stdin>", "<string>"})

# What a line without a main guard may do, besides starting processes.
CHOOSING = "sets the start method (in a child a RuntimeError: context has already been set)"

WINEXE = False
WINSERVICE = False

set_executable = _theirs.set_executable
get_executable = _theirs.get_executable
is_forking = _theirs.is_forking
import_main_path = _theirs.import_main_path
old_main_modules: list[Any] = _theirs.old_main_modules


# --- in the parent ------------------------------------------------------------------------------------------------------


def get_preparation_data(name: str) -> dict[str, Any]:
    """Collect what a child needs before it can unpickle its process object.

    Raises:
        MainGuardError: if this process is itself still being prepared: its main module starts processes without a main guard.
    """
    if getattr(_standard.process.current_process(), "_inheriting", False):
        raise no_main_guard("__mp_main__")
    theirs: Any = _standard.context._default_context
    chosen = getattr(theirs, "_actual_context", None)
    try:
        data: dict[str, Any] = _theirs.get_preparation_data(name)
    finally:
        # Asking settles the standard library's start method, which a program may still want to choose.
        theirs._actual_context = chosen
    if chosen is None:
        data.pop("start_method", None)
    data["shoal_start_method"] = default_context.start_method()
    if data.get("init_main_from_path", "").rpartition("/")[2] in NO_FILES:
        del data["init_main_from_path"]
    if not main_reaches_children(data):
        reduction.send_main_by_value()
    return data


def no_main_guard(name: str, doing: str = "starts a process") -> MainGuardError:
    """The error for a main module that starts processes when it is imported, with the line from where this was called.

    In the parent, where it is made beforehand, it is about the line that chose the start method, if children get no further.

    Args:
        name: what the main module is called in this process.
        doing: what the line does.
    """
    place = _main_module.place_in(name)
    chosen = default_context.chosen_at() if name == "__main__" else None
    if chosen is not None and _main_module.children_fail_at(chosen):
        place, doing = chosen, CHOOSING
    told = "the main module" if place is None else f"{place[0]}:{place[1]}:"
    return MainGuardError(
        f"{told} {doing}, and each child comes by here, too, when it imports this file: put what the program does under\n\n"
        '    if __name__ == "__main__":\n'
    )


def main_reaches_children(data: dict[str, Any]) -> bool:
    """Tell whether a child prepared with this data has what ``__main__`` defines."""
    name = data.get("init_main_from_name")
    if name is not None:
        return not (name == "__main__" or name.endswith(".__main__"))
    path = data.get("init_main_from_path")
    return path is not None and path.rpartition("/")[2].partition(".")[0] != "ipython"


def pickled(process_obj: Any) -> list[Any]:
    """Pickle preparation and process object for a child; what `unpickled` takes."""
    prepared = sys.modules[__name__].get_preparation_data(process_obj._name)
    if getattr(process_obj, "_tells_of_main_guard", False):
        prepared["shoal_unguarded"] = MainGuardError.EXITCODE
    reducer = reduction.reducer
    if reducer is not None:
        files = []
        for obj in (prepared, process_obj):
            files.append(io.BytesIO())
            reducer.dump(obj, files[-1])
        return [file.getvalue() for file in files]
    data, _ = reduction.dumps(prepared, root="preparation")
    process, buffers = reduction.dumps(process_obj, root="process")
    return [data, process, *(buffer.raw() for buffer in buffers)]


def get_command_line(**kwds: Any) -> list[Any]:
    """Return the command that runs a child; the arguments are for `spawn_main`."""
    given = [f"{name}={value!r}" for name, value in kwds.items()]
    if getattr(sys, "frozen", False):
        return [sys.executable, "--multiprocessing-fork", *given]
    return [
        *interpreter(f"from shoal.spawn import spawn_main; spawn_main({', '.join(given)})"),
        "--multiprocessing-fork",
    ]


def interpreter(program: str) -> list[Any]:
    """Return the command that runs a program, a line of Python, in a fresh interpreter with this one's flags."""
    # This process may have found shoal where a fresh interpreter does not look.
    flags: list[str] = _standard.util._args_from_interpreter_flags()  # type: ignore[attr-defined]
    return [get_executable(), *flags, "-c", f"import sys; sys.path.append({_home!r}); {program}"]


# --- in the child -------------------------------------------------------------------------------------------------------


def freeze_support() -> None:
    """Run the child and exit, if this frozen executable was started as one."""
    if is_forking(sys.argv):
        pairs = (argument.split("=", 1) for argument in sys.argv[2:])
        arguments: dict[str, Any] = {name: None if value == "None" else int(value) for name, value in pairs}
        spawn_main(**arguments)


def spawn_main(
    pipe_handle: int,
    parent_pid: int | None = None,  # noqa: ARG001 - for Windows, in the standard signature
    tracker_fd: int | None = None,
    *,
    parent_sentinel: int = -1,
    arena: int = -1,
    token: int = 0,
    server_fd: int = -1,
    alias: int = 0,
) -> NoReturn:
    """Run the child.

    Args:
        pipe_handle: the file with what the parent pickled.
        parent_pid: not used.
        tracker_fd: the standard library's resource tracker, if one runs.
        parent_sentinel: readable when the parent has ended.
        arena: the arena's descriptor.
        token: of the slot reserved for this process.
        server_fd: the fork server's socket, if one runs.
        alias: whether ``multiprocessing`` means shoal.
    """
    if alias:
        from shoal import _alias  # noqa: PLC0415 - only under `shoal run`

        _alias.install()
    programs.keep_descriptors()
    _runtime.attach(arena, token)
    inherit(tracker_fd, server_fd)
    exitcode = 1

    def tell() -> None:
        _native.set_exit_code(exitcode & 0xFF)

    atexit.register(tell)  # the first one registered runs last
    exitcode = _main(pipe_handle, parent_sentinel)
    sys.exit(exitcode)


inherited_fds: list[int] | None = None  # in a fork server's child: the descriptors that its parent passed
received: dict[int, int] = {}  # all that it passed, by the number that each has there
main_module: Any = None  # in a fork server's child: the main module, compiled


def inherit(tracker_fd: int | None, server_fd: int) -> None:
    """Take over what the parent shares with this child."""
    if tracker_fd is not None and tracker_fd >= 0:
        _standard.resource_tracker._resource_tracker._fd = tracker_fd
    if server_fd >= 0:
        _runtime.server_fd = server_fd


def _main(fd: int, parent_sentinel: int) -> int:
    return run(payload.read(fd), parent_sentinel)


def run(parts: list[memoryview], parent_sentinel: int) -> int:
    """Be the process that the parent has sent, and return the exit code."""
    try:
        process_obj = unpickled(parts)
    except SystemExit as leaving:  # the main module's, or for want of a guard there
        return _bootstrap.exitcode_of(leaving)
    return int(process_obj._bootstrap(parent_sentinel))


def unpickled(parts: list[memoryview]) -> Any:
    """Prepare this process, and make its process object."""
    current: Any = _standard.process.current_process()
    current._inheriting = True
    unguarded = None
    try:
        prepared = reduction.loads(parts[0])
        unguarded = prepared.pop("shoal_unguarded", None)
        prepare(prepared)
        return reduction.loads(parts[1], parts[2:])
    except MainGuardError as error:
        if unguarded is not None:  # whoever started this process has the words for it, and says them once
            raise SystemExit(unguarded) from None
        sys.stderr.write(f"{error}\n")  # its traceback would be of shoal's own calls
        raise SystemExit(1) from None
    finally:
        del current._inheriting


def prepare(data: dict[str, Any]) -> None:
    """Make this process fit to unpickle what the parent sent."""
    method = data.pop("shoal_start_method", None)
    if method is not None:
        default_context.force_start_method(method)
    rest = {key: value for key, value in data.items() if not key.startswith("init_main")}
    path = data.get("init_main_from_path")
    _theirs.prepare(rest)
    if main_module is not None and main_module.stands_for(data):
        main_module.run()
    elif path is None or not main_reaches_children(data) or not _main_module.run_script(path):
        _theirs.prepare({key: value for key, value in data.items() if key.startswith("init_main")})
    if not main_reaches_children(data):
        reduction.send_main_by_value()


def _fixup_main_from_name(name: str) -> None:
    _theirs._fixup_main_from_name(name)


def _fixup_main_from_path(path: str) -> None:
    _theirs._fixup_main_from_path(path)


def __getattr__(name: str) -> Any:
    """Find what else programs import from the standard module."""
    return getattr(_standard.spawn, name)
