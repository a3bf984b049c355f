"""Writers that do whatever applications do to three tables, at random.

    items   has a key, which changes and is used again
    notes   has no key, and the same row may be there twice
    bins    has a key, and is emptied from time to time

`python -m tests.workload URL SEED SECONDS` is one writer in a process of its own.
"""

import random
import sqlite3
import sys
import time

import psycopg2
from sqlalchemy.engine import make_url

TABLES = (
    "CREATE TABLE items (id integer PRIMARY KEY, part integer, body text)",
    "CREATE TABLE notes (part integer, body text)",
    "CREATE TABLE bins (id integer PRIMARY KEY, part integer, body text)",
)
KEYS = 300  # so few that keys are used again and writers meet
LOCKED = 30  # seconds that a writer waits for another


class Writer:
    """One connection with a random generator: `work(seconds)`."""

    def __init__(self, url, seed):
        url = make_url(url)
        self._random = random.Random(seed)
        self.postgres = url.get_backend_name() == "postgresql"
        if self.postgres:
            self._connection = psycopg2.connect(
                host=url.host, port=url.port, dbname=url.database, user=url.username
            )
            self._connection.autocommit = True
            self._errors = psycopg2.Error
        else:
            self._connection = sqlite3.connect(
                url.database, timeout=LOCKED, isolation_level=None, check_same_thread=False
            )
            self._errors = sqlite3.Error
        self._cursor = self._connection.cursor()

    def work(self, seconds):
        """Do transactions until time is up, then close."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.transaction()
            # Sometimes everything is asleep for a moment.
            time.sleep(self._random.choice((0, 0, 0, 0, 0.002, 0.05)))
        self._connection.close()

    def transaction(self):
        """Do a few things, and keep them or not; commits do not come in the order of the work."""
        self.begin()
        try:
            for _ in range(self._random.choice((1, 1, 1, 2, 5))):
                self._random.choice(self._deeds())()
            time.sleep(self._random.choice((0, 0, 0, 0, 0, 0.005, 0.02)) if self.postgres else 0)
            self.end(self._random.random() < 0.8)
        except self._errors:  # a deadlock, or somebody else had the key
            self.end(False)

    def begin(self):
        self._do("BEGIN" if self.postgres else "BEGIN IMMEDIATE")

    def end(self, keep):
        try:
            self._do("COMMIT" if keep else "ROLLBACK")
        except sqlite3.Error:
            self._do("ROLLBACK")

    def insert(self, key, body):
        """A row that nobody else writes."""
        self._do("INSERT INTO items VALUES (%s, 0, %s)", key, body)
        self._do("INSERT INTO notes VALUES (0, %s)", body)

    def _deeds(self):
        return (
            self._insert,
            self._insert,
            self._upsert,
            self._bulk,
            self._update,
            self._update,
            self._nothing,
            self._key_change,
            self._delete,
            self._again,
            self._savepoint,
            self._note,
            self._note,
            self._change_notes,
            self._drop_notes,
            self._bin,
            self._empty,
        )

    def _insert(self):
        self._do("INSERT INTO items VALUES (%s, %s, %s) ON CONFLICT DO NOTHING", *self._row())

    def _upsert(self):
        self._do(
            "INSERT INTO items VALUES (%s, %s, %s)"
            " ON CONFLICT (id) DO UPDATE SET body = excluded.body",
            *self._row(),
        )

    def _bulk(self):
        first, many = self._random.randrange(KEYS), self._random.choice((5, 50, 1000))
        self._do(
            "INSERT INTO notes WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1"
            " FROM n WHERE i < %s) SELECT i %% 10, 'bulk' FROM n",
            many,
        )
        self._do(
            "INSERT INTO items WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1"
            " FROM n WHERE i < 20) SELECT %s + i, i, 'bulk' FROM n WHERE true"
            " ON CONFLICT DO NOTHING",
            first,
        )

    def _update(self):
        self._do(
            "UPDATE items SET body = %s WHERE part = %s AND id < 1000", self._body(), self._part()
        )

    def _nothing(self):
        self._do("UPDATE items SET body = body WHERE part = %s", self._part())

    def _key_change(self):
        self._do("UPDATE items SET id = %s WHERE id = %s", self._key(), self._key())

    def _delete(self):
        self._do("DELETE FROM items WHERE part = %s AND id < 1000", self._part())

    def _again(self):
        key = self._key()
        self._do("DELETE FROM items WHERE id = %s", key)
        self._do("INSERT INTO items VALUES (%s, 1, 'again')", key)

    def _savepoint(self):
        self._do("SAVEPOINT here")
        self._insert()
        self._note()
        self._do("ROLLBACK TO SAVEPOINT here")
        self._do("RELEASE SAVEPOINT here")
        self._do("SAVEPOINT there")
        self._upsert()
        self._do("RELEASE SAVEPOINT there")

    def _note(self):
        self._do("INSERT INTO notes VALUES (%s, %s)", self._part(), self._body())

    def _change_notes(self):
        self._do(
            "UPDATE notes SET body = %s WHERE part = %s AND body = %s",
            self._body(),
            self._part(),
            self._body(),
        )

    def _drop_notes(self):
        self._do("DELETE FROM notes WHERE part = %s AND part > 0", self._part())

    def _bin(self):
        self._do("INSERT INTO bins VALUES (%s, %s, %s) ON CONFLICT DO NOTHING", *self._row())

    def _empty(self):
        if self._random.random() < 0.1:
            self._do("TRUNCATE bins" if self.postgres else "DELETE FROM bins")

    def _row(self):
        return self._key(), self._part(), self._body()

    def _key(self):
        return self._random.randint(1, KEYS)

    def _part(self):
        return self._random.randint(1, 10)

    def _body(self):
        return self._random.choice("abcdefgh") * self._random.choice((1, 10, 300))

    def _do(self, sql, *params):
        if not self.postgres:
            sql = sql.replace("%%", "%").replace("%s", "?")
        self._cursor.execute(sql, params or (() if not self.postgres else None))


if __name__ == "__main__":
    Writer(sys.argv[1], sys.argv[2]).work(float(sys.argv[3]))
