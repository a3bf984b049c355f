"""The log on PostgreSQL as groups read it: a stored cursor is a snapshot, too.

The transaction that moves a cursor writes nothing to the log: its own number
is not in progress in its own snapshot, and would count as seen.
"""

import contextlib
import json
from typing import Any, Dict, Iterable, Iterator, List, Optional, Tuple

import psycopg2
from psycopg2.extensions import TRANSACTION_STATUS_INERROR, encodings
from sqlalchemy import event, literal_column
from sqlalchemy.engine import Connection

from ..channels.names import split
from ..database.grouplog import Captured, GroupLog, backfill_topic
from ..database.notes import note_topics
from ..database.relation import Relation
from ..errors import Denied, Unavailable
from ..events.logrow import POSITION, STORED, STREAM, TOPIC, LogRow
from ..streams.selection import selections
from ..tables import Tables
from . import pages
from .address import Address
from .catalog import MARKS, quoted
from .connection import engine, info, session_of
from .cursor import FRESH, NOTHING, Cursor, all_fresh, first_fresh, page_of
from .snapshot import Snapshot
from .translation import translated

LOCK_TIMEOUT = 10000  # milliseconds; a session that holds one for longer is gone, or stuck
STALE = 1000  # transactions that a cursor may fall behind before an empty read moves it

_COLUMNS = "seq, xid::text, at, topic, operation, old::text, new::text, context"

#: See log.py for why these are as they are. One statement, one snapshot.
_FRESH = """
WITH fresh AS MATERIALIZED ({fresh}
), bulk AS (
    SELECT {too_large} AS large
)
SELECT pg_current_snapshot()::text, bulk.large, {columns}
  FROM bulk LEFT JOIN fresh ON NOT bulk.large
 ORDER BY seq
"""

_WANTED = "(topic = ANY (%(topics)s) OR topic ^@ ANY (%(prefixes)s::text[]))"

_IN_BACKFILL = "xid = %(xid)s::xid8 AND seq > %(position)s"

_BEHIND = """
SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - min(at)), 0)::float8
  FROM {log}
 WHERE {wanted} AND seq <= %(last)s
   AND {fresh}
"""

#: Misled by old statistics, the planner would read or sort the whole log, or all leases, each time.
#: Starting parallel workers takes longer than reading one.
_PLANNER = """
SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off;
SET LOCAL jit = off; SET LOCAL max_parallel_workers_per_gather = 0;
SET LOCAL plan_cache_mode = force_generic_plan
"""

#: As functions.sql pins them: see there.
_SETTINGS = """
SET LOCAL timezone = 'UTC'; SET LOCAL datestyle = 'ISO, YMD'; SET LOCAL intervalstyle = 'postgres';
SET LOCAL extra_float_digits = 1; SET LOCAL bytea_output = 'hex'; SET LOCAL lc_monetary = 'C'
"""


