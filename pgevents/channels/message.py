"""A message, as a listener receives it."""

import json
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any, Dict, Hashable, Optional, Tuple

from ..errors import UsageError
from ..events.entry import Entry
from ..events.logrow import CONTEXT, MESSAGE, NEW, OLD, POSITION, TOPIC, LogRow, with_parts
from ..events.values import parse_datetime
from ..payloads.models import to_model
from ..payloads.text import Codec, from_text
from .names import keys_of

_NOTHING: Any = object()


class Message(Entry):
    """A message that somebody has published. It cannot be changed.

    The payload is read from its JSON when it is first asked for.
    """

    __slots__ = ("_decoder", "_type", "_envelope", "_payload")

    def __init__(
        self,
        row: LogRow,
        attempt: int = 1,
        redelivered: bool = False,
        decoder: Optional[Codec] = None,
        type: Optional[type] = None,
    ) -> None:
        self._row = row
        self._attempt = attempt
        self._redelivered = redelivered
        self._decoder = decoder
        self._type = type
        self._envelope: Optional[Dict[str, Any]] = None
        self._payload = _NOTHING

    @property
    def operation(self) -> str:
        """``message``."""
        return "message"

    @property
    def moment(self) -> str:
        """``message``."""
        return "message"

    @property
    def channel(self) -> str:
        """The name of the channel."""
        return str(self._row[TOPIC][len(MESSAGE) :])

    @property
    def payload(self) -> Any:
        """What was published, as it was; with ``type=`` an object of that class.

        Raises UsageError where no such object can be made of it, and for what is no JSON.
        """
        payload = self._payload
        if payload is _NOTHING:
            payload = self._payload = self._read()
        return payload

    @property
    def id(self) -> str:
        """The id that ``publish()`` returned, the same in every process."""
        found = self._sent().get("id")
        return found if isinstance(found, str) else str(self._row[POSITION])

    @property
    def key(self) -> Optional[str]:
        """The key that the message was published with, or None."""
        found = self._sent().get("key")
        return found if isinstance(found, str) else None

    @property
    def metadata(self) -> Dict[str, Any]:
        """The metadata that the message was published with, or an empty dict."""
        found = self._sent().get("metadata")
        return found if isinstance(found, dict) else {}

    @property
    def due(self) -> Optional[datetime]:
        """When a message with a delay was due, by the database's clock; None without one."""
        found = self._sent().get("due")
        try:
            return datetime.fromtimestamp(found, timezone.utc)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError, OSError):
            return None

    @property
    def until(self) -> Optional[float]:
        if '"until":' not in (self._row[OLD] or ""):  # as mostly: nothing is parsed
            return None
        found = self._sent().get("until")
        return float(found) if isinstance(found, (int, float, Decimal)) else None

    @property
    def keys(self) -> Tuple[str, ...]:
        return keys_of(self.topic)

    @property
    def lane(self) -> Optional[Hashable]:
        return self.channel, self.key

    def typed(self, type: type) -> "Message":
        """Return the same message with an object of this class as its payload."""
        message = Message(self._row, self._attempt, self._redelivered, self._decoder, type)
        message._envelope = self._envelope
        return message

    def to_json(self) -> str:
        """Return the message as JSON text, for a queue or a file; ``from_json`` gives it back."""
        row = self._row
        fields = {
            "position": self.position,
            "transaction": self.transaction,
            "at": self.at.isoformat(),
            "channel": self.channel,
            "envelope": row[OLD],
            "payload": row[NEW],
            "context": row[CONTEXT],
            "attempt": self._attempt,
            "redelivered": self._redelivered,
        }
        return json.dumps(fields)

    @classmethod
    def from_json(cls, text: str, decoder: Optional[Codec] = None) -> "Message":
        """Return the message that ``to_json`` wrote. Raises UsageError if it did not."""
        try:
            given = json.loads(text)
            at, topic = parse_datetime(given["at"]), MESSAGE + given["channel"]
            parts = [given[name] for name in ("envelope", "payload", "context")]
            row = (int(given["position"]), given["transaction"], at, topic, "read", *parts)
            return cls(row, int(given["attempt"]), bool(given["redelivered"]), decoder)
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            raise UsageError(f"no message in JSON: {text!r:.100} ({error!r})") from error

    def __reduce__(self) -> Any:
        return Message.from_json, (self.to_json(), self._decoder)

    def _sent(self) -> Dict[str, Any]:
        """Return what came along with the payload, however it was written."""
        envelope = self._envelope
        if envelope is None:
            try:
                envelope = from_text(self._row[OLD] or "{}")
            except (ValueError, RecursionError):
                envelope = {}
            if not isinstance(envelope, dict):
                envelope = {}
            self._envelope = envelope
        return envelope

    def _read(self) -> Any:
        text = self._row[NEW]
        try:
            value = from_text("null" if text is None else text, self._decoder)
        except (json.JSONDecodeError, RecursionError) as error:
            raise UsageError(f"the payload of {self!r} cannot be read: {error}") from error
        return value if self._type is None else to_model(self._type, value)

    def __repr__(self) -> str:
        return f"<Message {self.id} {self.channel}>"


def without_payload(row: LogRow) -> LogRow:
    """Return a message's row without what its publisher wrote, but for its id and its key."""
    message = Message(row)
    envelope = {"id": message.id, "key": message.key}
    return with_parts(row, {OLD: json.dumps(envelope), NEW: None, CONTEXT: None})
