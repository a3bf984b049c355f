"""A fresh database for one test: PostgreSQL and SQLite behind the same few methods."""

import sqlite3

import sqlalchemy

BUSY_TIMEOUT = 30  # seconds that SQLite waits for another writer


class Database:
    """What both kinds have in common; everything opened through it is closed with it."""

    kind = ""
    url = ""

    def __init__(self):
        self._opened = []

    def connect(self):
        """Open a connection of the driver, with the driver's own defaults; commit() is yours."""
        connection = self._connect()
        self._opened.append(connection.close)
        return connection

    def engine(self, **options):
        """Make an SQLAlchemy engine."""
        engine = sqlalchemy.create_engine(self.url, **options)
        self._opened.append(engine.dispose)
        return engine

    def execute(self, sql, *params):
        """Run one statement in its own transaction and return its rows; parameters are %s."""
        raise NotImplementedError

    def close(self):
        """Close what was left open and remove the database."""
        while self._opened:
            self._opened.pop()()

    def _connect(self):
        raise NotImplementedError


class Postgres(Database):
    """A database on a server; `through` a proxy it has another URL."""

    kind = "postgresql"

    def __init__(self, server, encoding="UTF8"):
        super().__init__()
        self.server = server
        self.name = server.create_database(encoding)
        self.url = server.url(self.name)

    def execute(self, sql, *params):
        return self.server.execute(sql, *params, database=self.name)

    def through(self, proxy):
        """The URL by which this database is reached through a proxy."""
        return self.server.url(self.name, port=proxy.port)

    def close(self):
        # The test may have left it stopped.
        self.server.start()
        super().close()
        self.server.drop_database(self.name)

    def _connect(self):
        return self.server.connect(self.name)


class Sqlite(Database):
    """A file of SQLite."""

    kind = "sqlite"

    def __init__(self, path):
        super().__init__()
        self.path = path
        self.url = "sqlite:///{}".format(path)

    def execute(self, sql, *params):
        if params:
            sql = sql.replace("%s", "?")
        connection = self._connect(isolation_level=None)
        try:
            connection.execute("PRAGMA synchronous = off")  # as on the servers: no fsync
            return connection.execute(sql, params).fetchall()
        finally:
            connection.close()

    def _connect(self, **options):
        # Closed by another thread than the one that used it, when a test leaves it open.
        return sqlite3.connect(
            str(self.path), timeout=BUSY_TIMEOUT, check_same_thread=False, **options
        )
