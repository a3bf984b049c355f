"""The log on SQLite as groups read it: a stored cursor is a number."""

import contextlib
import datetime
import json
import os
import socket
import threading
import time
import weakref
from typing import Any, Callable, ContextManager, Iterator, List, Optional, Tuple

from sqlalchemy import create_engine, literal_column
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from ..channels.names import split
from ..database.grouplog import Captured, GroupLog, Result, backfill_topic
from ..errors import Unavailable
from ..events.logrow import POSITION, STORED, STREAM, LogRow
from ..streams.selection import selections
from ..tables import Tables
from ..threads import Gate
from ..warnings import Warnings
from .catalog import quoted
from .connection import connect, identity, translated, translation
from .courtesy import PATIENCE, Courtesy
from .marks import Marks
from .pages import COLUMNS, first_page
from .values import expression

STALE = 1000  # rows that a cursor may fall behind before an empty read moves it

_SECONDS = "((julianday({}) - 2440587.5) * 86400.0)"


class _Disturbed(Exception):
    """Somebody has begun to read, and could not write after our commit."""


class SqliteGroupLog(GroupLog):
    """The log of one file, on a pool of our own."""

    now = literal_column(_SECONDS.format("'now'"))
    one_writer = looks_first = True

    def __init__(
        self, path: str, tables: Tables, gate: Gate, warnings: Warnings, marks: Marks
    ) -> None:
        self._marks = marks
        self._log = self._table = self._source = tables.name("log")
        self._tables = tables
        self._notes = tables.name("retention")
        self._gate = gate
        self._path = path
        self._file = identity(path)  # that the pool's connections have open
        self._courtesy = Courtesy(path, warnings)
        # The threads of one process take turns: waiting for SQLite's own lock is slower.
        self._turn = threading.RLock()
        self._engine = create_engine(
            "sqlite://",
            creator=lambda: connect(path),
            poolclass=QueuePool,
            pool_size=2,
            max_overflow=100,
        )
        # A hub that was only asked about its groups is never stopped.
        weakref.finalize(self, self._engine.dispose).atexit = False

    def place(self) -> Any:
        return identity(self._path)

    def streams(self) -> GroupLog:
        return SqliteStreamLog(self)

    def transaction(self) -> ContextManager[Connection]:
        # Others may read meanwhile: a listener may take its time.
        return self._transaction(lambda raw: self._courtesy.begin(raw, brief=False))

    def write(self, write: Callable[[Connection], Result]) -> Result:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                with self._transaction(lambda raw: self._courtesy.begin(raw, brief=True)) as own:
                    result = write(own)
                    if time.monotonic() < deadline and self._courtesy.disturbs():
                        raise _Disturbed()
                    return result
            except _Disturbed:
                pass

    def reading(self) -> ContextManager[Connection]:
        return self._transaction(lambda raw: raw.execute("BEGIN"))

    @contextlib.contextmanager
    def _transaction(self, begin: Callable[[Any], Any]) -> Iterator[Connection]:
        try:
            with self._gate, self._turn, translated():
                self._leave_former()
                with self._engine.begin() as connection:
                    # That it writes is said at once: one that has read may not be let write.
                    begin(connection.connection)
                    if identity(self._path) != self._file:
                        raise Unavailable("the SQLite file was replaced")
                    yield connection
        except DBAPIError as error:
            raise translation(error.orig) from error

    def _leave_former(self) -> None:
        """Close what is open of a file that was replaced or deleted: it would be read for ever."""
        file = identity(self._path)
        if file != self._file:
            self._engine.dispose()
            self._marks.forget()
            self._file = file

    def dispose(self, close: bool = True) -> None:
        # In a child, too: they were idle when it was forked.
        self._engine.dispose()

    def cursor(self, connection: Connection, start: str) -> str:
        return str(self.last(connection)) if start == "now" else "0"

    def backfill(
        self, connection: Connection, name: str, tables: List[Captured]
    ) -> Tuple[str, int]:
        # Nobody else writes meanwhile, so the order of the numbers will do.
        cursor, count = str(self.last(connection)), 0
        for relation, columns in tables:
            new = expression("r", {column: quoted(column) for column in columns})
            count += connection.exec_driver_sql(
                f"INSERT INTO {self._log} (topic, operation, new)"
                f" SELECT ?, 'read', {new} FROM {quoted(relation.name)} r",
                (backfill_topic(name, relation.topic),),
            ).rowcount
        return cursor, count

    def cursor_at(self, connection: Connection, seconds: float) -> str:
        # As the log writes times, with milliseconds: julianday() is less exact.
        time = datetime.datetime.fromtimestamp(round(seconds, 3), datetime.timezone.utc)
        text = time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        first = self._one(connection, f"SELECT min(seq) FROM {self._table} WHERE at >= ?", text)
        return str(self.last(connection) if first is None else first - 1)

    def cursor_before(self, connection: Connection, position: int) -> str:
        return str(min(position - 1, self.last(connection)))

    def cursor_within(self, before: str, behind: str, position: int) -> str:
        return str(position)

    def read(
        self, connection: Connection, cursor: str, topics: List[str], limit: int
    ) -> Tuple[List[LogRow], str]:
        wanted, values = self._wanted(topics)
        found = connection.exec_driver_sql(
            f"SELECT {COLUMNS} FROM {self._source} WHERE seq > ? AND {wanted} ORDER BY seq LIMIT ?",
            (int(cursor), *values, limit),
        )
        rows, _ = first_page(found)
        found.close()
        if rows:
            self._look_at_marks(connection, rows)
            return rows, str(rows[-1][POSITION])
        # A write only to move past what others wrote: not for each transaction.
        last = self.last(connection)
        return [], str(last) if last - int(cursor) > STALE else cursor

    def rows(self, connection: Connection, positions: List[int]) -> List[LogRow]:
        found = connection.exec_driver_sql(
            f"SELECT {COLUMNS} FROM {self._source}"
            " WHERE seq IN (SELECT value FROM json_each(?)) ORDER BY seq",
            (json.dumps(list(positions)),),
        )
        rows = [tuple(row) for row in found.fetchall()]
        self._look_at_marks(connection, rows)
        return rows

    def _look_at_marks(self, connection: Connection, rows: List[LogRow]) -> None:
        """Note how the tables of rows that were read just now look."""
        last = rows[-1][POSITION] if rows else 0
        self._marks.look(lambda sql: list(connection.exec_driver_sql(sql).fetchall()), last)

    def missed(self, connection: Connection, cursor: str) -> Optional[str]:
        cleaned = self._one(connection, f"SELECT max(upto) FROM {self._notes} WHERE forced")
        return str(cleaned) if cleaned is not None and cleaned > int(cursor) else None

    def lag(
        self, connection: Connection, cursor: str, topics: List[str], last: int
    ) -> Tuple[int, float]:
        wanted, values = self._wanted(topics)
        now, at = _SECONDS.format("'now'"), _SECONDS.format("min(at)")
        row = connection.exec_driver_sql(
            f"SELECT count(*), coalesce({now} - {at}, 0.0) FROM {self._source}"
            f" WHERE seq > ? AND seq <= ? AND {wanted}",
            (int(cursor), last, *values),
        ).fetchone()
        assert row is not None
        return int(row[0]), float(row[1])

    def age(self, connection: Connection, position: int) -> float:
        now, at = _SECONDS.format("'now'"), _SECONDS.format("at")
        sql = f"SELECT {now} - {at} FROM {self._table} WHERE seq = ?"
        return float(self._one(connection, sql, position) or 0.0)

    def alive(self, connection: Connection, owner: str) -> bool:
        host, pid, _ = owner.rsplit(":", 2)
        if host != socket.gethostname():
            return True
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            return False
        except OSError:
            pass  # somebody else's process: it lives
        return not _ended(pid)

    def last(self, connection: Connection) -> int:
        return int(self._one(connection, f"SELECT coalesce(max(seq), 0) FROM {self._table}"))

    def _wanted(self, topics: List[str]) -> Tuple[str, List[str]]:
        """Return SQL that is true for a row of these topics and patterns, and its values."""
        exact, prefixes = split(topics)
        parts = [f"topic IN ({', '.join('?' * len(exact))})"] if exact else []
        parts += ["substr(topic, 1, length(?)) = ?"] * len(prefixes)
        values = exact + [one for prefix in prefixes for one in (prefix, prefix)]
        return f"({' OR '.join(parts)})" if parts else "0", values

    def _one(self, connection: Connection, sql: str, *values: Any) -> Any:
        row = connection.exec_driver_sql(sql, values).fetchone()
        return None if row is None else row[0]


