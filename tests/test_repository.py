"""The promises of the repository itself: its commands, its metadata, what it asks of a machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata, resources
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


# --- commands -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "changelog.d/README.md", "examples/README.md"])
def test_every_make_command_that_a_page_names_is_there(page):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    text = (ROOT / page).read_text(encoding="utf-8")
    assert set(re.findall(r"(?:^ {4}|`|\n)make ([a-z]+)", text)) <= targets


def test_the_readme_names_the_two_commands():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make demo" in text
    assert "make test" in text


def test_ci_runs_make_test():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert re.search(r"^exec make test$", script.read_text(encoding="utf-8"), re.MULTILINE)


# --- what a build asks of the machine -----------------------------------------------------------------------------------


def prerequisites(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "CXX"} | {"PATH": str(path)}
    command = [shutil.which("bash") or "bash", ROOT / ".ci" / "prerequisites", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def program(directory: Path, name: str, text: str) -> None:
    (directory / name).write_text(f"#!{shutil.which('bash')}\n{text}\n", encoding="utf-8")
    (directory / name).chmod(0o755)


def test_what_a_machine_lacks_is_named_in_one_line_and_only_that(tmp_path):
    program(tmp_path, "git", "")
    done = prerequisites(tmp_path, sys.executable)
    assert done.returncode == 1
    assert [line.strip() for line in done.stderr.splitlines() if "apt install" in line] == ["apt install g++ make"]


def test_a_compiler_without_cpp20_is_a_missing_compiler(tmp_path):
    for name, text in {"git": "", "make": "", "g++": "exit 1"}.items():
        program(tmp_path, name, text)
    done = prerequisites(tmp_path, sys.executable)
    assert done.returncode == 1
    assert done.stderr.endswith("apt install g++\n")


def test_an_interpreter_that_does_not_run_is_passed_over(tmp_path):
    for name in ("git", "make", "g++"):
        program(tmp_path, name, "")
    program(tmp_path, "python3.11", "echo 'not installed here' >&2; exit 127")
    program(tmp_path, "python3.12", f'exec "{sys.executable}" "$@"')
    done = prerequisites(tmp_path)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).resolve() == Path(sys.executable).resolve()


def test_without_any_interpreter_one_is_named(tmp_path):
    for name in ("git", "make", "g++"):
        program(tmp_path, name, "")
    done = prerequisites(tmp_path)
    assert done.returncode == 1
    assert done.stderr.endswith("apt install python3.11 python3.11-dev python3.11-venv\n")


def test_an_interpreter_that_shoal_does_not_know_is_refused(tmp_path):
    old = tmp_path / "old"
    program(tmp_path, "old", f"exec '{sys.executable}' -c 'import sys; sys.exit(\"CPython 3.10\")'")
    done = prerequisites(tmp_path, str(old))
    assert done.returncode == 1
    assert "PYTHON=" in done.stderr


# --- the package --------------------------------------------------------------------------------------------------------


def test_the_installed_version_is_that_of_the_project():
    assert metadata.version("shoal") == PROJECT["project"]["version"]


def test_the_package_says_that_it_is_typed():
    assert (resources.files("shoal") / "py.typed").is_file()


def test_the_command_leads_to_a_function():
    (command,) = metadata.entry_points(group="console_scripts", name="shoal")
    assert callable(command.load())


# --- news ---------------------------------------------------------------------------------------------------------------


def test_every_fragment_of_news_is_well_formed():
    kinds = "|".join(kind["directory"] for kind in PROJECT["tool"]["towncrier"]["type"])
    fragments = [path for path in (ROOT / "changelog.d").iterdir() if path.name != "README.md"]
    for path in fragments:
        assert re.fullmatch(rf"(\d+|\+[a-z0-9-]+)\.({kinds})(\.\d+)?\.md", path.name), path.name
        text = path.read_text(encoding="utf-8").strip()
        assert text.endswith("."), f"{path.name}: whole sentences"
        assert not text.startswith("#"), f"{path.name}: no heading, the release brings its own"
