"""``shoal certs``: a small certificate authority, and certificates for a team's machines, as `shoal.TLS` wants them.

In the directory there are afterwards ``ca.crt`` and ``ca.key``, and for each machine ``NAME.crt`` and ``NAME.key``. An authority that is there is used again, so a machine
can be added later. What must be secret is readable by its owner alone from the moment it is made.

Relies on the ``cryptography`` package (the extra ``certs``), imported here and nowhere else.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import re
import socket
import sys
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

__all__ = ["CertsError", "certs"]

AUTHORITY_DAYS = 3650
EARLIER = datetime.timedelta(hours=1)  # machines' clocks differ
LONGEST_NAME = 64  # characters of a common name


class CertsError(Exception):
    """What stands in the way, in words for the user."""


class Pair(NamedTuple):
    """A certificate and its key."""

    certificate: x509.Certificate
    key: EllipticCurvePrivateKey


def certs(directory: Path, machines: Sequence[str], *, days: int, replace: bool) -> int:
    """Make what is missing and say what it is for.

    Args:
        directory: where the files are, or will be.
        machines: for each, the names and IP addresses by which it is called, joined by commas; the first names the files. None at all: this machine.
        days: how long the machines' certificates are valid.
        replace: make new certificates for machines that have some.

    Returns:
        The exit status.
    """
    try:
        _make(directory, machines or [_this_machine()], days, replace=replace)
    except CertsError as error:
        print(f"shoal certs: error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"shoal certs: error: {error}", file=sys.stderr)
        return 1
    return 0


def _this_machine() -> str:
    return ",".join(dict.fromkeys([socket.gethostname(), "localhost", "127.0.0.1", "::1"]))


def _make(directory: Path, machines: Sequence[str], days: int, *, replace: bool) -> None:
    try:
        import cryptography  # noqa: F401 - tried here, before anything is written
    except ImportError:
        raise CertsError(
            "this needs the package `cryptography`, which is not installed: pip install 'shoal[certs]'"
        ) from None
    if days < 1:
        raise CertsError(f"a certificate cannot be valid for {days} days")
    if days > AUTHORITY_DAYS:
        raise CertsError(f"a certificate for {days} days would outlive its authority, which is for {AUTHORITY_DAYS}")
    names = [_names(machine) for machine in machines]
    files = [directory / f"{called[0]}.crt" for called in names]
    if len(set(files)) < len(files):
        raise CertsError("a machine is named twice")
    there = [str(file) for file in files if file.exists()]
    if there and not replace:
        raise CertsError(f"{', '.join(there)} exists already; --replace makes a new one")
    directory.mkdir(parents=True, exist_ok=True)
    authority = _authority(directory)
    for called in names:
        _write(directory, called[0], _machine(called, authority, days))
    first = files[0].stem
    print(
        f"{directory}: ca.crt, and for each of {', '.join(file.stem for file in files)} a .crt and a .key.\n"
        "Give each machine ca.crt and its own two files; keep ca.key elsewhere: whoever has it can let anybody in.\n\n"
        f'    tls = shoal.TLS("{directory / first}.crt", "{directory / first}.key", "{directory / "ca.crt"}")'
    )


def _names(machine: str) -> list[str]:
    """The names of one machine."""
    names = [name.strip() for name in machine.split(",") if name.strip()]
    if not names:
        raise CertsError(f"{machine!r} names no machine")
    for name in names:
        if _address(name) is None and not re.fullmatch(r"(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?", name):
            raise CertsError(f"{name!r} is neither a host's name nor an IP address")
    if "*" in names[0]:
        raise CertsError(f"{names[0]!r} cannot name files: put another name before it")
    if names[0].lower() == "ca":
        raise CertsError("a machine cannot be called ca: the authority's files are")
    return names


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


# --- certificates -------------------------------------------------------------------------------------------------------


def _authority(directory: Path) -> Pair:
    """The authority of this directory; made if there is none."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    certificate, key = directory / "ca.crt", directory / "ca.key"
    if not certificate.exists() and not key.exists():
        pair = _new_authority()
        _write(directory, "ca", pair)
        return pair
    try:
        loaded = serialization.load_pem_private_key(key.read_bytes(), None)
        pair = Pair(x509.load_pem_x509_certificate(certificate.read_bytes()), loaded)  # type: ignore[arg-type]
        fits = pair.certificate.public_key() == pair.key.public_key()
    except FileNotFoundError as error:
        raise CertsError(f"{error.filename} is missing: without it no certificate can be added here") from None
    except (ValueError, TypeError) as error:
        raise CertsError(f"{certificate} and {key} cannot be read: {error}") from None
    if not fits:
        raise CertsError(f"{key} is not the key of {certificate}")
    return pair


def _new_authority() -> Pair:
    from cryptography import x509

    key = _new_key()
    name = _common_name(f"shoal authority of {socket.gethostname()}")
    usage = _usage(signs_certificates=True)
    builder = (
        _begin(name, key, AUTHORITY_DAYS)
        .issuer_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
    return Pair(_signed(builder, key), key)


def _machine(names: list[str], authority: Pair, days: int) -> Pair:
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    key = _new_key()
    alternatives: list[x509.GeneralName] = []
    for name in names:
        address = _address(name)
        alternatives.append(x509.DNSName(name) if address is None else x509.IPAddress(address))
    builder = (
        _begin(_common_name(names[0]), key, days)
        .issuer_name(authority.certificate.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
    )
    return Pair(_signed(builder, authority.key), key)


def _new_key() -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _common_name(name: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:LONGEST_NAME])])


def _begin(name: x509.Name, key: EllipticCurvePrivateKey, days: int) -> x509.CertificateBuilder:
    from cryptography import x509

    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _signed(builder: x509.CertificateBuilder, key: EllipticCurvePrivateKey) -> x509.Certificate:
    from cryptography.hazmat.primitives import hashes

    return builder.sign(key, hashes.SHA256())


# --- files --------------------------------------------------------------------------------------------------------------


def _write(directory: Path, name: str, pair: Pair) -> None:
    from cryptography.hazmat.primitives import serialization

    key = pair.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _put(directory / f"{name}.key", key, 0o600)
    _put(directory / f"{name}.crt", pair.certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def _put(path: Path, data: bytes, mode: int) -> None:
    """Write a file in one step: whoever looks sees the old one or the new one, and never with another mode."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
