"""How a group works."""

import copy
import json
from typing import Dict, Iterable, List, Optional, Tuple

from .. import checks
from ..channels.names import is_topic
from ..errors import UsageError
from ..retry import Backoff
from ..streams.selection import is_selection

BATCH_SIZE = 500  # events that are claimed together
LEASE = 10.0  # seconds without a renewal until another process takes over
MAX_ATTEMPTS = 5
FIRST_WAIT, LONGEST_WAIT = 1.0, 300.0  # seconds before an event is tried again
STARTS = ("now", "beginning", "backfill")
NAMES = ("ordered", "batch_size", "lease", "max_attempts", "backoff", "start", "keep_rows")


class Options:
    """How a group works. Raises UsageError."""

    def __init__(
        self,
        ordered: Optional[bool] = None,
        batch_size: int = BATCH_SIZE,
        lease: float = LEASE,
        max_attempts: int = MAX_ATTEMPTS,
        backoff: Tuple[float, float] = (FIRST_WAIT, LONGEST_WAIT),
        start: Optional[str] = None,
        keep_rows: bool = True,
    ) -> None:
        if start is not None and start not in STARTS:
            raise UsageError(f"start={start!r}: choose one of {', '.join(STARTS)}")
        for name, value in (("ordered", ordered is None or ordered), ("keep_rows", keep_rows)):
            if not isinstance(value, bool):
                raise UsageError(f"{name}={value!r}: give True or False")
        if not isinstance(backoff, (tuple, list)) or len(backoff) != 2:
            raise UsageError(f"backoff={backoff!r}: give two waits in seconds, first and longest")
        self._ordered = ordered
        self.batch_size = checks.whole("batch_size", batch_size)
        self.lease = checks.seconds("lease", lease, 1.0)
        self.max_attempts = checks.whole("max_attempts", max_attempts)
        self.backoff = Backoff(*(checks.seconds("backoff", wait) for wait in backoff))
        self.start = start or "now"
        self._start_given = start is not None
        self.keep_rows = keep_rows

    @property
    def ordered(self) -> bool:
        """Whether one batch is handled at a time; where nobody says so, it is for tables."""
        return self._ordered is not False

    def of(self, topics: Iterable[str]) -> "Options":
        """Return the options for a group of these topics.

        Of channels alone it is not ordered; of streams it begins at their beginning. Raises
        UsageError for a group of streams and of something else.
        """
        topics = list(topics)
        own = copy.copy(self)
        if any(map(is_selection, topics)):
            _check_selections(topics, own.start)
            if not own._start_given:
                own.start = "beginning"
        elif own._ordered is None and all(map(is_topic, topics)):
            own._ordered = False
        return own

    def definition(self, topics: Dict[str, List[str]]) -> str:
        """Return what all processes of the group have to agree about, as JSON."""
        return json.dumps(
            {
                "ordered": self.ordered,
                "topics": {topic: sorted(topics[topic]) for topic in sorted(topics)},
            },
            ensure_ascii=False,  # not every database's encoding can read \u00e9
        )

    def own(self) -> str:
        """Return what may be different in each process, as JSON."""
        return json.dumps(
            {
                "batch_size": self.batch_size,
                "lease": self.lease,
                "max_attempts": self.max_attempts,
                "backoff": [self.backoff.first, self.backoff.longest],
                "keep_rows": self.keep_rows,
            }
        )


def _check_selections(topics: List[str], start: str) -> None:
    others = [topic for topic in topics if not is_selection(topic)]
    if others:
        raise UsageError(
            f"a group reads streams, or the log, not both: give {others[0]} a group of its own"
        )
    if start == "backfill":
        raise UsageError('start="backfill" is for tables: streams are kept from the "beginning"')
