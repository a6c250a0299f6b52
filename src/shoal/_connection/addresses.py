"""Addresses: host and port for AF_INET, a path for AF_UNIX, and which is which."""

from __future__ import annotations

import socket

from shoal import _standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["address_type", "arbitrary_address", "default_family", "families", "is_loopback", "is_path", "socket_family"]

default_family = "AF_UNIX"
families = ["AF_INET", "AF_UNIX"]


def arbitrary_address(family: str) -> Any:
    """Return a free address: a port of this machine alone, or a path in a directory that only this user may enter.

    Raises:
        ValueError: if there is no such family.
    """
    if family == "AF_INET":
        return ("localhost", 0)
    if family == "AF_UNIX":
        import secrets  # noqa: PLC0415 - for listeners only

        from shoal._runtime import temporary  # noqa: PLC0415

        return temporary.socket_path(f"listener-{secrets.token_hex(4)}")
    raise ValueError("unrecognized family")


def address_type(address: Any) -> str:
    """Return the family of an address by its form: ``AF_INET`` for a tuple, ``AF_UNIX`` for a string, ``AF_PIPE`` for a pipe of Windows, which is not to be had here.

    Raises:
        ValueError, TypeError: if it is neither.
    """
    if type(address) is tuple:
        return "AF_INET"
    if type(address) is str and address.startswith("\\\\"):
        return "AF_PIPE"
    if type(address) is str or _standard.util.is_abstract_socket_namespace(address):
        return "AF_UNIX"
    raise ValueError(f"address type of {address!r} unrecognized")


def socket_family(address: Any, family: str | None = None) -> socket.AddressFamily:
    """Return the kind of socket for an address: ``family`` if it is given; a host that is written as an IPv6 address makes it AF_INET6.

    Raises:
        ValueError: if there is no such family on this system.
    """
    family = family or address_type(address)
    if family == "AF_INET" and type(address) is tuple and address and ":" in str(address[0]):
        family = "AF_INET6"
    kind = getattr(socket, family, None)
    if not isinstance(kind, socket.AddressFamily):
        raise ValueError(f"Family {family} is not recognized.")  # noqa: TRY004 - as the standard library has it
    return kind


def is_path(address: Any) -> bool:
    """Tell whether an AF_UNIX address is a path in the file system (and not an abstract name)."""
    return isinstance(address, (str, bytes)) and not _standard.util.is_abstract_socket_namespace(address)


def is_loopback(host: str) -> bool:
    """Tell whether an address (in digits, as ``getsockname`` gives it) is reached from this machine alone."""
    import ipaddress  # noqa: PLC0415 - for listeners on the network only

    return ipaddress.ip_address(host.partition("%")[0]).is_loopback
