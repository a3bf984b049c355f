"""Housekeeping on SQLite: old log rows go, a few at a time, so that writers hardly wait."""

import sqlite3

from ..database.grouplog import BACKFILL_SQL
from ..events.logrow import MESSAGE
from ..tables import Tables
from .connection import writing

BATCH = 1000  # rows deleted in one transaction
NOTES = 20  # notes that one retention time is divided into


def clean(connection: sqlite3.Connection, tables: Tables, retention: float, groups: float) -> int:
    """Note down how far the log is; delete what was there ``retention`` seconds ago.

    What a group has not passed, has taken, or has given up, stays for
    ``groups`` seconds.
    """
    log, notes = tables.name("log"), tables.name("retention")
    if not _note_due(connection, notes, retention):
        return 0  # this process, or another, was here a moment ago
    with writing(connection):
        connection.execute(f"INSERT INTO {notes} (upto) SELECT coalesce(max(seq), 0) FROM {log}")
        connection.execute(
            f"DELETE FROM {notes} WHERE NOT cleaned AND NOT forced AND at < {_ago(groups * 2)}"
        )
    deleted = _delete(connection, tables, retention, "cleaned", _free(tables))
    return deleted + _delete(connection, tables, groups, "forced", "1")


def _note_due(connection: sqlite3.Connection, notes: str, retention: float) -> bool:
    found = connection.execute(
        # A note from the future is of a clock that was set back since.
        f"SELECT 1 FROM {notes} WHERE at > {_ago(retention / NOTES)} AND at <= {_ago(0)}"
    ).fetchone()
    return found is None


def _delete(
    connection: sqlite3.Connection, tables: Tables, age: float, mark: str, condition: str
) -> int:
    """Delete what the newest note of this age knows of, and mark that note."""
    notes = tables.name("retention")
    upto = connection.execute(f"SELECT max(upto) FROM {notes} WHERE at <= {_ago(age)}").fetchone()[
        0
    ]
    deleted = 0
    while upto is not None:
        batch = _delete_batch(connection, tables, int(upto), mark, condition)
        deleted += batch
        if batch < BATCH:
            break
    return deleted


def _delete_batch(
    connection: sqlite3.Connection, tables: Tables, upto: int, mark: str, condition: str
) -> int:
    log, notes = tables.name("log"), tables.name("retention")
    with writing(connection):
        cursor = connection.execute(
            f"DELETE FROM {log} WHERE seq IN (SELECT seq FROM {log} l"
            f" WHERE seq <= ? AND {condition} ORDER BY seq LIMIT ?)",
            (upto, BATCH),
        )
        if cursor.rowcount:
            connection.execute(
                f"UPDATE {notes} SET {mark} = (upto = ?) WHERE {mark} OR upto = ?", (upto, upto)
            )
        return cursor.rowcount


def _free(tables: Tables) -> str:
    """Return SQL that is true for a log row ``l`` that no group needs any more."""
    groups, leases, dead = (tables.name(table) for table in ("groups", "leases", "dead"))
    return f"""NOT EXISTS (
        SELECT 1 FROM {groups} g, json_each(g.definition, '$.topics') t
         WHERE (l.topic IN (t.key, {BACKFILL_SQL} || t.key,
                            'backfill:' || g.name || ':' || t.key)
                OR t.key LIKE '{MESSAGE}%*'
                   AND substr(l.topic, 1, length(t.key) - 1) = substr(t.key, 1, length(t.key) - 1))
           AND CAST(g.cursor AS INTEGER) < l.seq)
       AND l.seq NOT IN (SELECT s.value FROM {leases}, json_each('[' || seqs || ']') s)
       AND l.seq NOT IN (SELECT seq FROM {dead})"""


def _ago(seconds: float) -> str:
    """Return SQL for a time as the log writes it; SQLite takes fractions of seconds."""
    return f"strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-{seconds:.3f} seconds')"
