"""What publishes messages: what a database must be able to do for that."""

from typing import List, NamedTuple

from sqlalchemy.engine import Connection

from .grouplog import GroupLog


class Written(NamedTuple):
    """A message as the database stores it: ``payload`` and ``envelope`` are JSON."""

    id: str
    channel: str
    payload: str
    envelope: str


class Outbox:
    """Writes messages into one log, in the caller's transaction."""

    def put(self, connection: Connection, messages: List[Written]) -> None:
        """Write messages, in their order; they are received once the transaction commits.

        ``connection`` is the application's, or one of ours.
        """
        raise NotImplementedError

    def send(self, log: GroupLog, messages: List[Written]) -> None:
        """Write messages in a transaction of our own, with a connection of the pool of ``log``."""
        log.write(lambda connection: self.put(connection, messages))
