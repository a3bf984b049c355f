"""What happens when the process that defined a group last is gone."""

import logging
import time
from typing import Callable, Optional, Tuple

from .definition import missing
from .group_rows import Superseded

logger = logging.getLogger("pgevents")

SUCCESSION = 10.0  # seconds that nobody of another definition was there, until ours counts


class Succession:
    """Lets our definition count when nobody of the other one has been there for some time.

    ``succeed(other)`` writes ours in the place of the other.
    """

    def __init__(
        self, group: str, definition: str, owner: str, succeed: Callable[[Superseded], None]
    ) -> None:
        self._group = group
        self._definition = definition
        self._owner = owner
        self._succeed = succeed
        self._deserted: Optional[Tuple[Optional[str], float]] = None  # by whom, and since when

    def reset(self) -> None:
        """Our definition counts."""
        self._deserted = None

    def consider(self, other: Superseded) -> None:
        """Take over if it is time.

        Not if the other definition has tables or moments that ours has not: their events would
        be passed over; but who asked for them here got an error, and no events.
        """
        own = other.owner == self._owner
        if not own and (other.alive or missing(self._definition, other.definition)):
            self._deserted = None
            return
        now = time.monotonic()
        if self._deserted is None or self._deserted[0] != other.owner:
            self._deserted = other.owner, now
        elif now - self._deserted[1] > SUCCESSION:
            logger.warning("group %s: nobody else is there, this process goes on", self._group)
            self._succeed(other)
