"""PostgreSQL's own notifications: what a listener receives, and what may be sent.

They are for programs that use NOTIFY already. Nothing is stored: what is sent while nobody
listens, or while a connection is lost, is gone. Messages have none of these limits.
"""

import datetime
from typing import Any, Callable, Hashable, Optional, Tuple

from .. import checks
from ..errors import UsageError
from ..events.entry import Entry
from ..listening.listener import Listener
from ..payloads.text import NOTIFY_BYTES, fits_notify

MOMENT = "notify"
NAME_BYTES = 63  # PostgreSQL cuts longer names, in silence
_TOPIC = "notify:"


class Notification(Entry):
    """A notification of PostgreSQL: ``channel``, ``payload``, and the sender's process, ``pid``."""

    __slots__ = ("pid",)

    def __init__(self, channel: str, payload: str, pid: int) -> None:
        self._row = (0, None, None, _TOPIC + channel, MOMENT, None, payload, None)
        self._attempt, self._redelivered = 1, False
        #: The process id of the session on the server that sent it.
        self.pid = pid

    @property
    def channel(self) -> str:
        """The name of the channel."""
        return self.topic[len(_TOPIC) :]

    @property
    def payload(self) -> str:
        """The text that was sent, "" for none."""
        return str(self._row[6])

    @property
    def operation(self) -> str:
        """``notify``."""
        return MOMENT

    @property
    def moment(self) -> str:
        """``notify``."""
        return MOMENT

    @property
    def key(self) -> None:
        """None: a notification is about nothing that is known."""

    @property
    def lane(self) -> Optional[Hashable]:
        return self.topic

    @property
    def at(self) -> datetime.datetime:
        raise AttributeError("a notification has no time")

    def to_json(self) -> str:
        raise UsageError("a notification is not stored, and has no form in JSON")

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__

    def __reduce__(self) -> Any:
        return Notification, (self.channel, self.payload, self.pid)

    def __repr__(self) -> str:
        return f"<Notification {self.channel} {self.payload!r:.60}>"


class NativeListener(Listener):
    """A function that receives the notifications of one channel."""

    def __init__(self, fn: Callable[..., Any], channel: Any) -> None:
        self.native = native_channel(channel)
        super().__init__(fn)

    @property
    def senders(self) -> Tuple[str, ...]:
        return (f"{_TOPIC}{self.native}",)

    def _arguments(self) -> str:
        return "one argument, the notification"


def native_channel(given: Any) -> str:
    """Return the name of a channel of PostgreSQL. Raises UsageError."""
    name = checks.name("channel", given)
    if len(name.encode()) > NAME_BYTES:
        raise UsageError(
            f"channel={name!r:.80}: PostgreSQL's channels have names of {NAME_BYTES} bytes at the"
            " most, and longer ones are cut in silence"
        )
    if name.startswith("pgevents_"):
        raise UsageError(f"channel={name!r}: names that begin with pgevents_ are the hub's own")
    return name


def native_payload(given: Any) -> str:
    """Return the payload of a notification. Raises UsageError."""
    if not isinstance(given, str):
        raise UsageError(f"a notification is a text, not {given!r:.60}: publish() takes any JSON")
    if given:
        checks.name("payload", given)
    if not fits_notify(given):
        raise UsageError(
            f"a notification of {len(given.encode())} bytes: PostgreSQL takes {NOTIFY_BYTES} at"
            " the most. hub.publish() has no limit"
        )
    return given
