"""What the housekeeper of a hub does, again and again."""

import logging
from typing import Callable

from ..database.backend import Backend
from ..groups.groups import Groups
from ..settings import Settings
from .upkeep import Upkeep

logger = logging.getLogger("pgevents")

HOUSEKEEPING = 30.0  # seconds between two rounds, at the most


class Chores:
    """Brings lost triggers back, and deletes what is old: log rows, dead letters."""

    def __init__(
        self,
        backend: Backend,
        upkeep: Upkeep,
        groups: Groups,
        settings: Settings,
        forget_ids: Callable[[float], None],
    ) -> None:
        self._forget_ids = forget_ids
        self._backend = backend
        self._upkeep = upkeep
        self._groups = groups
        self._settings = settings

    @property
    def interval(self) -> float:
        """Seconds between two rounds: nothing old stays for more than a quarter longer."""
        letters = self._settings.dead_letter_retention or HOUSEKEEPING * 4
        return min(
            HOUSEKEEPING,
            self._settings.retention / 4,
            letters / 4,
            self._settings.dedupe_window / 4,
        )

    def check_capture(self) -> None:
        """Look whether what is wanted is still captured."""
        with self._backend.session():
            self._upkeep.check()

    def clean(self) -> None:
        """Delete old log rows."""
        settings = self._settings
        deleted = self._backend.clean(settings.retention, settings.group_retention)
        if deleted:
            logger.debug("deleted %d old rows from the log", deleted)

    def expire(self) -> None:
        """Discard old dead letters."""
        if self._settings.dead_letter_retention is not None:
            expired = self._groups.expire(self._settings.dead_letter_retention)
            if expired:
                logger.info("discarded %d old dead letters", expired)

    def forget(self) -> None:
        """Let old ids of messages be published again."""
        self._forget_ids(self._settings.dedupe_window)
