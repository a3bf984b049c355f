"""Publishing on PostgreSQL: by a function, for which a role needs no right on the log."""

from typing import Any, Dict, List, Optional, Tuple

import psycopg2
from sqlalchemy import Float, Text, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from ..database.grouplog import GroupLog
from ..database.outbox import MOVED, Outbox, Written
from ..errors import Denied, NotInstalled, PgEventsError
from ..tables import Tables
from .grouplog import PostgresGroupLog
from .translation import code_of

#: A schema, a function that is not there.
_NOT_THERE = ("3F000", "42883")
_DENIED = "42501"

ELSEWHERE = 0.1  # seconds after which we look again when another process moves what is due

_PLAIN = {"channels": "text", "payloads": "text", "envelopes": "text"}
_MORE = {"ids": "text", "delays": "float8", "expires": "float8"}
#: The arguments of publish_many(), and of what type the elements of each array are.
KINDS = {**_PLAIN, **_MORE}

#: Of the statement, not clock_timestamp(), by which no index can be searched.
_NOW = "extract(epoch FROM statement_timestamp())::float8"

_MOVE = f"""
WITH due AS (
    SELECT id FROM {{delayed}} WHERE due <= {_NOW}
     ORDER BY due, id LIMIT {MOVED} FOR UPDATE SKIP LOCKED
), moved AS (
    DELETE FROM {{delayed}} d USING due WHERE d.id = due.id
    RETURNING d.id, d.due, d.topic, d.old, d.new, d.context
), put AS (
    INSERT INTO {{log}} (topic, operation, old, new, context)
    SELECT topic, 'read', old, new, context FROM moved ORDER BY moved.due, moved.id
    RETURNING 1
)
SELECT count(*) FROM put
"""


_NOTIFY = text("SELECT pg_catalog.pg_notify(:channel, :payload)")


class PostgresOutbox(Outbox):
    """Calls publish_many() of functions.sql with any of SQLAlchemy's drivers."""

    def __init__(self, tables: Tables) -> None:
        self._schema = tables.schema
        self._put, self._send = _calls(tables.schema, _PLAIN)
        self._put_all, self._send_all = _calls(tables.schema, KINDS)
        delayed, log, ids = (tables.name(name) for name in ("delayed", "log", "ids"))
        self._next = f"SELECT min(due) - {_NOW} FROM {delayed}"
        self._move = _MOVE.format(delayed=delayed, log=log)
        self._forget = f"DELETE FROM {ids} WHERE at < {_NOW} - %s"

    def put(self, connection: Connection, messages: List[Written]) -> None:
        try:
            connection.execute(
                self._put if _all_plain(messages) else self._put_all, given_of(messages)
            )
        except DBAPIError as error:
            ours = self.meaning(error.orig)
            if ours is None:
                raise  # the application knows what it does about these
            raise ours from error

    def notify(self, connection: Connection, channel: str, payload: str) -> None:
        connection.execute(_NOTIFY, {"channel": channel, "payload": payload})

    def notify_alone(self, log: GroupLog, channel: str, payload: str) -> None:
        assert isinstance(log, PostgresGroupLog)
        with log.alone() as session, session.cursor() as cursor:
            cursor.execute("SELECT pg_catalog.pg_notify(%s, %s)", (channel, payload))

    def send(self, log: GroupLog, messages: List[Written]) -> None:
        assert isinstance(log, PostgresGroupLog)
        # One statement that commits itself: BEGIN and COMMIT would each be a trip to the server.
        with log.alone() as session, session.cursor() as cursor:
            try:
                cursor.execute(
                    self._send if _all_plain(messages) else self._send_all, given_of(messages)
                )
            except psycopg2.Error as error:
                ours = self.meaning(error)
                if ours is None:
                    raise
                raise ours from error

    def move(self, log: GroupLog) -> Optional[float]:
        assert isinstance(log, PostgresGroupLog)
        with log.alone() as session, session.cursor() as cursor:
            # Looked for before anything is locked: mostly nothing is due.
            cursor.execute(self._next)
            left: Optional[float] = cursor.fetchone()[0]
            if left is None or left > 0:
                return left
            cursor.execute(self._move)
            if cursor.fetchone()[0] == 0:
                return ELSEWHERE
            cursor.execute(self._next)
            found = cursor.fetchone()[0]
            return None if found is None else max(0.0, float(found))

    def forget_ids(self, log: GroupLog, age: float) -> None:
        assert isinstance(log, PostgresGroupLog)
        with log.alone() as session, session.cursor() as cursor:
            cursor.execute(self._forget, (age,))

    def meaning(self, error: Any) -> Optional[PgEventsError]:
        """Return our error for one of a driver's; None where it is not about publishing."""
        code, sentence = code_of(error)
        if code in _NOT_THERE:
            return NotInstalled(
                f"nothing can be published, the log {self._schema} is not there, or of an older"
                f" release: {sentence}. Call hub.install()"
            )
        if code == _DENIED:
            return Denied(
                f"the role may not publish: {sentence}. Let the log's owner run GRANT USAGE ON"
                f" SCHEMA {self._schema} TO …; GRANT EXECUTE ON FUNCTION"
                f" {self._schema}.publish_many TO …"
            )
        return None


def _calls(schema: str, kinds: Dict[str, str]) -> Tuple[Any, str]:
    """Return the call of publish_many() for SQLAlchemy's drivers, and for psycopg2."""
    given = ", ".join(f"CAST(:{name} AS pg_catalog.{kind}[])" for name, kind in kinds.items())
    types = {"text": ARRAY(Text), "float8": ARRAY(Float)}
    put = text(f"SELECT {schema}.publish_many({given})").bindparams(
        *(bindparam(name, type_=types[kind]) for name, kind in kinds.items())
    )
    values = ", ".join(f"%({name})s::pg_catalog.{kind}[]" for name, kind in kinds.items())
    return put, f"SELECT {schema}.publish_many({values})"


def _all_plain(messages: List[Written]) -> bool:
    return all(message.plain for message in messages)


def given_of(messages: List[Written]) -> Dict[str, List[Any]]:
    """Return the arguments of publish_many() by their names, in their order: see KINDS."""
    given: Dict[str, List[Any]] = {
        "channels": [message.channel for message in messages],
        "payloads": [message.payload for message in messages],
        "envelopes": [message.envelope for message in messages],
    }
    if not _all_plain(messages):
        given["ids"] = [message.named for message in messages]
        given["delays"] = [message.delay for message in messages]
        given["expires"] = [message.expires for message in messages]
    return given
