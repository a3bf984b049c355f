"""What publishes messages: what a database must be able to do for that."""

from typing import List, NamedTuple, Optional

from sqlalchemy.engine import Connection

from ..errors import UsageError
from .grouplog import GroupLog

MOVED = 500  # delayed messages that are moved in one transaction


class Written(NamedTuple):
    """A message as the database stores it: ``payload`` and ``envelope`` are JSON.

    ``named`` is its id if the publisher gave it, so that it is published once. ``delay`` is in
    seconds, and so is ``expires``, which counts from when it is due.
    """

    id: str
    channel: str
    payload: str
    envelope: str
    named: Optional[str] = None
    delay: Optional[float] = None
    expires: Optional[float] = None

    @property
    def plain(self) -> bool:
        """Whether it is one more row of the log, and nothing else."""
        return self.named is None and self.delay is None and self.expires is None


NO_NOTIFY = "SQLite has no notifications of its own: hub.publish() and hub.subscribe() work there"


class Outbox:
    """Writes messages into one log, in the caller's transaction."""

    def put(self, connection: Connection, messages: List[Written]) -> None:
        """Write messages, in their order; they are received once the transaction commits.

        ``connection`` is the application's, or one of ours.
        """
        raise NotImplementedError

    def notify(self, connection: Connection, channel: str, payload: str) -> None:
        """Send a notification of the database's own, in the caller's transaction."""
        raise UsageError(NO_NOTIFY)

    def notify_alone(self, log: GroupLog, channel: str, payload: str) -> None:
        """Send one at once."""
        raise UsageError(NO_NOTIFY)

    def send(self, log: GroupLog, messages: List[Written]) -> None:
        """Write messages in a transaction of our own, with a connection of the pool of ``log``."""
        log.write(lambda connection: self.put(connection, messages))

    def move(self, log: GroupLog) -> Optional[float]:
        """Move delayed messages that are due into the log; return in how many seconds the next is.

        None: no message waits. It moves MOVED at once; if more are due, it returns 0.
        """
        raise NotImplementedError

    def forget_ids(self, log: GroupLog, age: float) -> None:
        """Let ids that were published ``age`` seconds ago be published again."""
        raise NotImplementedError
