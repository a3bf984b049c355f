"""Housekeeping on SQLite: old log rows go, a few at a time, so that writers hardly wait."""

import sqlite3

from ..tables import Tables
from .connection import writing

BATCH = 1000  # rows deleted in one transaction
NOTES = 20  # notes that one retention time is divided into


def clean(connection: sqlite3.Connection, tables: Tables, retention: float) -> int:
    """Note down how far the log is; delete what was there ``retention`` seconds ago."""
    log, notes = tables.name("log"), tables.name("retention")
    if not _note_due(connection, notes, retention):
        return 0  # this process, or another, was here a moment ago
    with writing(connection):
        connection.execute(
            f"INSERT INTO {notes} (upto) SELECT coalesce(max(seq), 0) FROM {log}"
        )
    row = connection.execute(
        f"SELECT max(upto) FROM {notes} WHERE at <= {_ago(retention)}"
    ).fetchone()
    if row[0] is None:
        return 0
    deleted = 0
    while True:
        batch = _delete_batch(connection, log, notes, int(row[0]))
        deleted += batch
        if batch < BATCH:
            return deleted


def _note_due(connection: sqlite3.Connection, notes: str, retention: float) -> bool:
    found = connection.execute(
        f"SELECT 1 FROM {notes} WHERE at > {_ago(retention / NOTES)}"
    ).fetchone()
    return found is None


def _delete_batch(connection: sqlite3.Connection, log: str, notes: str, upto: int) -> int:
    with writing(connection):
        cursor = connection.execute(
            f"DELETE FROM {log} WHERE seq IN"
            f" (SELECT seq FROM {log} WHERE seq <= ? ORDER BY seq LIMIT ?)",
            (upto, BATCH),
        )
        if cursor.rowcount:
            connection.execute(f"DELETE FROM {notes} WHERE upto < ?", (upto,))
            connection.execute(f"UPDATE {notes} SET cleaned = 1 WHERE upto = ?", (upto,))
        return cursor.rowcount


def _ago(seconds: float) -> str:
    """Return SQL for a time as the log writes it; SQLite takes fractions of seconds."""
    return f"strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-{seconds:.3f} seconds')"
