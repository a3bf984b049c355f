"""A lease that is kept though its events are handled, so that a group writes seldom.

On SQLite a write is in everybody's way. So what an ordered group has handled is not acknowledged
at once; whoever holds the lease goes on with what comes behind it, and writes down how far it
is within half a second, and when nothing comes any more.

    claim    the lease names 1, 2                      written
    handled  1, 2                                      remembered
    follow   the lease names 3 "and what follows"      written; 1 and 2 are acknowledged by it
    follow   4, 5, 6 …                                 remembered, for half a second
    follow   the lease names 7 "and what follows"      written; the cursor is behind 7
    end      no lease; the cursor is behind what was handled last

Whoever takes such a lease over handles what it names, and some of what follows, as what
somebody may have seen before.
"""

import time
from typing import Any

from ..events.logrow import size

FOLLOWED = 500  # events that one lease may be followed by unnamed …
FOLLOWED_BYTES = 8_000_000  # … or as many as fit here
UNWRITTEN = 0.3  # seconds that what was handled is only remembered; a write may wait a while …
QUIET = 0.1  # … and if something came in the last so many, until something comes again


class Standing:
    """What is remembered of such a lease: how far it is, and since when nobody wrote that down."""

    def __init__(self, work: Any, since: float) -> None:
        self.lease: int = work.lease
        self.owner: str = work.owner
        self.place = work.place
        self.open: bool = work.open  # written down as one that others follow
        self.cursor: str = work.behind
        self._came_at = since
        self._accept(work, since)

    def handled(self, work: Any, since: float) -> None:
        """Remember that this was handled, which ``follow()`` gave."""
        if work.named:
            self.open = work.open
            self._accept(work, since)
            return
        self.cursor = work.behind
        self.unnamed += len(work.rows)
        self._size += sum(map(size, work.rows))

    @property
    def left(self) -> float:
        """In how many seconds it has to be written down, 0.0 when what comes next is named."""
        return max(0.0, self.since + UNWRITTEN - time.monotonic())

    @property
    def wait(self) -> float:
        """In how many seconds it is to be ended if nothing comes."""
        return max(self.left, self._came_at + QUIET - time.monotonic(), 0.001)

    @property
    def over(self) -> bool:
        """Tell whether it is to be ended, since nothing comes any more."""
        return not self.left and time.monotonic() - self._came_at >= QUIET

    def follows(self) -> None:
        """Remember that something has come."""
        self._came_at = time.monotonic()

    @property
    def room(self) -> int:
        """How many events more may follow unnamed."""
        free = self.open and self.left > 0 and self._size < FOLLOWED_BYTES
        return FOLLOWED - self.unnamed if free else 0

    def hasten(self) -> None:
        """Let it be written down at the next look."""
        self.since = self._came_at = float("-inf")

    def _accept(self, work: Any, since: float) -> None:
        self.cursor = work.behind
        self.since = since
        self.unnamed = 0
        self._size = 0
