"""A message in the hands of a loop of the application's own, which says what becomes of it."""

from typing import Any, Optional

from ..channels.message import Message
from ..events.logrow import LogRow
from ..payloads.text import Codec
from .box import Box, Held


class Received(Message):
    """A message of ``hub.messages()``: it waits for ``ack()`` or ``nack()``.

    Both raise UsageError when it was acted upon already, and LeaseLost when it is somebody
    else's by now, or its box is closed.
    """

    __slots__ = ("_box", "_held")

    def __init__(
        self, box: Box, held: Held, row: LogRow, redelivered: bool, decoder: Optional[Codec]
    ) -> None:
        super().__init__(row, held.work.attempt, redelivered, decoder)
        self._box = box
        self._held = held

    def ack(self, bind: Any = None) -> None:
        """Acknowledge it: nobody receives it again.

        That is durable when this returns. With ``bind``, a Session, scoped_session or
        Connection, it belongs to that transaction, with all that was written there: after a
        rollback the message is as it was. Raises Unavailable where the database does not
        answer: then call it again.
        """
        self._box.ack(self._held, bind)

    def nack(self, delay: Optional[float] = None, error: Any = "nack()") -> None:
        """Give it back as one that failed: it comes again, or is a dead letter.

        ``delay``: seconds until it comes again; without, the group's backoff decides. ``error``,
        a text or an exception, is kept by the dead letter.
        """
        self._box.nack(self._held, delay, error)

    def extend(self, seconds: float) -> None:
        """Keep it for so many seconds from now at least, whatever the group's ``lease`` is."""
        self._box.extend(self._held, seconds)