#: The events of streams, with the columns of the log.
_EVENTS = f"""(
    SELECT seq, at, '{STREAM}' || json_array(tenant, category, type) AS topic,
           '{STORED}' AS operation,
           json_object('stream', name, 'version', version, 'type_version', type_version,
                       'metadata', json(metadata)) AS old,
           data AS new, context, tenant, category, type
      FROM {{events}})"""


class SqliteStreamLog(SqliteGroupLog):
    """The table of the streams' events, read as the log is; it is never cleaned."""

    def __init__(self, log: SqliteGroupLog) -> None:
        self.__dict__.update(log.__dict__)  # the pool, and all that belongs to it
        self._table = self._tables.name("events")
        self._source = _EVENTS.format(events=self._table)

    def missed(self, connection: Connection, cursor: str) -> Optional[str]:
        return None

    def _wanted(self, topics: List[str]) -> Tuple[str, List[str]]:
        parts, values = [], []
        for selection in selections(topics):
            given = [(name, one) for name, one in selection._asdict().items() if one is not None]
            parts.append(" AND ".join(f"{name} = ?" for name, _ in given) or "1")
            values += [one for _, one in given]
        return f"({' OR '.join(f'({part})' for part in parts)})" if parts else "0", values

    def _look_at_marks(self, connection: Connection, rows: List[LogRow]) -> None:
        """The events' types do not change as a table's columns do."""


def _ended(pid: str) -> bool:
    """Return whether a process has ended, though its parent has not asked how: on Linux alone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] in ("Z", "X")
    except OSError:
        return False
