"""How objects are turned into bytes, and descriptors passed, between processes.

`dumps` is what every message of shoal goes through. It tries the interpreter's own pickler first, with what is registered on the standard library's
``ForkingPickler`` and in ``copyreg``, and picklers are kept for the next message. Only when that fails does it try again with functions and classes by value
(`shoal._pickling.by_value`); and when that fails too, the exception bears a note with the path to what could not be pickled. Large buffers
(``pickle.PickleBuffer``, NumPy arrays) stay outside the bytes.

The other names are those of the standard module. Registrations are shared with it: ``register`` here or there is the same.

Relies on the standard library's ``multiprocessing.reduction``, and on cloudpickle when it is needed.
"""

from __future__ import annotations

import copyreg
import io
import pickle
import socket

from shoal import _native, _standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from typing_extensions import Buffer

__all__ = ["DupFd", "ForkingPickler", "dump", "recv_handle", "recvfds", "register", "send_handle", "sendfds"]

THRESHOLD = 64 * 1024  # bytes from which a buffer travels outside the pickle
PROTOCOL = 5
KEEP = 16 * 1024  # bytes of pickle up to which a pickler is kept: its memo has grown with what it has seen
# What may mean "this cannot be found by its name"; anything else was raised by somebody's own code, and stands.
NAMELESS = (pickle.PicklingError, AttributeError, TypeError)

_standard_pickler = _standard.reduction.ForkingPickler

HAVE_SEND_HANDLE: bool = _standard.reduction.HAVE_SEND_HANDLE
ACKNOWLEDGE: bool = getattr(_standard.reduction, "ACKNOWLEDGE", False)
AbstractReducer = _standard.reduction.AbstractReducer
sendfds = _standard.reduction.sendfds
recvfds = _standard.reduction.recvfds


class _Pieces(list):  # type: ignore[type-arg]  # of bytes, and of nothing that shows outside
    """A file to the pickler: what is written is kept as it is."""

    __slots__ = ()
    write = list.append


class _Kept:
    """A pickler with its file, used for one message after another."""

    __slots__ = ("buffers", "clear", "dump", "pieces", "reducers")

    def __init__(self, reducers: dict[type, Callable[[Any], Any]]) -> None:
        self.reducers = reducers
        self.pieces = _Pieces()
        self.buffers: list[pickle.PickleBuffer] = []
        pickler = pickle.Pickler(self.pieces, PROTOCOL, buffer_callback=self.keeps_inside)
        pickler.dispatch_table = reducers
        self.dump = pickler.dump
        self.clear = pickler.clear_memo

    def keeps_inside(self, buffer: pickle.PickleBuffer) -> bool:
        """Answer the pickler: a true answer leaves the buffer in the pickle."""
        if buffer.raw().nbytes < THRESHOLD:
            return True
        self.buffers.append(buffer)
        return False


