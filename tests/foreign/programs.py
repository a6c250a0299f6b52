"""The foreign programs: what each is called with, and the small tree with faults that it works on."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

METHODS = ("fork", "spawn", "forkserver")

# One fault or two a file, so that every worker has something to say.
FAULTY = """
    import os, sys
    from json import *


    def distance{number}( a,b ):
        unused = {number}
        if a == None :
            return  a+b
        else:
            l = lambda : undefined_{number}
            return [ l,
                {{ 'key':a }} ]
"""
BROKEN = "def broken(:\n    pass\n"


@dataclass(frozen=True)
class Program:
    """A program that starts processes.

    Attributes:
        name: what the table calls it.
        method: the start method that it is told, or "its own".
        line: its command line, after the interpreter.
        ordered: False where its processes print whenever they like: then lines are compared in any order.
        needs: the module without which it cannot run.
    """

    name: str
    method: str
    line: tuple[str, ...]
    ordered: bool = True
    needs: str | None = None


PROGRAMS = (
    Program("flake8 -j 2", "its own", ("-m", "flake8", "--isolated", "-j", "2", "tree"), needs="flake8"),
    Program(
        "compileall -j 2",
        "its own",
        ("-m", "compileall", "-j", "2", "--invalidation-mode", "checked-hash", "tree"),
        ordered=False,
    ),
    Program("yapf -p -d", "its own", ("-m", "yapf", "-p", "-r", "-d", "tree/good"), ordered=False, needs="yapf"),
    Program("yapf -p -i", "its own", ("-m", "yapf", "-p", "-r", "-i", "tree"), ordered=False, needs="yapf"),
    Program(
        "pylint -j 2",
        "its own",
        ("-m", "pylint", "-j", "2", "--persistent", "n", "tree"),
        ordered=False,
        needs="pylint",
    ),
    *(Program("joblib", backend, ("parallel.py", backend), needs="joblib") for backend in ("loky", "multiprocessing")),
    *(Program("DataLoader", method, ("loader.py", method), needs="torch") for method in METHODS),
)

# Run as `python loader.py`, the context is the standard library's; as `shoal run loader.py`, shoal's.
LOADER = """
    import multiprocessing
    import sys

    import torch
    from torch.utils.data import DataLoader, Dataset, get_worker_info


    class Squares(Dataset):
        def __len__(self):
            return 64

        def __getitem__(self, index):
            return torch.full((1000,), float(index * index)), get_worker_info().num_workers


    class Faulty(Squares):
        # Not at once: PyTorch's handler of SIGCHLD may raise where a worker is ended that has not come up yet, on either library.
        def __getitem__(self, index):
            if index == 32:
                raise LookupError(f"no item {index}")
            return super().__getitem__(index)


    if __name__ == "__main__":
        context = multiprocessing.get_context(sys.argv[1])
        for persistent in (False, True):
            loader = DataLoader(
                Squares(), batch_size=8, num_workers=2, multiprocessing_context=context, persistent_workers=persistent
            )
            for _ in range(2):
                print([(float(batch.sum()), workers.tolist()) for batch, workers in loader])
        try:
            list(DataLoader(Faulty(), batch_size=8, num_workers=2, multiprocessing_context=context))
        except LookupError as error:
            print(type(error).__name__, str(error).splitlines()[-1])
"""


# Nested calls, an error from a worker, and a function that only joblib's own pickler takes.
PARALLEL = """
    import sys

    from joblib import Parallel, delayed


    def square(number):
        return number * number


    def sum_of_squares(number):
        return sum(Parallel(n_jobs=2)(delayed(square)(item) for item in range(number)))


    def fail():
        raise LookupError("no such item")


    if __name__ == "__main__":
        backend = sys.argv[1]
        parallel = Parallel(n_jobs=2, backend=backend)
        print(parallel(delayed(square)(number) for number in range(50)))
        print(parallel(delayed(sum_of_squares)(number) for number in range(5)))
        if backend == "loky":
            print(parallel(delayed(lambda number: -number)(number) for number in range(10)))
            print(list(Parallel(n_jobs=2, return_as="generator")(delayed(square)(number) for number in range(10))))
        try:
            parallel(delayed(fail)() for _ in range(4))
        except LookupError as error:
            print(type(error).__name__, error)
"""


def plant(place: Path) -> None:
    """Make the tree, and the programs of our own."""
    for part in ("good", "bad"):
        (place / "tree" / part).mkdir(parents=True)
        (place / "tree" / part / "__init__.py").touch()
    (place / "tree" / "__init__.py").touch()
    for number in range(6):
        text = textwrap.dedent(FAULTY).format(number=number)
        (place / "tree" / "good" / f"module{number}.py").write_text(text, encoding="utf-8")
    (place / "tree" / "bad" / "broken.py").write_text(BROKEN, encoding="utf-8")
    (place / "parallel.py").write_text(textwrap.dedent(PARALLEL), encoding="utf-8")
    (place / "loader.py").write_text(textwrap.dedent(LOADER), encoding="utf-8")
