"""What ``read()`` returns: events of many streams, in the order in which they may be read."""

from typing import Callable, Iterator, List, Optional

from ..database.grouplog import GroupLog
from ..errors import UsageError
from ..events.logrow import LogRow
from .stored import Stored


class Reading:
    """Events behind a cursor, until there is none; then it may be iterated over again.

    ``cursor`` is a text, behind the event that was given last: keep it together with what was
    made of that event. It is no number: numbers are drawn before the commit, and a transaction
    that commits late would be missed.
    """

    def __init__(
        self,
        log: Callable[[], GroupLog],
        stored: Callable[[LogRow], Stored],
        after: Optional[str],
        topics: List[str],
        page: int,
    ) -> None:
        if after is not None and not isinstance(after, str):
            raise UsageError(f"after={after!r:.60}: give the cursor of an earlier read()")
        self._log = log
        self._stored = stored
        self._topics = topics
        self._page = page
        self._cursor = after

    @property
    def cursor(self) -> str:
        """Where to go on: ``read(after=cursor)``."""
        if self._cursor is None:
            with self._log().reading() as connection:
                self._cursor = self._log().cursor(connection, "beginning")
        return self._cursor

    def __iter__(self) -> Iterator[Stored]:
        while True:
            before = self.cursor
            rows, behind = self._next(before)
            if not rows:
                self._cursor = behind
                return
            for row in rows[:-1]:
                event = self._stored(row)
                self._cursor = self._log().cursor_within(before, behind, event.position)
                yield event
            self._cursor = behind
            yield self._stored(rows[-1])

    def _next(self, cursor: str) -> "tuple[List[LogRow], str]":
        log = self._log()
        with log.reading() as connection:
            log.prepare_claim(connection)
            try:
                return log.read(connection, cursor, self._topics, self._page)
            except (ValueError, LookupError, TypeError) as error:
                raise UsageError(
                    f"after={cursor!r:.60}: give the cursor of an earlier read() of this database"
                ) from error