_kept: list[_Kept] = []
_extra: dict[type, Callable[[Any], Any]] = _standard_pickler._extra_reducers  # type: ignore[attr-defined]
# What is registered for sockets and connections by the standard library, and what takes its place in messages of shoal. (What a program has registered stands.)
_instead: dict[type, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {}
_main_by_value = False
_wrapper: Callable[[Callable[[Any], Any]], Callable[[Any], Any]] | None = None
reducer: Any = None  # for children: what a program has put in the place of this module


def _replaced(registered: dict[type, Callable[[Any], Any]]) -> dict[type, Callable[[Any], Any]]:
    return {kind: ours for kind, (theirs, ours) in _instead.items() if registered.get(kind) is theirs}


class _Registered:
    """What is registered, as it was when somebody looked. It never changes: threads that take different ones have each a whole one."""

    __slots__ = ("copyreg", "extra", "reducers")

    def __init__(self) -> None:
        self.copyreg = dict(copyreg.dispatch_table)
        self.extra = dict(_extra)
        extra = self.extra if _wrapper is None else {kind: _wrapper(reduce) for kind, reduce in self.extra.items()}
        self.reducers = {**self.copyreg, **extra, **_replaced(self.extra)}


_registered = _Registered()


def _reducers() -> dict[type, Callable[[Any], Any]]:
    """What is registered now."""
    global _registered
    known = _registered
    if copyreg.dispatch_table != known.copyreg or _extra != known.extra:
        known = _registered = _Registered()
    return known.reducers


def replace_standard(kind: type, theirs: Callable[[Any], Any], ours: Callable[[Any], Any]) -> None:
    """Reduce objects of a type in shoal's way as long as the standard library's is registered for it."""
    global _registered
    _instead[kind] = (theirs, ours)
    _registered = _Registered()


def wrap_registered(wrapper: Callable[[Callable[[Any], Any]], Callable[[Any], Any]]) -> None:
    """Pickle messages of this process with what `wrapper` makes of each reducing function that is registered with ``ForkingPickler``, now or later."""
    global _registered, _wrapper
    _wrapper = wrapper
    _registered = _Registered()


def send_main_by_value(answer: bool = True) -> None:
    """Say that children of this process cannot have its ``__main__`` (a notebook, ``python -c``): what that defines goes by value from now on."""
    global _main_by_value
    _main_by_value = answer


def dumps(obj: Any, *, root: str = "object") -> tuple[bytes, Sequence[pickle.PickleBuffer]]:
    """Pickle an object.

    Args:
        obj: anything; functions and classes that cannot be imported by name travel by value.
        root: how the path in the note calls `obj`.

    Returns:
        The pickle, and the buffers of 64 KiB and more that go beside it, in order.

    Raises:
        Exception: whatever pickling raises, with a note that names the path to the culprit: ``object[0].handle: cannot pickle …``.
    """
    if _main_by_value:
        return _dumps_by_value(obj, root, None)
    reducers = _reducers()
    try:
        kept = _kept.pop()
    except IndexError:
        kept = _Kept(reducers)
    if kept.reducers is not reducers:
        kept = _Kept(reducers)
    try:
        kept.dump(obj)
    except Exception as error:  # noqa: BLE001 - looked at, and raised again
        return _dumps_by_value(obj, root, error)
    pieces = kept.pieces
    data = pieces.pop() if len(pieces) == 1 else b"".join(pieces)
    buffers: Sequence[pickle.PickleBuffer] = ()
    if kept.buffers:
        buffers, kept.buffers = kept.buffers, []
    if len(data) <= KEEP:
        pieces.clear()
        kept.clear()
        _kept.append(kept)
    return data, buffers


def loads(data: Buffer, buffers: Sequence[Buffer] = ()) -> Any:
    """Make the object again from what `dumps` returned."""
    return pickle.loads(data, buffers=buffers)


class ForkingPickler(_standard_pickler):
    """The standard ``ForkingPickler``; its ``dumps`` is that of this module."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.dispatch_table: dict[type, Callable[[Any], Any]]
        self.dispatch_table.update(_replaced(self.dispatch_table))

    @classmethod
    def dumps(cls, obj: Any, protocol: int | None = None) -> memoryview:
        """Pickle an object, buffers included."""
        file = io.BytesIO()
        if cls is ForkingPickler:
            dump(obj, file, protocol)
        else:
            cls(file, protocol).dump(obj)
        return file.getbuffer()


register = ForkingPickler.register


def dump(obj: Any, file: Any, protocol: int | None = None) -> None:
    """Pickle an object to a file, buffers included."""
    if protocol is None:
        data, buffers = dumps(obj)
        if not buffers:
            file.write(data)
            return
    try:
        ForkingPickler(file, protocol).dump(obj)
    except NAMELESS as error:
        file.write(_dumps_by_value(obj, "object", error, protocol, outside=False)[0])


def DupFd(fd: int) -> Any:  # noqa: N802 - the standard name
    """Return something picklable that stands for a descriptor; in the receiver its ``detach()`` returns the descriptor there."""
    popen = _standard.context.get_spawning_popen()
    if popen is not None:
        return popen.DupFd(popen.duplicate_for_child(fd))
    from shoal import resource_sharer  # noqa: PLC0415 - few programs send descriptors

    return resource_sharer.DupFd(fd)


def send_handle(conn: Any, handle: int, destination_pid: int | None) -> None:
    """Send a descriptor over a connection of this machine (a pipe, or AF_UNIX); the other side calls `recv_handle`."""
    if isinstance(conn, _native.Wire):
        conn.send(DupFd(handle))  # its socket is not for messages
    else:
        _standard.reduction.send_handle(conn, handle, destination_pid)


def recv_handle(conn: Any) -> int:
    """Receive a descriptor that `send_handle` sends.

    Raises:
        DescriptorLostError: if the sender has died meanwhile.
        EOFError: if the other end has gone.
        RuntimeError: if something else was sent.
    """
    if isinstance(conn, _native.Wire):
        came = conn.recv()
        if not hasattr(came, "detach"):
            raise RuntimeError(
                f"what came is no descriptor but {type(came).__name__!r}: the other side has to call send_handle"
            )
        return int(came.detach())
    return int(_standard.reduction.recv_handle(conn))


def _reduce_socket(sock: socket.socket) -> tuple[Any, ...]:
    return _rebuild_socket, (DupFd(sock.fileno()), sock.family, sock.type, sock.proto)


def _rebuild_socket(df: Any, family: int, type: int, proto: int) -> socket.socket:
    return socket.socket(family, type, proto, fileno=df.detach())


# --- the second attempt -------------------------------------------------------------------------------------------------


def _dumps_by_value(
    obj: Any, root: str, first: Exception | None, protocol: int | None = PROTOCOL, *, outside: bool = True
) -> tuple[bytes, Sequence[pickle.PickleBuffer]]:
    error = first
    try:
        if first is not None and not isinstance(first, NAMELESS):
            _explain(first, obj, root)
            raise first
        kept = _Kept(_reducers())
        try:
            _pickler_by_value(kept, protocol, outside=outside).dump(obj)
        except Exception as second:  # noqa: BLE001 - the better one of the two is raised
            error = first if isinstance(first, TypeError) else second
            _explain(error, obj, root)
            raise error from None
        return b"".join(kept.pieces), kept.buffers
    finally:
        del first, error  # an exception whose traceback leads back to it would keep all frames that called this one


def _pickler_by_value(kept: _Kept, protocol: int | None = PROTOCOL, *, outside: bool = True) -> Any:
    from shoal._pickling.by_value import ByValuePickler  # noqa: PLC0415 - after a failure only

    protocol = pickle.DEFAULT_PROTOCOL if protocol is None else protocol
    return ByValuePickler(
        kept.pieces, protocol, kept.keeps_inside if outside else None, kept.reducers, main_by_value=_main_by_value
    )


def _explain(error: Exception, obj: Any, root: str) -> None:
    """Note the path to the culprit on the exception."""
    from shoal._pickling.culprit import path_to_culprit  # noqa: PLC0415 - after a failure only

    def attempt(part: object) -> Exception | None:
        try:
            _pickler_by_value(_Kept(_reducers())).dump(part)
        except Exception as raised:  # noqa: BLE001 - that is the answer
            return raised.with_traceback(None)
        return None

    path, cause = path_to_culprit(obj, attempt, _reducers())
    if path:
        # A process object's own attributes are what the program passed: args, not process._args.
        if isinstance(obj, _standard.process.BaseProcess):
            root, path[0] = "", path[0].removeprefix("._")
        error.add_note(f"{root}{''.join(path)}: {cause}")


replace_standard(socket.socket, vars(_standard.reduction)["_reduce_socket"], _reduce_socket)
_native.set_codec(dumps, loads)


# --- pickled by others --------------------------------------------------------------------------------------------------


def _carried(handle: _native.Handle, reference: _native.Reference) -> _native.Reference:
    """Make the reference of a shared object in a pickle that is not shoal's: whoever loads it may not know of the arena."""
    from shoal._pickling import carrying  # noqa: PLC0415 - rarely needed

    popen = _standard.context.get_spawning_popen()
    return carrying.direct(reference) if popen is None else carrying.carry(handle, reference, popen)


_native.set_carrier(_carried)
