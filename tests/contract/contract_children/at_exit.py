"""A program that ends while its children still run: ``python -m contract_children.at_exit LIBRARY METHOD FIFO RESULT``.

One child is not daemonic: it waits for the FIFO and then writes the result. The other is daemonic and waits for ever.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from contract_children.instances import Instance


def wait_and_write(fifo: str, result: str) -> None:
    Path(result).write_text(Path(fifo).read_text())


def wait_for_ever(fifo: str) -> None:
    while True:
        Path(fifo).read_text()


def main() -> None:
    library, method, fifo, result = sys.argv[1:]
    mp = Instance(library, method).context()
    never = fifo + "-never"
    os.mkfifo(fifo)
    os.mkfifo(never)
    lasting = mp.Process(target=wait_and_write, args=(fifo, result))
    daemon = mp.Process(target=wait_for_ever, args=(never,), daemon=True)
    lasting.start()
    daemon.start()
    sys.stdout.write(f"{lasting.pid} {daemon.pid}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
