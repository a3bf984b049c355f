"""What our own connections send to a database: counted, and kept to be looked at."""

import contextlib
import sqlite3
from unittest import mock

from pgevents.postgres import connection as postgres_connection
from pgevents.postgres import session

#: What only begins and ends a transaction asks for nothing.
BRACKETS = ("BEGIN", "COMMIT", "ROLLBACK")


@contextlib.contextmanager
def statements():
    """Within the block, collect what is sent from this process by our own connections."""
    sent = []
    execute, run = session.WatchedCursor.execute, postgres_connection.Listening.run
    connect = sqlite3.connect

    def counted_execute(cursor, query, vars=None):
        keep(query if isinstance(query, str) else str(query))
        return execute(cursor, query, vars)

    def counted_run(listening, sql, values, timeout):
        keep(sql)
        return run(listening, sql, values, timeout)

    def counted_connect(*args, **kwargs):
        connection = connect(*args, **kwargs)
        connection.set_trace_callback(keep)
        return connection

    def keep(sql):
        # SQLite shows also, as comments, what it asks itself for a statement of ours.
        if not sql.strip().upper().startswith(BRACKETS) and not sql.startswith("--"):
            sent.append(sql)

    with mock.patch.object(session.WatchedCursor, "execute", counted_execute):
        with mock.patch.object(postgres_connection.Listening, "run", counted_run):
            with mock.patch.object(sqlite3, "connect", counted_connect):
                yield sent
