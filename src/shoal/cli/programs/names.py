"""Every ``.py`` file of the interpreter's standard library: hash it, tokenize it and count its names; alone, and with a pool.

An ordinary program for ``multiprocessing``, with a progress bar. It prints what it found; with ``--report FILE`` it writes the figures there as JSON.
A file that cannot be tokenized (some of the interpreter's own tests are meant to be such) is counted as that.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import multiprocessing
import os
import sys
import sysconfig
import time
import tokenize
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tqdm import tqdm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

LEFT_OUT = {"site-packages", "dist-packages", "__pycache__"}


class Examined(NamedTuple):
    """What is known of one file; ``names`` is None if it cannot be tokenized."""

    path: str
    size: int
    digest: str
    names: Counter[str] | None
    library: str


def library() -> str:
    """Return the name of the package that this process has as ``multiprocessing``."""
    return str(multiprocessing.get_context().Process.__module__.partition(".")[0])


def examine(path: str) -> Examined:
    """Hash one file, tokenize it, and count its names."""
    content = Path(path).read_bytes()
    names: Counter[str] | None
    try:
        tokens = tokenize.tokenize(io.BytesIO(content).readline)
        names = Counter(token.string for token in tokens if token.type == tokenize.NAME)
    except (SyntaxError, tokenize.TokenError, UnicodeDecodeError):
        names = None
    return Examined(path, len(content), hashlib.sha256(content).hexdigest(), names, library())


def files(limit: int | None) -> list[str]:
    """List the files of the standard library in a fixed order; the first ``limit`` of them if it is given."""
    found = []
    for directory, inner, names in os.walk(sysconfig.get_path("stdlib")):
        inner[:] = sorted(set(inner) - LEFT_OUT)
        found += [str(Path(directory, name)) for name in names if name.endswith(".py")]
    return sorted(found)[:limit]


def total(found: Iterable[Examined]) -> dict[str, Any]:
    """Add up what is known of all files. The order in which they come makes no difference."""
    names: Counter[str] = Counter()
    digests, libraries = {}, set()
    size = unreadable = 0
    for file in found:
        digests[file.path] = file.digest
        libraries.add(file.library)
        size += file.size
        if file.names is None:
            unreadable += 1
        else:
            names.update(file.names)
    commonest, times = min(names.items(), key=lambda item: (-item[1], item[0]), default=("", 0))
    return {
        "result": {
            "files": len(digests),
            "bytes": size,
            "not_tokenized": unreadable,
            "names": names.total(),
            "different_names": len(names),
            "commonest": commonest,
            "commonest_times": times,
            "digest": hashlib.sha256("".join(digests[path] for path in sorted(digests)).encode()).hexdigest(),
        },
        "libraries": sorted(libraries),
    }


def progress(found: Iterable[Examined], count: int, title: str, style: str) -> Iterator[Examined]:
    """Show how far the work has come: a bar on a terminal, a line at each quarter elsewhere, or nothing."""
    if style == "bar":
        yield from tqdm(found, total=count, desc=title, unit=" files", leave=False, ncols=78)
        return
    quarter = 1
    for done, file in enumerate(found, start=1):
        yield file
        if style == "lines" and done * 4 >= quarter * count:
            print(f"{title}: {done:,} of {count:,} files", file=sys.stderr, flush=True)
            quarter = done * 4 // count + 1


def alone(paths: list[str], _processes: int) -> Iterable[Examined]:
    """One file after the other, in this process."""
    return map(examine, paths)


def pooled(paths: list[str], processes: int) -> Iterator[Examined]:
    """Through a pool, in the order in which the workers finish."""
    with multiprocessing.Pool(processes) as pool:
        yield from pool.imap_unordered(examine, paths)


def timed(
    work: Callable[[list[str], int], Iterable[Examined]], paths: list[str], processes: int, title: str, style: str
) -> dict[str, Any]:
    """Do one kind of work, and return its time in seconds with the totals."""
    start = time.perf_counter()
    totals = total(progress(work(paths, processes), len(paths), title, style))
    return {"seconds": time.perf_counter() - start, **totals}


def main() -> None:
    """Do the work twice, and check that both totals are the same."""
    parser = argparse.ArgumentParser(
        description="hash and tokenize the standard library's files, alone and with a pool"
    )
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--limit", type=int, help="only so many files")
    parser.add_argument(
        "--progress", choices=("bar", "lines", "none"), default="bar" if sys.stderr.isatty() else "lines"
    )
    parser.add_argument("--report", type=Path, help="write the figures to this file, as JSON")
    options = parser.parse_args()
    paths = files(options.limit)
    runs = {
        "alone": timed(alone, paths, 1, "one after the other", options.progress),
        "pool": timed(pooled, paths, options.processes, f"Pool({options.processes}).imap_unordered", options.progress),
    }
    for name, run in runs.items():
        print(f"{name:10}{run['seconds']:8.3f} s   {run['result']}   {', '.join(run['libraries'])}")
    if runs["alone"]["result"] != runs["pool"]["result"]:
        sys.exit("the pool's totals differ from those of the sequential run")
    if options.report:
        options.report.write_text(
            json.dumps({"runs": runs, "facts": {"processes": options.processes}}), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
