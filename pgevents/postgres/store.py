"""Streams of events on PostgreSQL: an append is one statement."""

from typing import Any, Dict, List, Optional

from sqlalchemy import Integer, Text, bindparam, cast, text
from sqlalchemy.dialects.postgresql import ARRAY, JSON
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from ..database.store import Appended, EventStore, KeptState, StreamKey, WrittenEvent
from ..errors import Denied, NotInstalled, PgEventsError
from ..tables import Tables
from .translation import code_of

_NOT_THERE = ("3F000", "42P01", "42703")  # a schema, a table, a column that is not there
_DENIED = "42501"

#: The stream's new version, or no row where it is not at the expected one. Its head is locked
#: before positions are drawn, so the order of versions is that of positions.
_ANY = """INSERT INTO {streams} AS s (tenant, category, name, version)
           VALUES (:tenant, :category, :name, :count)
               ON CONFLICT (tenant, category, name) DO UPDATE SET version = s.version + :count
        RETURNING version"""
_NEW = """INSERT INTO {streams} (tenant, category, name, version)
           VALUES (:tenant, :category, :name, :count)
               ON CONFLICT (tenant, category, name) DO NOTHING
        RETURNING version"""
_NEXT = """UPDATE {streams} SET version = version + :count
            WHERE tenant = :tenant AND category = :category AND name = :name
              AND version = :expected
        RETURNING version"""

#: A context that is too long is cut: it must not make an append fail.
_APPEND = """
WITH head AS ({head}
), given AS (
    SELECT * FROM ROWS FROM (pg_catalog.unnest(CAST(:types AS pg_catalog.text[])),
                             pg_catalog.unnest(CAST(:versions AS pg_catalog.int4[])),
                             pg_catalog.unnest(CAST(:data AS pg_catalog.text[])),
                             pg_catalog.unnest(CAST(:metadata AS pg_catalog.text[])))
         WITH ORDINALITY g (type, type_version, data, metadata, place)
)
INSERT INTO {events} (tenant, category, name, version, type, type_version, data, metadata, context)
SELECT :tenant, :category, :name, head.version - :count + place, type, type_version,
       CAST(data AS pg_catalog.json), CAST(metadata AS pg_catalog.json),
       nullif(pg_catalog.left(pg_catalog.current_setting('pgevents.context', true), 16384), '')
  FROM head, given ORDER BY place
RETURNING seq, CAST(xid AS pg_catalog.text), at, version, context
"""

_KEEP = """
INSERT INTO {snapshots} AS s (tenant, category, name, version, type, state)
VALUES (:tenant, :category, :name, :version, :type, CAST(:state AS pg_catalog.json))
    ON CONFLICT (tenant, category, name) DO UPDATE
   SET version = excluded.version, type = excluded.type, state = excluded.state, at = excluded.at
 WHERE s.version <= excluded.version
"""


class PostgresStore(EventStore):
    """The streams of one database, with any of SQLAlchemy's drivers."""

    def __init__(self, tables: Tables) -> None:
        super().__init__(tables)
        names = {name: tables.name(name) for name in ("streams", "events", "snapshots")}
        self._any, self._new, self._next = (
            text(_APPEND.format(head=head.format(**names), **names)).bindparams(
                *(bindparam(name, type_=ARRAY(Text)) for name in ("types", "data", "metadata")),
                bindparam("versions", type_=ARRAY(Integer)),
            )
            for head in (_ANY, _NEW, _NEXT)
        )
        self._keep = text(_KEEP.format(**names))

    def append(
        self,
        connection: Connection,
        key: StreamKey,
        expected: Optional[int],
        events: List[WrittenEvent],
    ) -> Optional[List[Appended]]:
        statement = self._any if expected is None else self._next if expected else self._new
        given: Dict[str, Any] = {
            **key._asdict(),
            "count": len(events),
            "types": [event.type for event in events],
            "versions": [event.type_version for event in events],
            "data": [event.data for event in events],
            "metadata": [event.metadata for event in events],
        }
        if expected:
            given["expected"] = expected
        try:
            found = connection.execute(statement, given).fetchall()
        except DBAPIError as error:
            ours = self._meaning(error.orig)
            if ours is None:
                raise  # the application knows what it does about these
            raise ours from error
        return [Appended(*row) for row in sorted(found, key=lambda row: row[3])] or None

    def keep(self, connection: Connection, key: StreamKey, kept: KeptState) -> None:
        connection.execute(self._keep, {**key._asdict(), **kept._asdict()})

    def _xid(self, events: Any) -> Any:
        return cast(events.c.xid, Text)

    def _json(self, text: str) -> Any:
        return cast(cast(text, Text), JSON)

    def _meaning(self, error: Any) -> Optional[PgEventsError]:
        code, sentence = code_of(error)
        streams = self._tables.name("streams")
        if code in _NOT_THERE:
            return NotInstalled(
                f"nothing can be appended, {streams} is not there, or of an older release:"
                f" {sentence}. Call hub.install()"
            )
        if code == _DENIED:
            return Denied(
                f"the role may not append: {sentence}. Let the owner of {streams} run what"
                " `pgevents sql URL --role …` prints"
            )
        return None
