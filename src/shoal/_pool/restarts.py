"""How often workers may die before they were ready. Pure.

A worker that dies in a task costs that task; it may happen any number of times. A worker that dies before it was ready never will be: the
initializer exits, or an import crashes. Such deaths in a row, without a single worker becoming ready, break the pool.
"""

from __future__ import annotations

from shoal._runtime.exits import FROM_OUTSIDE

__all__ = ["RestartLimit"]


class RestartLimit:
    """Counts deaths of workers that were not ready.

    Attributes:
        OWN: how many in a row may die by their own doing (an exit code, a crash).
        FOREIGN: how many in a row may be killed from outside (the OOM killer, an operator), which says little about the workers.
    """

    OWN = 3
    FOREIGN = 100

    __slots__ = ("foreign", "own")

    def __init__(self) -> None:
        self.own = 0
        self.foreign = 0

    def ready(self) -> None:
        """Note that a worker became ready."""
        self.own = self.foreign = 0

    def died_unready(self, exitcode: int | None) -> bool:
        """Note a death.

        Args:
            exitcode: as ``Process.exitcode``.

        Returns:
            Whether it is one too many.
        """
        if exitcode in FROM_OUTSIDE or exitcode is None:
            self.foreign += 1
        else:
            self.own += 1
        return self.own >= self.OWN or self.foreign >= self.FOREIGN
