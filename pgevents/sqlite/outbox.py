"""Publishing on SQLite: an INSERT into the log."""

from typing import List

from sqlalchemy import text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import OperationalError

from ..channels.names import topic_of
from ..database.outbox import Outbox, Written
from ..errors import NotInstalled
from ..tables import Tables
from .triggers import context_sql


class SqliteOutbox(Outbox):
    """Writes the rows itself: who may write to the file may write to the log."""

    def __init__(self, tables: Tables) -> None:
        log = tables.name("log")
        # "read", as on PostgreSQL: release 0.1 leaves such rows to groups of their topic.
        self._put = text(
            f"INSERT INTO {log} (topic, operation, old, new, context)"
            f" VALUES (:topic, 'read', :envelope, :payload, {context_sql(tables)})"
        )

    def put(self, connection: Connection, messages: List[Written]) -> None:
        given = [
            {
                "topic": topic_of(message.channel),
                "envelope": message.envelope,
                "payload": message.payload,
            }
            for message in messages
        ]
        try:
            connection.execute(self._put, given)
        except OperationalError as error:
            if "no such table" not in str(error.orig):
                raise  # the application knows what it does about these
            raise NotInstalled(
                f"nothing can be published, the log is not there: {error.orig}. Call hub.install()"
            ) from error
