"""``make fuzz``: lets atheris drive the targets, one process for each, and reports how much was tried and what was found."""

from __future__ import annotations

import argparse
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

KEPT = Path("build") / "fuzz"
NAMES = ("listener", "client", "framing", "tls", "manager")
GRACE = 60  # seconds beyond its time that a target has to end


def drive(name: str) -> None:
    """In the process of one target: does not return."""
    import atheris  # noqa: PLC0415

    sys.path.insert(0, str(Path(__file__).parent))
    with atheris.instrument_imports(include=["shoal._connection", "shoal._managers", "targets", "manager_requests"]):
        import targets  # noqa: PLC0415
    if set(targets.TARGETS) != set(NAMES):
        raise SystemExit("fuzz: NAMES in run.py are not those of targets.py")
    corpus = KEPT / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(targets.SEEDS[name]):
        (corpus / f"seed-{number}").write_bytes(seed)
    atheris.Setup([sys.argv[0], *sys.argv[3:], str(corpus)], targets.TARGETS[name])
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fuzz ARGS=…", description="Fuzz what comes from a socket.")
    parser.add_argument("--seconds", type=int, default=60, help="for all targets together (default: 60)")
    parser.add_argument("--target", action="append", choices=NAMES, help="this one only; may be said several times")
    options = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        version = ".".join(map(str, sys.version_info[:2]))
        print(f"fuzz: skipped, atheris is not installed (is there one for CPython {version}?)")
        return 0
    names = options.target or NAMES
    seconds = max(1, options.seconds // len(names))
    failed = False
    for name in names:
        finding = KEPT / "found" / name
        finding.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, __file__, "--drive", name, f"-max_total_time={seconds}", "-max_len=4096"]
        command += ["-timeout=20", "-rss_limit_mb=1024", "-print_final_stats=1", f"-artifact_prefix={finding}/"]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=seconds + GRACE, check=False)
        executed = re.search(r"number_of_executed_units: *(\d+)", done.stderr)
        memory = re.search(r"peak_rss_mb: *(\d+)", done.stderr)
        print(
            f"{name}: {executed[1] if executed else '?'} inputs in {seconds} s, {memory[1] if memory else '?'} MB at most, "
            f"{'nothing found' if done.returncode == 0 else f'FOUND, see {finding}'}",
            flush=True,
        )
        if done.returncode != 0:
            failed = True
            print(done.stderr[-4000:], file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--drive"]:
        drive(sys.argv[2])
    sys.exit(main())
