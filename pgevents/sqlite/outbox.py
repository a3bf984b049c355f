"""Publishing on SQLite: an INSERT into the log."""

import json
import time
from typing import Any, Dict, List, Optional

from sqlalchemy import text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import OperationalError

from ..channels.names import topic_of
from ..database.grouplog import GroupLog
from ..database.outbox import MOVED, Outbox, Written
from ..errors import NotInstalled
from ..tables import Tables
from .triggers import context_sql


class SqliteOutbox(Outbox):
    """Writes the rows itself: who may write to the file may write to the log."""

    def __init__(self, tables: Tables) -> None:
        log, delayed, ids = (tables.name(name) for name in ("log", "delayed", "ids"))
        # "read", as on PostgreSQL: release 0.1 leaves such rows to groups of their topic.
        self._put = text(
            f"INSERT INTO {log} (topic, operation, old, new, context)"
            f" VALUES (:topic, 'read', :envelope, :payload, {context_sql(tables)})"
        )

        self._delay = text(
            f"INSERT INTO {delayed} (due, topic, old, new, context)"
            f" VALUES (:due, :topic, :envelope, :payload, {context_sql(tables)})"
        )
        self._take_id = text(f"INSERT OR IGNORE INTO {ids} (channel, id, at) VALUES (:c, :i, :now)")
        self._next = text(f"SELECT min(due) FROM {delayed}")
        due = f"FROM {delayed} WHERE due <= :now ORDER BY due, id LIMIT {MOVED}"
        self._move = text(
            f"INSERT INTO {log} (topic, operation, old, new, context)"
            f" SELECT topic, 'read', old, new, context {due}"
        )
        self._drop = text(f"DELETE FROM {delayed} WHERE id IN (SELECT id {due})")
        self._forget = text(f"DELETE FROM {ids} WHERE at < :before")
        self._old_ids = text(f"SELECT 1 FROM {ids} WHERE at < :before LIMIT 1")

    def put(self, connection: Connection, messages: List[Written]) -> None:
        try:
            if all(message.plain for message in messages):
                connection.execute(self._put, [_row(message) for message in messages])
            else:
                # The clock of this machine is the database's.
                now = time.time()
                for message in messages:
                    self._put_one(connection, message, now)
        except OperationalError as error:
            if "no such table" not in str(error.orig):
                raise  # the application knows what it does about these
            raise NotInstalled(
                "nothing can be published, the log is not there, or of an older release:"
                f" {error.orig}. Call hub.install()"
            ) from error

    def move(self, log: GroupLog) -> Optional[float]:
        with log.reading() as connection:
            left = self._left(connection)
        return left if left is None or left > 0 else log.write(self._move_due)

    def forget_ids(self, log: GroupLog, age: float) -> None:
        given = {"before": time.time() - age}
        with log.reading() as connection:
            found = connection.execute(self._old_ids, given).fetchone()
        if found:
            log.write(lambda connection: connection.execute(self._forget, given))

    def _put_one(self, connection: Connection, message: Written, now: float) -> None:
        if message.named is not None:
            given = {"c": message.channel, "i": message.named, "now": now}
            if connection.execute(self._take_id, given).rowcount == 0:
                return
        row, due = _row(message), now + (message.delay or 0.0)
        more = {"due": due} if message.delay else {}
        if message.expires is not None:
            more["until"] = due + message.expires
        if more:
            row["envelope"] = f"{message.envelope[:-1]},{json.dumps(more)[1:]}"
        if message.delay:
            connection.execute(self._delay, {**row, "due": due})
        else:
            connection.execute(self._put, row)

    def _move_due(self, connection: Connection) -> Optional[float]:
        given = {"now": time.time()}
        connection.execute(self._move, given)
        connection.execute(self._drop, given)
        return self._left(connection)

    def _left(self, connection: Connection) -> Optional[float]:
        due = connection.execute(self._next).scalar()
        return None if due is None else max(0.0, float(due) - time.time())


def _row(message: Written) -> Dict[str, Any]:
    return {
        "topic": topic_of(message.channel),
        "envelope": message.envelope,
        "payload": message.payload,
    }
