"""The log on PostgreSQL as groups read it: a stored cursor is a snapshot, too.

The transaction that moves a cursor writes nothing to the log: its own number
is not in progress in its own snapshot, and would count as seen.
"""

import contextlib
import json
from typing import Any, Dict, Iterable, Iterator, List, Optional, Tuple

from psycopg2.extensions import TRANSACTION_STATUS_INERROR, encodings
from sqlalchemy import event, literal_column
from sqlalchemy.engine import Connection

from ..database.grouplog import Captured, GroupLog, backfill_topic
from ..database.notes import note_topics
from ..database.relation import Relation
from ..errors import Denied, Unavailable
from ..events.logrow import POSITION, TOPIC, LogRow
from ..tables import Tables
from . import pages
from .address import Address
from .catalog import MARKS, quoted
from .connection import engine, info, session_of
from .log import FIRST
from .snapshot import Cursor, Snapshot
from .translation import translated

LOCK_TIMEOUT = 10000  # milliseconds; a session that holds one for longer is gone, or stuck
STALE = 1000  # transactions that a cursor may fall behind before an empty read moves it

_COLUMNS = "seq, xid::text, at, topic, operation, old::text, new::text, context"

#: See log.py for why these are as they are. One statement, one snapshot.
_FRESH = """
WITH fresh AS MATERIALIZED (
    (SELECT seq, xid, at, topic, operation, old, new, context FROM {log}
      WHERE xid >= %(xmax)s::xid8 AND topic = ANY (%(topics)s) LIMIT %(rows)s + 1)
    UNION ALL
    (SELECT seq, xid, at, topic, operation, old, new, context FROM {log}
      WHERE xid = ANY (%(xip)s::xid8[]) AND topic = ANY (%(topics)s) LIMIT %(rows)s + 1)
), bulk AS (
    SELECT {too_large} AS large
)
SELECT pg_current_snapshot()::text, bulk.large, {columns}
  FROM bulk LEFT JOIN fresh ON NOT bulk.large
 ORDER BY seq
"""

_IN_PAGE = """seq > %(seq)s AND topic = ANY (%(topics)s)
          AND NOT pg_visible_in_snapshot(xid, %(since)s::pg_snapshot)
          AND pg_visible_in_snapshot(xid, %(upto)s::pg_snapshot)"""

_IN_BACKFILL = "xid = %(xid)s::xid8 AND seq > %(seq)s"

_BEHIND = """
SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - min(at)), 0)::float8
  FROM {log}
 WHERE topic = ANY (%(topics)s) AND seq <= %(last)s
   AND (xid >= %(xmax)s::xid8 OR xid = ANY (%(xip)s::xid8[]))
   AND NOT (seq <= %(seq)s AND pg_visible_in_snapshot(xid, %(upto)s::pg_snapshot))
"""

