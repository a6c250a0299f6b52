"""``shoal certs``: certificates for a team's machines."""

from __future__ import annotations

import ipaddress
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from cryptography import x509

from shoal.cli import main

if TYPE_CHECKING:
    from pathlib import Path


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def names(path: Path) -> list[str]:
    found = certificate(path).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in found]


def test_it_makes_an_authority_and_a_certificate_for_each_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    place = tmp_path / "new" / "place"
    assert main(["certs", str(place), "alpha,alpha.lan,10.0.0.5", "beta"]) == 0
    assert sorted(file.name for file in place.iterdir()) == [
        "alpha.crt",
        "alpha.key",
        "beta.crt",
        "beta.key",
        "ca.crt",
        "ca.key",
    ]
    for key in place.glob("*.key"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    authority = certificate(place / "ca.crt")
    assert names(place / "alpha.crt") == ["alpha", "alpha.lan", "10.0.0.5"]
    assert names(place / "beta.crt") == ["beta"]
    for machine in ("alpha", "beta"):
        certificate(place / f"{machine}.crt").verify_directly_issued_by(authority)
    said = capsys.readouterr().out
    assert f'shoal.TLS("{place}/alpha.crt", "{place}/alpha.key", "{place}/ca.crt")' in said
    assert "keep ca.key elsewhere" in said


def test_a_machine_can_be_added_later_and_nothing_is_replaced_unasked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["certs", str(tmp_path), "alpha"]) == 0
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert main(["certs", str(tmp_path), "alpha", "gamma"]) == 1
    assert "exists already; --replace" in capsys.readouterr().err
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    assert main(["certs", str(tmp_path), "beta", "--days", "3"]) == 0
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    added = certificate(tmp_path / "beta.crt")
    added.verify_directly_issued_by(certificate(tmp_path / "ca.crt"))
    assert main(["certs", str(tmp_path), "alpha", "--replace"]) == 0
    assert (tmp_path / "alpha.crt").read_bytes() != before["alpha.crt"]
    assert (tmp_path / "ca.crt").read_bytes() == before["ca.crt"]


def test_options_may_stand_before_and_between_machines(tmp_path: Path):
    assert main(["certs", str(tmp_path), "--days", "10", "alpha", "--replace", "beta"]) == 0
    made = certificate(tmp_path / "alpha.crt")
    assert (made.not_valid_after_utc - made.not_valid_before_utc).days == 10
    assert (tmp_path / "beta.crt").exists()


def test_without_a_name_it_is_for_this_machine(tmp_path: Path):
    assert main(["certs", str(tmp_path)]) == 0
    (own,) = [file for file in tmp_path.glob("*.crt") if file.name != "ca.crt"]
    assert {"localhost", "127.0.0.1", "::1"} <= set(names(own))
    assert ipaddress.ip_address("127.0.0.1") in certificate(own).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    ).value.get_values_for_type(x509.IPAddress)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["../up"], "neither a host's name nor an IP address"),
        (["with space"], "neither a host's name"),
        ([","], "names no machine"),
        (["ca"], "cannot be called ca"),
        (["*.lan"], "cannot name files"),
        (["a", "a"], "named twice"),
        (["a", "--days", "0"], "0 days"),
        (["a", "--days", "99999999"], "outlive its authority"),
    ],
)
def test_what_makes_no_sense_is_said_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
):
    place = tmp_path / "place"
    assert main(["certs", str(place), *arguments]) == 1
    assert said in capsys.readouterr().err
    assert not place.exists()


def test_a_broken_authority_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["certs", str(tmp_path), "alpha"]) == 0
    key = (tmp_path / "ca.key").read_bytes()
    (tmp_path / "ca.key").unlink()
    assert main(["certs", str(tmp_path), "beta"]) == 1
    assert "ca.key is missing" in capsys.readouterr().err
    (tmp_path / "ca.key").write_bytes((tmp_path / "alpha.key").read_bytes())
    assert main(["certs", str(tmp_path), "beta"]) == 1
    assert "is not the key of" in capsys.readouterr().err
    (tmp_path / "ca.key").write_bytes(key[:40])
    assert main(["certs", str(tmp_path), "beta"]) == 1
    assert "cannot be read" in capsys.readouterr().err
    assert not (tmp_path / "beta.key").exists()


def test_without_cryptography_the_extra_is_named(tmp_path: Path):
    program = "import sys; sys.modules['cryptography'] = None; from shoal.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", program, "certs", str(tmp_path / "place")],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 1
    assert "pip install 'shoal[certs]'" in done.stderr
    assert not (tmp_path / "place").exists()
