"""What a row of the log is to a listener: a change of a table, a message, an event."""

from typing import Callable, List, Optional

from ..channels.message import Message
from ..events.entry import Entry
from ..events.event import Event
from ..events.logrow import OPERATION, STORED, LogRow, is_message
from ..payloads.text import Codec
from ..streams.stored import Stored
from ..streams.types import Types
from .topics import Topics


class Entries:
    """Makes events and messages of rows; ``decoder`` makes payloads of what JSON gives.

    ``types`` makes what was appended of streams' events.
    """

    def __init__(
        self,
        topics: Topics,
        decoder: Optional[Codec] = None,
        types: Optional[Types] = None,
        expired: Optional[Callable[[Entry], bool]] = None,
    ) -> None:
        #: Tells whether an entry must not be delivered any more, and counts it then.
        self.expired = expired or _never
        self._topics = topics
        self._types = types or Types()
        self.decoder = decoder

    def of_all(self, rows: List[LogRow]) -> List[Entry]:
        """Return the entries of these rows, in their order, as they are delivered at first.

        What was unknown of their tables has been looked up.
        """
        if "read" not in {row[OPERATION] for row in rows}:  # no message among them
            return list(map(Event, rows, self._topics.shapes_of(rows)))
        shapes = iter(self._topics.shapes_of([row for row in rows if not is_message(row)]))
        return [
            Message(row, decoder=self.decoder) if is_message(row) else Event(row, next(shapes))
            for row in rows
        ]

    def of(self, row: LogRow, attempt: int = 1, redelivered: bool = False) -> Entry:
        """Return the entry of a row."""
        operation = row[OPERATION]
        if operation == "read" and is_message(row):
            return Message(row, attempt, redelivered, self.decoder)
        if operation == STORED:
            return Stored(row, self._types, attempt, redelivered)
        return Event(row, self._topics.shape_of(row), attempt, redelivered)


def _never(_: Entry) -> bool:
    return False
