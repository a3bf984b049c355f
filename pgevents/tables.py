"""Every table of pgevents, declared once.

On PostgreSQL they live in a schema of their own (``pgevents.log``), on SQLite
they bear its name (``pgevents_log``). ``install()`` creates them; an
application that wants them in its own migrations takes them from here:

    from pgevents.tables import Tables
    target_metadata = [Base.metadata, Tables("postgresql").metadata]

Where it does not, ``migrations`` keeps Alembic from dropping them.
"""

import re
from typing import Any, List

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Identity,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.dialects.postgresql import JSON, TIMESTAMP
from sqlalchemy.types import UserDefinedType

from .errors import UsageError

#: Rises when the tables or the functions change in a way that an older
#: version of pgevents must not undo.
VERSION = 2


class Xid8(UserDefinedType):  # type: ignore[type-arg]
    """PostgreSQL's 64-bit transaction number."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "xid8"


class Tables:
    """The tables of one log.

    ``dialect`` is "postgresql" or "sqlite"; ``schema`` names the log, so that
    modules of one application may each have their own: lower-case letters,
    digits and underscores, at most 40. Raises UsageError.

    log         one row for each changed row, in the transaction of the change
    watch       what each service wants captured of each table
    retention   how far the log had come at some times, and what has been cleaned
    groups      the groups of listeners, and how far each has come
    leases      what a group has taken and not finished, and what it will try again
    dead        what a group has given up
    streams     the heads of streams: how many events each has had
    events      what was appended to streams; it is never cleaned
    snapshots   what an application has made of a stream, up to one of its events
    delayed     messages that are not due yet
    ids         the ids of messages that their publishers have named, to publish them once
    settings    SQLite only: what is a setting of the session on PostgreSQL
    """

    def __init__(self, dialect: str, schema: str = "pgevents") -> None:
        if not re.fullmatch(r"[a-z_][a-z0-9_]{0,39}", str(schema)) or schema.startswith("pg_"):
            raise UsageError(
                f"schema={schema!r}: give lower-case letters, digits and underscores,"
                ' at most 40, and not "pg_" at the beginning'
            )
        self.schema = schema
        self.metadata = MetaData()
        declare = self._postgresql if dialect == "postgresql" else self._sqlite
        declare()
        self.log = self._table("log")
        self.watch = self._table("watch")
        self.retention = self._table("retention")
        self.groups = self._table("groups")
        self.leases = self._table("leases")
        self.dead = self._table("dead")
        self.streams = self._table("streams")
        self.events = self._table("events")
        self.snapshots = self._table("snapshots")
        self.delayed = self._table("delayed")
        self.ids = self._table("ids")

    def name(self, table: str) -> str:
        """The name of a table in SQL: ``pgevents.log`` or ``pgevents_log``."""
        return self._table(table).fullname

    @staticmethod
    def indexes(table: Table) -> List[Index]:
        """Return a table's indexes, always in the same order."""
        return sorted(table.indexes, key=lambda index: str(index.name))

    def owns(self, schema: str, name: str) -> bool:
        """Tell whether a table of the database is one of these."""
        return any(
            table.name == name and table.schema in (None, schema)
            for table in self.metadata.tables.values()
        )

    def _table(self, name: str) -> Table:
        for table in self.metadata.tables.values():
            if table.info["name"] == name:
                return table
        raise AssertionError(name)

    def _postgresql(self) -> None:
        now = text("clock_timestamp()")
        log = self._add(
            "log",
            [
                Column("seq", BigInteger, Identity(always=True), primary_key=True),
                Column("xid", Xid8, nullable=False, server_default=text("pg_current_xact_id()")),
                Column("at", TIMESTAMP(timezone=True), nullable=False, server_default=now),
                Column("topic", Text, nullable=False),
                Column("operation", Text, nullable=False),
                # json, not jsonb, which refuses \u0000 and reorders.
                Column("old", JSON),
                Column("new", JSON),
                # text: a setting that is no JSON must not make a write fail.
                Column("context", Text),
            ],
            schema=self.schema,
        )
        # With seq: a transaction of a million rows (a backfill) is read in pages.
        Index("log_xid", log.c.xid, log.c.seq)
        self._add("watch", self._watch_columns(), schema=self.schema)
        self._add(
            "retention",
            [
                # A publication of all tables lets no row change that has no key.
                Column("id", BigInteger, Identity(always=True), primary_key=True),
                Column("at", TIMESTAMP(timezone=True), nullable=False, server_default=now),
                Column("upto", Text, nullable=False),  # a pg_snapshot
                # What it sees is gone, but for what groups need; is gone altogether.
                Column("cleaned", Boolean, nullable=False, server_default=text("false")),
                Column("forced", Boolean, nullable=False, server_default=text("false")),
            ],
            schema=self.schema,
        )
        self._add_groups(BigInteger, schema=self.schema)
        self._add_messages(BigInteger, JSON, schema=self.schema)
        events = self._add(
            "events",
            [
                Column("seq", BigInteger, Identity(always=True), primary_key=True),
                Column("xid", Xid8, nullable=False, server_default=text("pg_current_xact_id()")),
                Column("at", TIMESTAMP(timezone=True), nullable=False, server_default=now),
                *self._event_columns(JSON),
            ],
            schema=self.schema,
        )
        Index("events_xid", events.c.xid, events.c.seq)
        self._add_streams(JSON, now, TIMESTAMP(timezone=True), schema=self.schema)

    def _sqlite(self) -> None:
        now = text("(strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))")
        self._add(
            "log",
            [
                Column("seq", Integer, primary_key=True),
                Column("at", Text, nullable=False, server_default=now),
                Column("topic", Text, nullable=False),
                Column("operation", Text, nullable=False),
                Column("old", Text),
                Column("new", Text),
                Column("context", Text),
            ],
            prefix=self.schema + "_",
            sqlite_autoincrement=True,  # numbers are never used again
        )
        self._add("watch", self._watch_columns(), prefix=self.schema + "_")
        self._add(
            "retention",
            [
                Column("at", Text, nullable=False, server_default=now),
                Column("upto", Integer, nullable=False),  # a seq
                Column("cleaned", Boolean, nullable=False, server_default=text("0")),
                Column("forced", Boolean, nullable=False, server_default=text("0")),
            ],
            prefix=self.schema + "_",
        )
        self._add_groups(Integer, prefix=self.schema + "_")
        self._add_messages(Integer, Text, prefix=self.schema + "_")
        self._add(
            "events",
            [
                Column("seq", Integer, primary_key=True),
                Column("at", Text, nullable=False, server_default=now),
                *self._event_columns(Text),
            ],
            prefix=self.schema + "_",
            sqlite_autoincrement=True,
        )
        self._add_streams(Text, now, Text, prefix=self.schema + "_")
        self._add(
            "settings",
            [Column("name", Text, primary_key=True), Column("value", Text)],
            prefix=self.schema + "_",
        )

    def _watch_columns(self) -> List[Any]:
        return [
            Column("service", Text, primary_key=True),
            Column("relation", Text, primary_key=True),
            Column("wish", Text, nullable=False),  # JSON: see database.spec
        ]

    def _add_groups(self, number: Any, prefix: str = "", **options: Any) -> None:
        """Declare what groups need. Times are seconds since 1970 by the database's clock."""
        self._add(
            "groups",
            [
                Column("name", Text, primary_key=True),
                Column("definition", Text, nullable=False),  # JSON: see runner.Options
                Column("options", Text),  # JSON: those of the process that started last
                Column("owner", Text),  # who defined it, or took something last
                Column("cursor", Text, nullable=False),  # JSON: the room's own
                Column("paused", Boolean, nullable=False, default=False),
                # JSON: {"done": how many rows were taken, "total": of how many}
                Column("backfill", Text),
            ],
            prefix=prefix,
            **options,
        )
        leases = self._add(
            "leases",
            [
                Column("id", number, primary_key=True),
                Column("group_name", Text, nullable=False),
                Column("seqs", Text, nullable=False),  # numbers of log rows, with commas
                Column("attempt", Integer, nullable=False),
                # Somebody may have handled some of it, and died of it, perhaps.
                Column("again", Boolean, nullable=False, server_default=false()),
                Column("owner", Text),  # who handles it now; NULL: it waits for its time
                Column("renewed", Float, nullable=False),  # or written
                Column("due", Float, nullable=False),  # when anybody may take it
            ],
            prefix=prefix,
            sqlite_autoincrement=True,
            **options,
        )
        # What is due is found among a hundred thousand that are not.
        Index(prefix + "leases_due", leases.c.group_name, leases.c.due, leases.c.id)
        Index(prefix + "leases_renewed", leases.c.group_name, leases.c.renewed)
        owned = leases.c.owner.isnot(None)
        Index(
            prefix + "leases_owned", leases.c.group_name, postgresql_where=owned, sqlite_where=owned
        )
        self._add(
            "dead",
            [
                Column("id", number, primary_key=True),
                Column("group_name", Text, nullable=False, index=True),
                Column("seq", number, nullable=False),
                Column("event", Text, nullable=False),  # JSON: the log row
                Column("attempts", Integer, nullable=False),
                Column("error", Text, nullable=False),
                Column("traceback", Text, nullable=False),
                Column("at", Float, nullable=False),
            ],
            prefix=prefix,
            sqlite_autoincrement=True,
            **options,
        )

    def _add_messages(self, number: Any, json: Any, prefix: str = "", **options: Any) -> None:
        """Declare what there is of messages beside the log, with times as those of groups."""
        identity = [Identity(always=True)] if number is BigInteger else []
        delayed = self._add(
            "delayed",
            [
                # Not a sequence of its own: the functions' role would need a right on that, too.
                Column("id", number, *identity, primary_key=True),
                Column("due", Float, nullable=False),
                Column("topic", Text, nullable=False),
                Column("old", json),
                Column("new", json),
                Column("context", Text),
            ],
            prefix=prefix,
            sqlite_autoincrement=True,
            **options,
        )
        Index(prefix + "delayed_due", delayed.c.due, delayed.c.id)
        ids = self._add(
            "ids",
            [
                Column("channel", Text, primary_key=True),
                Column("id", Text, primary_key=True),
                Column("at", Float, nullable=False),
            ],
            prefix=prefix,
            **options,
        )
        Index(prefix + "ids_at", ids.c.at)

    def _event_columns(self, json: Any) -> List[Any]:
        return [
            *self._stream_key(),
            Column("version", Integer, nullable=False),
            Column("type", Text, nullable=False),
            Column("type_version", Integer, nullable=False),
            Column("data", json, nullable=False),
            Column("metadata", json),
            Column("context", Text),
            # An index for each stream's events in their order, too.
            UniqueConstraint("tenant", "category", "name", "version"),
        ]

    def _stream_key(self, primary: bool = False) -> List[Any]:
        """Return what names a stream; who has no tenants, or no categories, has one named ""."""
        return [
            Column(name, Text, nullable=False, primary_key=primary)
            for name in ("tenant", "category", "name")
        ]

    def _add_streams(
        self, json: Any, now: Any, time: Any, prefix: str = "", **options: Any
    ) -> None:
        """Declare what there is of streams beside their events."""
        self._add(
            "streams",
            [*self._stream_key(primary=True), Column("version", Integer, nullable=False)],
            prefix=prefix,
            **options,
        )
        self._add(
            "snapshots",
            [
                *self._stream_key(primary=True),
                Column("version", Integer, nullable=False),
                Column("at", time, nullable=False, server_default=now),
                Column("type", Text),  # of a state that is an object of a registered class
                Column("state", json, nullable=False),
            ],
            prefix=prefix,
            **options,
        )

    def _add(self, name: str, columns: List[Any], prefix: str = "", **options: Any) -> Table:
        return Table(prefix + name, self.metadata, *columns, info={"name": name}, **options)
