"""Streams of events in one database: what is written to them and read from them.

The statements of SQLAlchemy serve both databases; only how events are appended, each room
knows for itself. ``connection`` is the application's, or one of ours.
"""

import functools
import json
from typing import Any, List, NamedTuple, Optional

from sqlalchemy import Table, Text, and_, cast, delete, select, update
from sqlalchemy.engine import Connection

from ..events.logrow import STORED, STREAM, TOPIC, LogRow
from ..tables import Tables


class StreamKey(NamedTuple):
    """What names a stream."""

    tenant: str
    category: str
    name: str


class WrittenEvent(NamedTuple):
    """An event as the database stores it: ``data`` and ``metadata`` are JSON."""

    type: str
    type_version: int
    data: str
    metadata: Optional[str]


class Appended(NamedTuple):
    """What the database has given an event."""

    position: int
    transaction: Optional[str]
    at: Any
    version: int
    context: Optional[str]


class KeptState(NamedTuple):
    """A snapshot as the database stores it: ``state`` is JSON."""

    version: int
    type: Optional[str]
    state: str


class EventStore:
    """The streams of one database."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._streams, self._events = tables.streams, tables.events
        self._snapshots = tables.snapshots

    def append(
        self,
        connection: Connection,
        key: StreamKey,
        expected: Optional[int],
        events: List[WrittenEvent],
    ) -> Optional[List[Appended]]:
        """Append events; None, and nothing is changed, where the stream is at another version.

        Raises NotInstalled and Denied in words of ours, and other errors as they are.
        """
        raise NotImplementedError

    def version(self, connection: Connection, key: StreamKey) -> int:
        """Return how many events a stream has had; 0 for one that is not there."""
        found = connection.execute(
            select(self._streams.c.version).where(self._of(self._streams, key))
        ).scalar()
        return int(found or 0)

    def page(
        self, connection: Connection, key: StreamKey, after: int, upto: int, limit: int
    ) -> List[LogRow]:
        """Return the next events of a stream, as rows of the log."""
        e = self._events
        columns = (e.c.seq, self._xid(e), e.c.at, e.c.type, e.c.version, e.c.type_version)
        found = connection.execute(
            select(*columns, cast(e.c.metadata, Text), cast(e.c.data, Text), e.c.context)
            .where(and_(self._of(e, key), e.c.version > after, e.c.version <= upto))
            .order_by(e.c.version)
            .limit(limit)
        )
        return [
            stored_row(
                key,
                WrittenEvent(type, type_version, data, metadata),
                Appended(seq, xid, at, version, context),
            )
            for seq, xid, at, type, version, type_version, metadata, data, context in found
        ]

    def snapshot(self, connection: Connection, key: StreamKey, upto: int) -> Optional[KeptState]:
        """Return a stream's snapshot, unless it is of a later version."""
        s = self._snapshots
        found = connection.execute(
            select(s.c.version, s.c.type, cast(s.c.state, Text)).where(
                and_(self._of(s, key), s.c.version <= upto)
            )
        ).first()
        return None if found is None else KeptState(*found)

    def keep(self, connection: Connection, key: StreamKey, kept: KeptState) -> None:
        """Put a snapshot in the place of a stream's earlier one, of a version as high at most."""
        raise NotImplementedError

    def delete(self, connection: Connection, key: StreamKey) -> int:
        """Delete a stream's events and its snapshot; return how many events. Its head stays."""
        e, s = self._events, self._snapshots
        found = connection.execute(select(e.c.seq).where(self._of(e, key)))
        self._forget_letters(connection, [row[0] for row in found])
        connection.execute(delete(s).where(self._of(s, key)))
        return int(connection.execute(delete(e).where(self._of(e, key))).rowcount)

    def redact(
        self, connection: Connection, position: int, key: StreamKey, data: str, type_version: int
    ) -> bool:
        """Put other data in the place of an event's; tell whether it was there.

        The stream's snapshot goes, if it was made of that event.
        """
        e, s = self._events, self._snapshots
        mine = and_(self._of(e, key), e.c.seq == position)
        version = connection.execute(select(e.c.version).where(mine)).scalar()
        if version is None:
            return False
        connection.execute(
            update(e).where(mine).values(data=self._json(data), type_version=type_version)
        )
        connection.execute(delete(s).where(and_(self._of(s, key), s.c.version >= version)))
        self._forget_letters(connection, [position])
        return True

    def names(self, connection: Connection, limit: int, **having: Optional[str]) -> List[Any]:
        """Return key and version of streams, by tenant and category, if these are given."""
        t = self._streams
        wanted = [t.c[name] == value for name, value in having.items() if value is not None]
        found = connection.execute(
            select(t.c.tenant, t.c.category, t.c.name, t.c.version)
            .where(and_(True, *wanted))
            .order_by(t.c.tenant, t.c.category, t.c.name)
            .limit(limit)
        )
        return [(StreamKey(*row[:3]), row[3]) for row in map(tuple, found)]

    # Inside.

    def _of(self, table: Table, key: StreamKey) -> Any:
        return and_(*(table.c[name] == value for name, value in key._asdict().items()))

    def _xid(self, events: Table) -> Any:
        """Return SQL for the number of the transaction that has written an event."""
        raise NotImplementedError

    def _json(self, text: str) -> Any:
        """Return a JSON text for a column of the tables."""
        raise NotImplementedError

    def _forget_letters(self, connection: Connection, positions: List[int]) -> None:
        """Delete the dead letters of events: they keep a copy. The log has the same positions."""
        dead = self._tables.dead
        for first in range(0, len(positions), 500):
            found = connection.execute(
                select(dead.c.id, dead.c.event).where(
                    dead.c.seq.in_(positions[first : first + 500])
                )
            ).fetchall()
            ids = [id for id, event in found if _is_of_stream(event)]
            connection.execute(delete(dead).where(dead.c.id.in_(ids)))


def _is_of_stream(event: str) -> bool:
    row = json.loads(event)
    return str(row[TOPIC]).startswith(STREAM)


@functools.lru_cache(maxsize=1024)
def _topic(tenant: str, category: str, type: str) -> str:
    return STREAM + json.dumps([tenant, category, type], ensure_ascii=False)


def stored_row(key: StreamKey, event: WrittenEvent, appended: Appended) -> LogRow:
    """Return an event as a row of the log, as groups read it."""
    topic = _topic(key.tenant, key.category, event.type)
    envelope = (
        f'{{"stream":{json.dumps(key.name)},"version":{appended.version},'
        f'"type_version":{event.type_version},"metadata":{event.metadata or "null"}}}'
    )
    position, transaction, at, _, context = appended
    return position, transaction, at, topic, STORED, envelope, event.data, context
