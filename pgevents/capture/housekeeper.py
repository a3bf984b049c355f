"""The thread that keeps the house: old log rows go, lost triggers come back."""

import logging
import threading
from typing import Callable

from ..errors import PgEventsError
from ..threads import Worker
from ..warnings import Warnings

logger = logging.getLogger("pgevents")


class Housekeeper(Worker):
    """Does its chores every ``interval`` seconds. One that fails is tried again next time.

    While ``ready()`` is false there is no house yet, and nothing is done.
    """

    def __init__(
        self,
        name: str,
        interval: float,
        ready: Callable[[], bool],
        warnings: Warnings,
        *chores: Callable[[], None],
    ) -> None:
        super().__init__(name)
        self._warnings = warnings
        self._interval = interval
        self._ready = ready
        self._chores = chores
        self._wake = threading.Event()

    def run(self) -> None:
        while not self.stopping:
            self._wake.wait(self._interval)
            self._wake.clear()
            for chore in self._chores:
                if self._ready() and not self.stopping:
                    self._do(chore)

    def wake(self) -> None:
        """Do the chores now."""
        self._wake.set()

    def _do(self, chore: Callable[[], None]) -> None:
        warning = None
        try:
            chore()
        except PgEventsError as error:
            warning = f"{self.name} failed, trying again in {self._interval:.0f} s: {error}"
        except Exception as error:
            logger.exception("%s failed by a mistake in pgevents, please report it", self.name)
            warning = f"{self.name} failed by a mistake in pgevents: {error!r}"
        self._warnings.set(f"{self.name} {chore.__name__}", warning)
