"""An attempt that failed, and what becomes of its event."""

import traceback
from typing import NamedTuple, Optional

from ..channels.message import without_payload
from ..database.grouplog import plain_row
from ..delivery.topics import Topics
from ..events.event import without_values
from ..events.logrow import LogRow, is_message, is_stored
from ..retry import Backoff
from ..streams.stored import without_data


class Failure(NamedTuple):
    """An event that is given up (``delay`` is None) or waits to be tried again."""

    row: LogRow
    attempt: int  # that failed
    error: str
    traceback: str
    delay: Optional[float]
    cause: BaseException
    kept: Optional[LogRow] = None  # by the dead letter, if not the whole row


class Failures:
    """Decides for one group whether an event that failed is tried again, and when."""

    def __init__(
        self, group: str, max_attempts: int, backoff: Backoff, keep_rows: bool, known: Topics
    ) -> None:
        self._group = group
        self._max_attempts = max_attempts
        self._backoff = backoff
        self._keep_rows = keep_rows
        self._known = known

    def exhausted(self, attempt: int) -> bool:
        """Tell whether there is no such attempt: those before it have ended with their process."""
        return attempt > self._max_attempts

    def of(self, row: LogRow, attempt: int, error: BaseException) -> Failure:
        """Return what is to be written down of an attempt that raised this."""
        if self.exhausted(attempt):  # it was not made
            return Failure(row, attempt - 1, str(error), "", None, error, self._kept(row))
        delay = None if attempt >= self._max_attempts else self._backoff.wait(attempt)
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        kept = self._kept(row) if delay is None else None
        return Failure(row, attempt, described(error), text, delay, error, kept)

    def _kept(self, row: LogRow) -> Optional[LogRow]:
        """Return what a dead letter keeps of a row, None if the whole."""
        if self._keep_rows:
            return None
        if is_message(row):
            return without_payload(row)
        if is_stored(row):
            return without_data(row)
        return without_values(row, self._known.shape_of(plain_row(row, self._group)).key)


def described(error: BaseException) -> str:
    """Return ``repr(error)``, whatever its class makes of that."""
    try:
        return repr(error)
    except Exception:
        return f"<{type(error).__name__}, whose repr() failed>"
