"""Orders that wait for a group: the same on PostgreSQL and on SQLite."""

import contextlib
import sqlite3
from typing import Any, Iterator, List

import pgevents
from tests.servers import home

from .members import GROUP
from .server import Database

AT_ONCE = 100_000  # rows that one statement inserts


class Backlog:
    """A fresh database, a group that is paused, and the orders that wait for it."""

    url: str

    def define(self, **options: Any) -> None:
        """Make the group known; what is inserted from now on is for it."""
        registry = pgevents.Registry()
        registry.listen("orders", "after_insert", print, group=GROUP)
        hub = pgevents.Hub(self.url, registry)
        hub.group(GROUP, **options)
        with hub:
            hub.group(GROUP).pause()

    def refill(self, number: int, keep: bool = False) -> None:
        """Let so many orders wait, in one commit, and nothing else; ``keep`` what has passed."""
        group = pgevents.Hub(self.url, pgevents.Registry()).group(GROUP)
        group.pause()
        if not keep:
            self.empty()
        group.rewind("now")
        self.insert(number)

    def insert(self, number: int) -> None:
        """Insert so many orders, in commits of 100,000."""
        raise NotImplementedError

    def empty(self) -> None:
        """Forget all orders and events."""
        raise NotImplementedError

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Leave a transaction open meanwhile: one that has written, if others still may."""
        raise NotImplementedError


class PostgresBacklog(Database, Backlog):
    """On the measured server."""

    def __init__(self, server: Any) -> None:
        super().__init__(server)
        self.watch()

    def insert(self, number: int) -> None:
        for rows in _commits(number):
            self.execute(
                "INSERT INTO orders (item, price) SELECT 'book ' || n, n / 100.0"
                " FROM generate_series(1, {}) n".format(rows)
            )

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        with contextlib.closing(self.connect()) as connection:
            connection.cursor().execute("INSERT INTO orders (item, price) VALUES ('a book', 9.9)")
            yield


class SqliteBacklog(Backlog):
    """A file of its own, in WAL mode."""

    def __init__(self) -> None:
        self.path = home().directory("sqlite") / "orders.db"
        self.url = "sqlite:///{}".format(self.path)
        self._execute("PRAGMA journal_mode = WAL")
        self._execute(
            "CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT NOT NULL, price REAL NOT NULL,"
            " status TEXT NOT NULL DEFAULT 'new')"
        )

    def insert(self, number: int) -> None:
        for rows in _commits(number):
            self._execute(
                "WITH RECURSIVE numbers (n) AS"
                " (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {})"
                " INSERT INTO orders (item, price)"
                " SELECT 'book ' || n, n / 100.0 FROM numbers".format(rows)
            )

    def empty(self) -> None:
        self._execute("DELETE FROM orders")
        self._execute("DELETE FROM pgevents_log")
        self._execute("PRAGMA wal_checkpoint(TRUNCATE)")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        # One that reads: while one writes, nobody else may, on SQLite.
        with contextlib.closing(self._connect()) as connection:
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM orders").fetchone()
            yield

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(str(self.path), timeout=30, isolation_level=None)

    def _execute(self, sql: str) -> None:
        with contextlib.closing(self._connect()) as connection:
            connection.execute(sql)


def _commits(number: int) -> List[int]:
    return [min(AT_ONCE, number - done) for done in range(0, number, AT_ONCE)]
