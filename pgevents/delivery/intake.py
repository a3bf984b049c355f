"""What the rows that a hub reads from its log become: events for plain listeners, or a gap."""

from typing import FrozenSet, List

from ..database.notes import gap_of, noted_topic, without_notes
from ..events.entry import Entry
from ..events.logrow import OPERATION, TOPIC, LogRow
from ..listening.registry import Registry
from ..metrics import Metrics
from ..reporter import Reporter
from .entries import Entries
from .strangers import Strangers
from .topics import Topics


class Intake:
    """Makes events of rows; reports the notes among them; leaves out rows of a newer release."""

    def __init__(
        self,
        registry: Registry,
        topics: Topics,
        entries: Entries,
        strangers: Strangers,
        metrics: Metrics,
        reporter: Reporter,
    ) -> None:
        self._registry = registry
        self._topics = topics
        self._entries = entries
        self._strangers = strangers
        self._metrics = metrics
        self._reporter = reporter

    @property
    def native(self) -> FrozenSet[str]:
        """PostgreSQL's own channels that anybody here listens to."""
        return self._registry.native()

    @property
    def wanted(self) -> bool:
        """Whether there are plain listeners, so that rows have to be read."""
        return self._registry.has_plain()

    def unknown(self, rows: List[LogRow]) -> List[str]:
        """Return the tables that have to be looked up before ``events()`` of these rows."""
        tables = {row[TOPIC] for row in rows if row[OPERATION] != "read"}  # that is a message
        if not self._topics.unknown(tables):
            return []
        _, rows = without_notes(rows)
        rows = self._strangers.left_out(rows)
        return self._topics.unknown({row[TOPIC] for row in rows if row[OPERATION] != "read"})

    def look_up(self, topics: List[str]) -> None:
        """Ask the database what these tables look like now."""
        self._topics.look_up(topics)

    def events(self, rows: List[LogRow]) -> List[Entry]:
        """Return the events and messages of these rows, in their order. Asks no database."""
        self._metrics.read += len(rows)
        notes, rows = without_notes(rows)
        if notes:
            self._report(notes)
        rows = self._strangers.left_out(rows)
        return self._entries.of_all(rows)

    def _report(self, notes: List[LogRow]) -> None:
        """Report those notes that are about tables with plain listeners."""
        reason = gap_of([row for row in notes if self._listened_to(noted_topic(row))])
        if reason is not None:
            self._reporter.gap(reason)

    def _listened_to(self, topic: str) -> bool:
        keys = self._topics.keys(topic)
        return any(
            listener.group is None
            for moment in ("after_truncate", "after_delete")
            for listener in self._registry.listeners(keys, moment)
        )
