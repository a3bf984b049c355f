"""Publishing on PostgreSQL: by a function, for which a role needs no right on the log."""

from typing import Any, Dict, List, Optional

import psycopg2
from sqlalchemy import Text, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from ..database.grouplog import GroupLog
from ..database.outbox import Outbox, Written
from ..errors import Denied, NotInstalled, PgEventsError
from ..tables import Tables
from .grouplog import PostgresGroupLog
from .translation import code_of

#: A schema, a function that is not there.
_NOT_THERE = ("3F000", "42883")
_DENIED = "42501"


class PostgresOutbox(Outbox):
    """Calls publish_many() of functions.sql with any of SQLAlchemy's drivers."""

    def __init__(self, tables: Tables) -> None:
        self._schema = tables.schema
        names = ("channels", "payloads", "envelopes")
        given = ", ".join(f"CAST(:{name} AS pg_catalog.text[])" for name in names)
        self._put = text(f"SELECT {tables.schema}.publish_many({given})").bindparams(
            *(bindparam(name, type_=ARRAY(Text)) for name in names)
        )
        values = ", ".join(f"%({name})s" for name in names)
        self._send = f"SELECT {tables.schema}.publish_many({values})"

    def put(self, connection: Connection, messages: List[Written]) -> None:
        try:
            connection.execute(self._put, _given(messages))
        except DBAPIError as error:
            ours = self.meaning(error.orig)
            if ours is None:
                raise  # the application knows what it does about these
            raise ours from error

    def send(self, log: GroupLog, messages: List[Written]) -> None:
        assert isinstance(log, PostgresGroupLog)
        # One statement that commits itself: BEGIN and COMMIT would each be a trip to the server.
        with log.alone() as session, session.cursor() as cursor:
            try:
                cursor.execute(self._send, _given(messages))
            except psycopg2.Error as error:
                ours = self.meaning(error)
                if ours is None:
                    raise
                raise ours from error

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


def _given(messages: List[Written]) -> Dict[str, List[str]]:
    return {
        "channels": [message.channel for message in messages],
        "payloads": [message.payload for message in messages],
        "envelopes": [message.envelope for message in messages],
    }