class PostgresGroupLog(GroupLog):
    """The log of one database, on a pool of our own."""

    now = literal_column("extract(epoch FROM clock_timestamp())::float8")

    def __init__(self, address: Address, tables: Tables, marks: Dict[str, Any]) -> None:
        self._marks = marks
        self._schema = tables.schema
        self._log = tables.name("log")
        self._notes = tables.name("retention")
        self._tables = tables
        self._read_from(self._log, self._log, _WANTED)
        self._engine = engine(
            address,
            settings={"lock_timeout": str(LOCK_TIMEOUT)},
            isolation_level="READ COMMITTED",
            pool_size=2,
            max_overflow=100,
        )
        event.listen(self._engine, "connect", _prepare)
        # A pool of their own: psycopg2 asks the server to switch from one mode to the other.
        self._alone = engine(
            address,
            settings={"lock_timeout": str(LOCK_TIMEOUT)},
            autocommit=True,
            pool_reset_on_return=None,  # there is nothing to roll back
            pool_size=1,
            max_overflow=100,
        )

    def _read_from(self, table: str, source: str, wanted: str) -> None:
        """Make the SQL that reads a table: ``source`` gives its rows the log's columns."""
        self._table, self._source = table, source
        self._fresh_sql = _FRESH.format(
            fresh=all_fresh(source, pages.COLUMNS, wanted, "%(rows)s"),
            too_large=pages.too_large("%(rows)s"),
            columns=_COLUMNS,
        )
        self._first_sql = first_fresh(table)
        self._behind_sql = _BEHIND.format(log=source, wanted=wanted, fresh=FRESH)
        self._page_sql, self._backfill_sql = (
            f"SELECT {_COLUMNS} FROM ({pages.page(source, condition, '%(rows)s')}) page"
            " ORDER BY seq"
            for condition in (page_of(wanted), _IN_BACKFILL)
        )

    def streams(self) -> GroupLog:
        return PostgresStreamLog(self)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Connection]:
        with translated(), self._engine.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def alone(self) -> Iterator[Any]:
        """Give a session of the pool in which each statement commits itself."""
        with translated():
            pooled = self._alone.raw_connection()
            session = session_of(pooled)
            try:
                yield session
            except psycopg2.Error as error:
                if session.closed:
                    pooled.invalidate(error)
                raise
            finally:
                pooled.close()

    def prepare_claim(self, connection: Connection) -> None:
        connection.exec_driver_sql(_PLANNER)

    @contextlib.contextmanager
    def lent(self, connection: Connection) -> Iterator[None]:
        session = session_of(connection.connection)
        with session.lent():
            # What SQLAlchemy takes for the schema of tables without one, when it reflects.
            connection.dialect.default_schema_name = session.default_schema
            yield

    def aborted(self, connection: Connection) -> bool:
        return bool(info(connection.connection).transaction_status == TRANSACTION_STATUS_INERROR)

    def encoding(self, connection: Connection) -> str:
        name = info(connection.connection).parameter_status("server_encoding")
        return encodings.get(name, "ascii")

    def dispose(self, close: bool = True) -> None:
        if close:  # psycopg2 itself leaves alone what another process has connected
            self._engine.dispose()
            self._alone.dispose()

    def cursor(self, connection: Connection, start: str) -> str:
        if start == "now":
            return self._now(connection).text
        return Cursor(NOTHING, self._snapshot(connection)).text

    def backfill(
        self, connection: Connection, name: str, tables: List[Captured]
    ) -> Tuple[str, int]:
        # One snapshot for all tables. It comes before this transaction's own
        # number, so its rows are new to it; and so is all that others commit
        # meanwhile, which has to come after them, whatever its number in the log.
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        self._hold(connection, [relation for relation, _ in tables])
        cursor = self._now(connection)
        connection.exec_driver_sql(_SETTINGS)
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")  # a table may be large
        # An error, where rows are hidden from us, and not a copy of some of them.
        connection.exec_driver_sql("SET LOCAL row_security = off")
        count = 0
        for relation, columns in tables:
            self._refuse_hidden(connection, relation)
            table = quoted(relation.schema, relation.name)
            row = self._row_sql(connection, relation, include=columns)
            key = self._row_sql(connection, relation, keys=True)
            sql = f"SELECT %s, 'read', coalesce({row}, {key}) FROM {table} r".replace("%", "%%")
            count += connection.exec_driver_sql(
                f"INSERT INTO {self._log} (topic, operation, new) " + sql.replace("%%s", "%s", 1),
                (backfill_topic(name, relation.topic),),
            ).rowcount
        xid = int(self._one(connection, "SELECT pg_current_xact_id()::text"))
        return cursor._replace(backfill=xid).text, count

    def _refuse_hidden(self, connection: Connection, relation: Any) -> None:
        sql = "SELECT row_security_active(%(oid)s::oid), current_user"
        hidden, user = self._all(connection, sql, oid=relation.oid)[0]
        if hidden:
            raise Denied(
                f"a backfill of {relation.topic} would take only the rows that row-level security"
                f" shows to the role {user!r}: give it BYPASSRLS; or, if it owns the table, ALTER"
                " TABLE … NO FORCE ROW LEVEL SECURITY; or let the group begin without a backfill"
            )

    def _hold(self, connection: Connection, relations: List[Relation]) -> None:
        """Keep tables as they are until the transaction ends. Raises Unavailable for another.

        A snapshot that is older than the lock would show columns that may be of another
        type by now, whose cast would run with our rights; and so would the functions of a
        view that has taken a table's name.
        """
        for relation in relations:
            name = quoted(relation.schema, relation.name).replace("%", "%%")
            connection.exec_driver_sql(f"LOCK TABLE {name} IN ACCESS SHARE MODE", {})
        for relation in relations:
            found = self._one(
                connection,
                "SELECT c.oid::int8 FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
                " WHERE nspname = %(schema)s AND relname = %(name)s AND relkind IN ('r', 'p')",
                schema=relation.schema,
                name=relation.name,
            )
            if found != relation.oid:
                raise Unavailable(f"{relation.topic} was created again at this moment")

    def cursor_at(self, connection: Connection, seconds: float) -> str:
        first = self._one(
            connection,
            f"SELECT min(seq) FROM {self._table} WHERE at >= to_timestamp(%(seconds)s)",
            seconds=seconds,
        )
        if first is None:
            return self._now(connection).text
        return self.cursor_before(connection, first)

    def cursor_before(self, connection: Connection, position: int) -> str:
        return Cursor(NOTHING, self._snapshot(connection), position - 1).text

    def cursor_within(self, before: str, behind: str, position: int) -> str:
        start, end = Cursor.parse(before), Cursor.parse(behind)
        if end.upto is None:  # all that is visible now was read at once
            start = start if start.upto is None else start.behind_pages()
            end = start._replace(upto=end.since)
        return end.behind(position).text

    def read(
        self, connection: Connection, cursor: str, topics: List[str], limit: int
    ) -> Tuple[List[LogRow], str]:
        given = {**self._given(topics), "rows": limit}
        rows, behind = self._read(connection, Cursor.parse(cursor), given)
        self._look_at_marks(connection, topics if rows else ())
        return rows, behind.text

    def _read(
        self, connection: Connection, cursor: Cursor, given: Dict[str, Any]
    ) -> Tuple[List[LogRow], Cursor]:
        if cursor.backfill is not None:
            rows = self._page(
                connection, self._backfill_sql, cursor, xid=str(cursor.backfill), **given
            )
            if rows:
                return rows, cursor.behind(rows[-1][POSITION])
            cursor = cursor.behind_backfill()
        if cursor.upto is not None:
            rows = self._page(connection, self._page_sql, cursor, **given)
            if rows:
                return rows, cursor.behind(rows[-1][POSITION])
            cursor = cursor.behind_pages()
        return self._fresh(connection, cursor, given)

    def rows(self, connection: Connection, positions: List[int]) -> List[LogRow]:
        sql = f"SELECT {_COLUMNS} FROM {self._source} WHERE seq = ANY (%(positions)s) ORDER BY seq"
        rows = self._all(connection, sql, positions=list(positions))
        self._look_at_marks(connection, [row[TOPIC] for row in rows])
        return rows

    def _look_at_marks(self, connection: Connection, topics: Iterable[str]) -> None:
        """Note how the tables of rows that were read just now look."""
        known = [topic for topic in set(topics) if topic in self._marks]
        if known:
            sql = "EXECUTE pgevents_marks (%(topics)s)"
            self._marks.update(self._all(connection, sql, topics=known))

    def missed(self, connection: Connection, cursor: str) -> Optional[str]:
        cleaned: Optional[str] = self._one(
            connection, f"SELECT upto FROM {self._notes} WHERE forced"
        )
        if cleaned is None:
            return None
        read = Cursor.parse(cursor).all_read
        return None if read.covers(Snapshot.parse(cleaned)) else cleaned

    def lag(
        self, connection: Connection, cursor: str, topics: List[str], last: int
    ) -> Tuple[int, float]:
        given = {**self._given(topics), "last": last}
        values = Cursor.parse(cursor).values
        count, age = self._all(connection, self._behind_sql, **values, **given)[0]
        return int(count), float(age)

    def last(self, connection: Connection) -> int:
        return int(self._one(connection, f"SELECT max(seq) FROM {self._table}") or 0)

    def age(self, connection: Connection, position: int) -> float:
        sql = f"SELECT extract(epoch FROM clock_timestamp() - at)::float8 FROM {self._table}"
        sql += " WHERE seq = %(position)s"
        return float(self._one(connection, sql, position=position) or 0.0)

    def alive(self, connection: Connection, owner: str) -> bool:
        # Its listening session holds this lock for as long as it lives.
        lock = f"('{self._log}'::regclass::oid::int4, {int(owner.rpartition(':')[2])})"
        return bool(
            self._one(
                connection,
                f"SELECT CASE WHEN pg_try_advisory_lock{lock}"
                f" THEN NOT pg_advisory_unlock{lock} ELSE true END",
            )
        )

    def _given(self, topics: List[str]) -> Dict[str, Any]:
        """Return the values of _WANTED for a group's topics."""
        exact, prefixes = split(topics)
        return {"topics": exact + note_topics(exact), "prefixes": prefixes}

    def _row_sql(self, connection: Connection, relation: Any, **spec: Any) -> str:
        """Return SQL for the JSON of a row r, as the triggers make it: it must not fail, either."""
        function = f"{self._schema}.row_sql(%(oid)s, %(wish)s)"
        values = {"oid": relation.oid, "wish": json.dumps(spec, ensure_ascii=False)}
        return str(self._one(connection, f"SELECT {function}", **values))

    def _fresh(
        self, connection: Connection, cursor: Cursor, given: Dict[str, Any]
    ) -> Tuple[List[LogRow], Cursor]:
        found = self._all(connection, self._fresh_sql, **cursor.values, **given)
        now, large = Snapshot.parse(found[0][0]), found[0][1]
        if large:
            values = {**cursor.values, "upto": now.text}
            first = self._one(connection, self._first_sql, **values)
            if first is None:  # cleaned away meanwhile
                return [], cursor.behind_all(now)
            paged = cursor.in_pages(now, first)
            page = self._page(connection, self._page_sql, paged, **given)
            return page, paged.behind(page[-1][POSITION]) if page else cursor.behind_all(now)
        if found[0][2] is None:
            # A write only to move past what others wrote: not for each transaction.
            far = now.xmax - cursor.since.xmax > STALE
            return [], cursor.behind_all(now) if far else cursor
        page = [row[2:] for row in found]
        return page, cursor.behind_all(now, page[-1][POSITION])

    def _page(
        self, connection: Connection, sql: str, cursor: Cursor, **values: Any
    ) -> List[LogRow]:
        return self._all(connection, sql, **cursor.values, **values)

    def _now(self, connection: Connection) -> Cursor:
        """Return a cursor behind all that is committed now."""
        last = self.last(connection)
        return Cursor(self._snapshot(connection), None, last)

    def _snapshot(self, connection: Connection) -> Snapshot:
        return Snapshot.parse(self._one(connection, "SELECT pg_current_snapshot()::text"))

    def _all(self, connection: Connection, sql: str, **values: Any) -> List[Any]:
        found = (
            connection.exec_driver_sql(sql, values) if values else connection.exec_driver_sql(sql)
        )
        return [tuple(row) for row in found.fetchall()]

    def _one(self, connection: Connection, sql: str, **values: Any) -> Any:
        rows = self._all(connection, sql, **values)
        return rows[0][0] if rows else None


