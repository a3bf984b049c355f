"""The thread that publishes delayed messages when they are due."""

import threading
from typing import Callable, Optional

from ..errors import PgEventsError
from ..retry import Backoff
from ..threads import Worker
from ..warnings import Warnings

PACE = 0.1  # seconds between two looks, at the least: a busy log wakes us for each commit
LONGEST = 60.0  # seconds between two looks: somebody may set the database's clock


class Mover(Worker):
    """Calls ``move()``, which returns in how many seconds a message is due, and then again.

    Who inserts a delayed message rings the bell: the reader that finds no row for it wakes us.
    While ``ready()`` is false there is nothing to move.
    """

    def __init__(
        self,
        name: str,
        move: Callable[[], Optional[float]],
        ready: Callable[[], bool],
        warnings: Warnings,
    ) -> None:
        super().__init__(name)
        self._move = move
        self._ready = ready
        self._warnings = warnings
        self._wake = threading.Event()

    def run(self) -> None:
        waits, left = iter(Backoff()), LONGEST
        while not self.stopping:
            self._wake.wait(left)
            self._wake.clear()
            if self.stopping or not self._ready():
                continue
            try:
                found = self._move()
            except PgEventsError as error:
                left = next(waits)
                self._warn(f"{self.name} failed, trying again in {left:.1f} s: {error}")
                self._stopped.wait(left)
                continue
            self._warn(None)
            waits, left = iter(Backoff()), LONGEST if found is None else min(found, LONGEST)
            self._stopped.wait(min(left, PACE))
            left = max(0.0, left - PACE)

    def wake(self) -> None:
        """Look now, or as soon as the pace allows."""
        self._wake.set()

    def _warn(self, sentence: Optional[str]) -> None:
        self._warnings.set(self.name, sentence)
