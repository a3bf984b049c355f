"""A message that is to be published, checked before the database is asked."""

import uuid
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional

from .. import checks
from ..database.outbox import Written
from ..errors import UsageError
from ..payloads.enrichers import Enrichers
from ..payloads.text import Codec, to_text
from .names import channel_name

LONGEST = 1e10  # seconds of a delay: three hundred years


class Outgoing(NamedTuple):
    """A message for ``publish_many()``: its fields are the arguments of ``publish()``."""

    channel: str
    payload: Any
    key: Optional[str] = None
    metadata: Optional[Mapping[str, Any]] = None
    id: Optional[str] = None
    delay: Optional[float] = None
    expires: Optional[float] = None


_NOTHING_MORE = Outgoing("", None)[2:]


class Writer:
    """Turns messages into what the database stores; ``max_payload`` is in bytes of JSON."""

    def __init__(
        self,
        encoder: Optional[Codec] = None,
        max_payload: Optional[int] = None,
        enrichers: Optional[Enrichers] = None,
    ) -> None:
        self._encoder = encoder
        self._enrichers = enrichers or Enrichers()
        self._max_payload = max_payload

    def written(self, message: Outgoing) -> Written:
        """Return a message as it is stored. Raises UsageError."""
        channel = channel_name(message.channel)
        payload = to_text(message.payload, self._encoder)
        if self._max_payload is not None and len(payload) > self._max_payload:
            raise UsageError(
                f"a payload of {len(payload)} bytes for {channel!r}: max_payload is"
                f" {self._max_payload}"
            )
        delay, expires = _seconds("delay", message.delay), _seconds("expires", message.expires)
        if message[2:] == _NOTHING_MORE and not self._enrichers.any:  # as mostly
            id = uuid.uuid4().hex
            return Written(id, channel, payload, f'{{"id":"{id}"}}')
        id = uuid.uuid4().hex if message.id is None else checks.name("id", message.id)
        envelope: Dict[str, Any] = {"id": id}
        if message.key is not None:
            envelope["key"] = checks.name("key", message.key)
        metadata = self._enrichers.enriched(message.metadata)
        if metadata:
            envelope["metadata"] = metadata
        text = to_text(envelope, what="metadata")
        named = None if message.id is None else id
        return Written(id, channel, payload, text, named, delay, expires)


def as_outgoing(given: Any) -> Outgoing:
    """Return a message that was given as a tuple or an Outgoing. Raises UsageError."""
    if isinstance(given, Outgoing):
        return given
    if isinstance(given, (tuple, list)) and len(given) in (2, 3):
        channel, payload, *metadata = given
        return Outgoing(channel, payload, metadata=metadata[0] if metadata else None)
    raise UsageError(
        f"no message: {given!r:.80}. Give (channel, payload), (channel, payload, metadata) or"
        " Outgoing(channel, payload, …)"
    )


def as_messages(given: Iterable[Any]) -> List[Outgoing]:
    """Return the messages of ``publish_many()``. Raises UsageError, which says which is wrong."""
    if isinstance(given, (str, bytes, Mapping)):
        raise UsageError(f"no messages: {given!r:.80}. Give a list")
    return [as_outgoing(one) for one in given]


def _seconds(what: str, given: Any) -> Optional[float]:
    if given is None:
        return None
    seconds = checks.seconds(what, given)
    if seconds > LONGEST:
        raise UsageError(f"{what}={given!r}: give seconds, {LONGEST:g} at the most")
    return seconds