#: Sees nothing: all that is kept is new to it.
_NOTHING = Snapshot.parse("1:1:")


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
        self._page_sql, self._backfilled_sql = (
            f"SELECT {{columns}} FROM ({pages.page(self._log, condition, '%(rows)s')}) page"
            " ORDER BY seq"
            for condition in (_IN_PAGE, _IN_BACKFILL)
        )
        self._engine = engine(
            address,
            settings={"lock_timeout": str(LOCK_TIMEOUT)},
            isolation_level="READ COMMITTED",
            pool_size=2,
            max_overflow=100,
        )
        event.listen(self._engine, "connect", _prepare)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Connection]:
        with translated(), self._engine.begin() as connection:
            yield connection

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

    def cursor(self, connection: Connection, start: str) -> str:
        if start == "now":
            return _text(self._now(connection))
        return _text(Cursor(_NOTHING, self._snapshot(connection), 0))

    def backfill(
        self, connection: Connection, name: str, tables: List[Captured]
    ) -> Tuple[str, int]:
        # One snapshot for all tables. It comes before this transaction's own
        # number, so its rows are new to it; and so is all that others commit
        # meanwhile, which has to come after them, whatever its place in the log.
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        self._hold(connection, [relation for relation, _ in tables])
        place = self._now(connection)
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
        return _text(place, xid), count

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

        A snapshot that is older than the lock would tell of columns that may be of another
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
                raise Unavailable(f"{relation.topic} was made anew at this moment")

    def cursor_at(self, connection: Connection, seconds: float) -> str:
        first = self._one(
            connection,
            "SELECT min(seq) FROM {log} WHERE at >= to_timestamp(%(seconds)s)",
            seconds=seconds,
        )
        if first is None:
            return _text(self._now(connection))
        return self.cursor_before(connection, first)

    def cursor_before(self, connection: Connection, position: int) -> str:
        return _text(Cursor(_NOTHING, self._snapshot(connection), position - 1))

    def read(
        self, connection: Connection, cursor: str, topics: List[str], limit: int
    ) -> Tuple[List[LogRow], str]:
        topics = topics + note_topics(topics)
        rows, behind = self._read(connection, cursor, topics, limit)
        self._look_at_marks(connection, topics if rows else ())
        return rows, behind

    def _read(
        self, connection: Connection, cursor: str, topics: List[str], limit: int
    ) -> Tuple[List[LogRow], str]:
        place, backfill = _cursor(cursor), json.loads(cursor).get("backfill")
        if backfill is not None:
            rows = self._backfilled(connection, place, backfill, limit)
            if rows:
                return rows, _text(place._replace(seq=rows[-1][POSITION]), backfill)
            place = place._replace(since=place.since.and_also(backfill))
        if place.upto is not None:
            rows = self._page(connection, place, topics, limit)
            if rows:
                return rows, _text(place._replace(seq=rows[-1][POSITION]))
            place = Cursor(place.upto, None, place.seq)
        return self._fresh(connection, place, topics, limit)

    def rows(self, connection: Connection, seqs: List[int]) -> List[LogRow]:
        sql = f"SELECT {_COLUMNS} FROM {{log}} WHERE seq = ANY (%(seqs)s) ORDER BY seq"
        rows = self._all(connection, sql, seqs=list(seqs))
        self._look_at_marks(connection, [row[TOPIC] for row in rows])
        return rows

    def _look_at_marks(self, connection: Connection, topics: Iterable[str]) -> None:
        """Note how the tables of rows that were read just now look."""
        known = [topic for topic in set(topics) if topic in self._marks]
        if known:
            sql = "EXECUTE pgevents_marks (%(topics)s)"
            self._marks.update(self._all(connection, sql, topics=known))

    def missed(self, connection: Connection, cursor: str) -> Optional[str]:
        cleaned: Optional[str] = self._one(connection, "SELECT upto FROM {notes} WHERE forced")
        if cleaned is None:
            return None
        place = _cursor(cursor)
        return None if (place.upto or place.since).covers(Snapshot.parse(cleaned)) else cleaned

    def lag(
        self, connection: Connection, cursor: str, topics: List[str], last: int
    ) -> Tuple[int, float]:
        place = _cursor(cursor)
        backfill = json.loads(cursor).get("backfill")
        upto = place.upto or _NOTHING
        if backfill is not None:
            upto = place.since.and_also(backfill)
        values = {
            **_since(place.since),
            "upto": upto.text,
            "seq": place.seq,
            "topics": topics + note_topics(topics),
            "last": last,
        }
        count, age = self._all(connection, _BEHIND, **values)[0]
        return int(count), float(age)

    def last(self, connection: Connection) -> int:
        return int(self._one(connection, "SELECT max(seq) FROM {log}") or 0)

    def age(self, connection: Connection, seq: int) -> float:
        sql = "SELECT extract(epoch FROM clock_timestamp() - at)::float8 FROM {log}"
        return float(self._one(connection, sql + " WHERE seq = %(seq)s", seq=seq) or 0.0)

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

    def _row_sql(self, connection: Connection, relation: Any, **spec: Any) -> str:
        """Return SQL for the JSON of a row r, as the triggers make it: it must not fail, either."""
        function = f"{self._schema}.row_sql(%(oid)s, %(wish)s)"
        values = {"oid": relation.oid, "wish": json.dumps(spec, ensure_ascii=False)}
        return str(self._one(connection, f"SELECT {function}", **values))

    def _backfilled(
        self, connection: Connection, place: Cursor, xid: int, limit: int
    ) -> List[LogRow]:
        values = {"xid": str(xid), "seq": place.seq, "rows": limit}
        return self._all(connection, self._backfilled_sql, **values)

    def _fresh(
        self, connection: Connection, place: Cursor, topics: List[str], limit: int
    ) -> Tuple[List[LogRow], str]:
        values = {**_since(place.since), "topics": topics, "rows": limit}
        found = self._all(connection, _FRESH, **values)
        now, large = found[0][:2]
        upto = Snapshot.parse(now)
        behind = Cursor(upto, None, place.seq)
        if large:
            first = self._one(connection, FIRST, **_since(place.since), upto=now)
            paged = Cursor(place.since, upto, first - 1)
            rows = self._page(connection, paged, topics, limit)
            return rows, _text(paged._replace(seq=rows[-1][POSITION]) if rows else behind)
        rows = [row[2:] for row in found if row[2] is not None]
        if not rows:
            # A write only to move past what others wrote: not for each transaction.
            far = upto.xmax - place.since.xmax > STALE
            return [], _text(behind if far else place)
        return rows, _text(behind._replace(seq=max(place.seq, rows[-1][POSITION])))

    def _page(
        self, connection: Connection, place: Cursor, topics: List[str], limit: int
    ) -> List[LogRow]:
        assert place.upto is not None
        return self._all(
            connection,
            self._page_sql,
            seq=place.seq,
            since=place.since.text,
            upto=place.upto.text,
            topics=topics,
            rows=limit,
        )

    def _now(self, connection: Connection) -> Cursor:
        """Return a cursor behind all that is committed now."""
        last = self.last(connection)
        return Cursor(self._snapshot(connection), None, last)

    def _snapshot(self, connection: Connection) -> Snapshot:
        return Snapshot.parse(self._one(connection, "SELECT pg_current_snapshot()::text"))

    def _all(self, connection: Connection, sql: str, **values: Any) -> List[Any]:
        text = sql.format(
            log=self._log,
            notes=self._notes,
            columns=_COLUMNS,
            too_large=pages.too_large("%(rows)s"),
        )
        found = (
            connection.exec_driver_sql(text, values) if values else connection.exec_driver_sql(text)
        )
        return [tuple(row) for row in found.fetchall()]

    def _one(self, connection: Connection, sql: str, **values: Any) -> Any:
        rows = self._all(connection, sql, **values)
        return rows[0][0] if rows else None


def _prepare(connection: Any, _: Any) -> None:
    # Planning it takes longer than running it.
    with connection.cursor() as cursor:
        cursor.execute("PREPARE pgevents_marks (text[]) AS " + MARKS.format(topics="$1"))
    connection.commit()


def _since(since: Snapshot) -> Dict[str, Any]:
    return {"xmax": str(since.xmax), "xip": [str(xid) for xid in since.in_progress]}


def _text(place: Cursor, backfill: Optional[int] = None) -> str:
    """Return a cursor as it is stored; ``backfill`` is the transaction to be read first.

    ``seq`` is always there, the last number handed out: with it retention.heal()
    makes a cursor of another cluster's one.
    """
    upto = None if place.upto is None else place.upto.text
    given = {"since": place.since.text, "upto": upto, "seq": place.seq}
    return json.dumps(given if backfill is None else {**given, "backfill": backfill})


def _cursor(text: str) -> Cursor:
    given = json.loads(text)
    upto = given["upto"]
    return Cursor(
        Snapshot.parse(given["since"]), None if upto is None else Snapshot.parse(upto), given["seq"]
    )
