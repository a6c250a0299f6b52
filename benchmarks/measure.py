"""One measurement, in an interpreter of its own: ``python -m benchmarks.measure ROW BACKEND [quick]``.

The last line of the standard output is the result, as JSON.
"""

from __future__ import annotations

import dataclasses
import json
import sys

from benchmarks.backend import BACKENDS
from benchmarks.pace import Pace
from benchmarks.row import all_rows


def main() -> None:
    """Measure what the arguments name."""
    name, backend, *rest = sys.argv[1:]
    rows = {row.name: row for row in all_rows()}
    measurement = rows[name].measure(BACKENDS[backend], Pace(quick="quick" in rest))
    print(json.dumps(dataclasses.asdict(measurement)), flush=True)


if __name__ == "__main__":
    main()
