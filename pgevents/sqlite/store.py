"""Streams of events on SQLite: an append begins with the write that locks the file."""

from typing import Any, List, Optional

from sqlalchemy import null, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import OperationalError

from ..database.store import Appended, EventStore, KeptState, StreamKey, WrittenEvent
from ..errors import NotInstalled
from ..tables import Tables
from .triggers import context_sql

_OF = "tenant = :tenant AND category = :category AND name = :name"

_ANY = """INSERT INTO {streams} (tenant, category, name, version)
           VALUES (:tenant, :category, :name, :count)
               ON CONFLICT (tenant, category, name) DO UPDATE SET version = version + :count"""
_NEW = _ANY.partition("DO UPDATE")[0] + "DO NOTHING"
_NEXT = f"UPDATE {{streams}} SET version = version + :count WHERE {_OF} AND version = :expected"

_KEEP = """
INSERT INTO {snapshots} (tenant, category, name, version, type, state)
VALUES (:tenant, :category, :name, :version, :type, :state)
    ON CONFLICT (tenant, category, name) DO UPDATE
   SET version = excluded.version, type = excluded.type, state = excluded.state, at = excluded.at
 WHERE version <= excluded.version
"""


class SqliteStore(EventStore):
    """The streams of one file."""

    def __init__(self, tables: Tables) -> None:
        super().__init__(tables)
        names = {name: tables.name(name) for name in ("streams", "events", "snapshots")}
        self._any, self._new, self._next = (
            text(sql.format(**names)) for sql in (_ANY, _NEW, _NEXT)
        )
        self._insert = text(
            f"INSERT INTO {names['events']}"
            " (tenant, category, name, version, type, type_version, data, metadata, context)"
            " VALUES (:tenant, :category, :name, :version, :type, :type_version, :data, :metadata,"
            f" nullif({context_sql(tables)}, ''))"
        )
        self._appended = text(
            f"SELECT seq, NULL, at, version, context FROM {names['events']}"
            f" WHERE {_OF} AND version > :before ORDER BY version"
        )
        self._keep = text(_KEEP.format(**names))

    def append(
        self,
        connection: Connection,
        key: StreamKey,
        expected: Optional[int],
        events: List[WrittenEvent],
    ) -> Optional[List[Appended]]:
        try:
            return self._append(connection, key._asdict(), key, expected, events)
        except OperationalError as error:
            if "no such table" not in str(error.orig):
                raise  # the application knows what it does about these
            raise NotInstalled(
                f"nothing can be appended, {self._streams.name} is not there: {error.orig}. Call"
                " hub.install()"
            ) from error

    def _append(
        self,
        connection: Connection,
        named: Any,
        key: StreamKey,
        expected: Optional[int],
        events: List[WrittenEvent],
    ) -> Optional[List[Appended]]:
        statement = self._any if expected is None else self._next if expected else self._new
        given = {**named, "count": len(events)}
        if expected:
            given["expected"] = expected
        if not connection.execute(statement, given).rowcount:
            return None
        # Nobody else writes from here on.
        before = self.version(connection, key) - len(events) if expected is None else expected
        connection.execute(
            self._insert,
            [
                {**named, **event._asdict(), "version": before + place}
                for place, event in enumerate(events, 1)
            ],
        )
        found = connection.execute(self._appended, {**named, "before": before})
        return [Appended(*row) for row in found]

    def keep(self, connection: Connection, key: StreamKey, kept: KeptState) -> None:
        connection.execute(self._keep, {**key._asdict(), **kept._asdict()})

    def _xid(self, events: Any) -> Any:
        return null()

    def _json(self, text: str) -> Any:
        return text