#: The events of streams, with the columns of the log.
_EVENTS = f"""(
    SELECT seq, xid, at, '{STREAM}' || json_build_array(tenant, category, type)::text AS topic,
           '{STORED}'::text AS operation,
           json_build_object('stream', name, 'version', version, 'type_version', type_version,
                             'metadata', metadata) AS old,
           data AS new, context, tenant, category, type
      FROM {{events}}) e"""

#: Not EXISTS, which the planner would make a join of.
_WANTED_EVENTS = """
    (SELECT bool_or((w.tenant IS NULL OR w.tenant = e.tenant)
                    AND (w.category IS NULL OR w.category = e.category)
                    AND (w.type IS NULL OR w.type = e.type))
       FROM unnest(%(tenants)s::text[], %(categories)s::text[], %(types)s::text[])
            w (tenant, category, type))"""


class PostgresStreamLog(PostgresGroupLog):
    """The table of the streams' events, read as the log is; it is never cleaned."""

    looks_first = True

    def __init__(self, log: PostgresGroupLog) -> None:
        self.__dict__.update(log.__dict__)  # the pool, and all that belongs to it
        events = self._tables.name("events")
        self._read_from(events, _EVENTS.format(events=events), _WANTED_EVENTS)

    def missed(self, connection: Connection, cursor: str) -> Optional[str]:
        return None

    def _given(self, topics: List[str]) -> Dict[str, Any]:
        parts = list(zip(*selections(topics))) or [(), (), ()]
        return dict(zip(("tenants", "categories", "types"), map(list, parts)))

    def _look_at_marks(self, connection: Connection, topics: Iterable[str]) -> None:
        """The events' types do not change as a table's columns do."""


def _prepare(connection: Any, _: Any) -> None:
    # Planning it takes longer than running it.
    with connection.cursor() as cursor:
        cursor.execute("PREPARE pgevents_marks (text[]) AS " + MARKS.format(topics="$1"))
    connection.commit()
