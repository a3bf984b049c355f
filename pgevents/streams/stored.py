"""An event of a stream, as it is stored."""

import json
from typing import Any, Dict, Hashable, Optional, Tuple

from ..database.store import StreamKey
from ..errors import UsageError
from ..events.entry import Entry
from ..events.logrow import CONTEXT, NEW, OLD, STORED, TOPIC, LogRow, with_parts
from ..events.values import parse_datetime
from ..payloads.text import from_text
from .selection import keys_of, selection_of
from .types import Types

_NOTHING: Any = object()


class Stored(Entry):
    """An event that was appended to a stream. It cannot be changed.

    Its data and metadata are read from their JSON when they are first asked for.
    """

    __slots__ = ("_types", "_sent", "_data")

    def __init__(
        self, row: LogRow, types: Types, attempt: int = 1, redelivered: bool = False
    ) -> None:
        self._row = row
        self._types = types
        self._attempt = attempt
        self._redelivered = redelivered
        self._sent: Optional[Dict[str, Any]] = None
        self._data = _NOTHING

    @property
    def operation(self) -> str:
        """``event``."""
        return STORED

    @property
    def moment(self) -> str:
        """``event``."""
        return STORED

    @property
    def stream(self) -> str:
        """The id of the stream; a UUID as text."""
        return str(self._envelope["stream"])

    @property
    def category(self) -> str:
        """The stream's category; "" for none."""
        return selection_of(self._row[TOPIC]).category or ""

    @property
    def tenant(self) -> Optional[str]:
        """The stream's tenant; None for none."""
        return selection_of(self._row[TOPIC]).tenant or None

    @property
    def type(self) -> str:
        """The name of its type."""
        return str(selection_of(self._row[TOPIC]).type)

    @property
    def type_version(self) -> int:
        """The version of its type in which it was written."""
        return int(self._envelope["type_version"])

    @property
    def version(self) -> int:
        """Its number in the stream, from 1."""
        return int(self._envelope["version"])

    @property
    def key(self) -> str:
        """The id of the stream."""
        return self.stream

    @property
    def keys(self) -> Tuple[str, ...]:
        return keys_of(self.topic)

    @property
    def lane(self) -> Optional[Hashable]:
        return key_of(self)

    @property
    def metadata(self) -> Dict[str, Any]:
        """What the event was appended with beside its data, or an empty dict."""
        return self._envelope["metadata"] or {}

    @property
    def correlation_id(self) -> Optional[str]:
        """What everything that has one origin shares: metadata's ``correlation_id``, or None."""
        return self.metadata.get("correlation_id")

    @property
    def causation_id(self) -> Optional[str]:
        """What the event was caused by: metadata's ``causation_id``, or None."""
        return self.metadata.get("causation_id")

    @property
    def data(self) -> Any:
        """What was appended: an object of the type's class, or a dict of a type without one.

        Data of an older version comes through the upcasters. Raises UsageError where the class
        does not take it, and what an upcaster raises.
        """
        data = self._data
        if data is _NOTHING:
            text = self._row[NEW]
            data = self._data = (
                None
                if text is None
                else self._types.read(
                    self.type, self.type_version, text, key_of(self), self.metadata
                )
            )
        return data

    def to_json(self) -> str:
        """Return the event as JSON text, for a queue or a file."""
        fields = {
            "position": self.position,
            "transaction": self.transaction,
            "at": self.at.isoformat(),
            "topic": self._row[TOPIC],
            "envelope": self._row[OLD],
            "data": self._row[NEW],
            "context": self._row[CONTEXT],
            "attempt": self._attempt,
            "redelivered": self._redelivered,
        }
        return json.dumps(fields)

    @classmethod
    def from_json(cls, text: str, types: Optional[Types] = None) -> "Stored":
        """Return the event that ``to_json`` wrote. Raises UsageError if it did not."""
        try:
            given = json.loads(text)
            at, parts = parse_datetime(given["at"]), ("envelope", "data", "context")
            row = (int(given["position"]), given["transaction"], at, given["topic"], STORED)
            return cls(
                (*row, *(given[name] for name in parts)),
                types or Types(),
                int(given["attempt"]),
                bool(given["redelivered"]),
            )
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            raise UsageError(f"no event in JSON: {text!r:.100} ({error!r})") from error

    def __reduce__(self) -> Any:
        # Types have functions of the application's: in another process, data is a dict.
        return Stored.from_json, (self.to_json(),)

    @property
    def _envelope(self) -> Dict[str, Any]:
        sent = self._sent
        if sent is None:
            sent = self._sent = from_text(self._row[OLD])
        return sent

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Stored):
            return NotImplemented
        return self.position == other.position

    def __hash__(self) -> int:
        return hash(self.position)

    def __repr__(self) -> str:
        return f"<Stored {self.position} {self.type} {self.stream} {self.version}>"


def without_data(row: LogRow) -> LogRow:
    """Return an event's row without what was appended, but for its stream and its version."""
    envelope = {**json.loads(row[OLD]), "metadata": None}
    return with_parts(row, {OLD: json.dumps(envelope), NEW: None, CONTEXT: None})


def key_of(event: Stored) -> StreamKey:
    """Return what names an event's stream."""
    return StreamKey(event.tenant or "", event.category, event.stream)
