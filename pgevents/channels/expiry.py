"""Tells which messages have expired, by the database's clock: that of this machine may be wrong."""

import time
from typing import Callable, Optional

from ..errors import PgEventsError
from ..events.entry import Entry
from ..metrics import Metrics

MEASURED = 60.0  # seconds for which an answer of the database is good: clocks drift slowly
FAILED = 1.0  # seconds after which a database that has not answered is asked again


class Expiry:
    """Counts expired messages; ``ask()`` returns the database's time in seconds since 1970.

    The database is asked once in a while, and only if there is a message that can expire. What
    has passed since then, a clock tells that nobody sets. Threads may call it at the same time.
    """

    def __init__(self, ask: Callable[[], float], metrics: Metrics) -> None:
        self._ask = ask
        self._metrics = metrics
        self._offset: Optional[float] = None  # the database's clock less that of this process
        self._ask_at = 0.0

    def __call__(self, entry: Entry) -> bool:
        """Tell whether a message has expired, and count it then.

        While the database's time is not known, none has: it is not lost.
        """
        until = entry.until
        if until is None:
            return False
        now = self._now()
        if now is None or now < until:
            return False
        self._metrics.add("expired")
        return True

    def _now(self) -> Optional[float]:
        here = time.monotonic()
        if self._offset is None or here >= self._ask_at:
            try:
                answer = self._ask()
                # Not later than that: a message is delivered rather than lost.
                self._offset, self._ask_at = answer - time.monotonic(), here + MEASURED
            except PgEventsError:
                self._ask_at = here + FAILED
        return None if self._offset is None else time.monotonic() + self._offset
