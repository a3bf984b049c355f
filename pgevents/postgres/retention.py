"""Housekeeping on PostgreSQL: old log rows go.

Age is not read off a row: a transaction that was open for longer than the
retention would lose its rows before anybody could see them. Instead the log's
snapshot is noted down from time to time; what a note sees that is older than
the retention has been *committed* for that long. The note is marked "cleaned"
in the transaction that deletes, so a reader sees both or neither.
"""

from typing import Any

from ..tables import Tables

BATCH = 5000  # rows deleted in one transaction
NOTES = 20  # notes that one retention time is divided into


def clean(connection: Any, tables: Tables, retention: float) -> int:
    """Note the snapshot down; delete what was committed ``retention`` seconds ago."""
    log, notes = tables.name("log"), tables.name("retention")
    lock = f"('{log}'::regclass::oid::int4, 3)"
    deleted = 0
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT pg_try_advisory_lock{lock}")
        if not cursor.fetchone()[0]:
            return 0  # another process is at it
        try:
            _take_note(cursor, notes, retention)
            while True:
                batch = _delete_batch(cursor, log, notes, retention)
                deleted += batch
                if batch < BATCH:
                    return deleted
        finally:
            if not connection.closed:
                cursor.execute(f"SELECT pg_advisory_unlock{lock}")


def heal(connection: Any, tables: Tables) -> int:
    """Make rows that come from another cluster (a restored dump) count as read; return how many.

    Their transactions' numbers lie in the future here: every reader would
    find them new, again and again. Raises psycopg2's error without the right.
    """
    log, notes = tables.name("log"), tables.name("retention")
    foreign = "xid >= pg_snapshot_xmax(pg_current_snapshot())"
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT EXISTS (SELECT FROM {log} WHERE {foreign})")
        if not cursor.fetchone()[0]:
            return 0
        cursor.execute(f"DELETE FROM {notes}")
        cursor.execute(f"UPDATE {log} SET xid = '1' WHERE {foreign}")
        return int(cursor.rowcount)


def _take_note(cursor: Any, notes: str, retention: float) -> None:
    cursor.execute(
        f"INSERT INTO {notes} (upto) SELECT pg_current_snapshot()::text"
        f" WHERE NOT EXISTS (SELECT FROM {notes}"
        "                    WHERE at > clock_timestamp() - make_interval(secs => %s))",
        (retention / NOTES,),
    )


def _delete_batch(cursor: Any, log: str, notes: str, retention: float) -> int:
    cursor.execute(
        f"SELECT upto FROM {notes} WHERE at <= clock_timestamp() - make_interval(secs => %s)"
        " ORDER BY at DESC LIMIT 1",
        (retention,),
    )
    row = cursor.fetchone()
    if row is None:
        return 0
    cursor.execute("BEGIN")
    try:
        cursor.execute(
            f"DELETE FROM {log} WHERE seq = ANY (ARRAY(SELECT seq FROM {log}"
            " WHERE pg_visible_in_snapshot(xid, %s::pg_snapshot) ORDER BY seq LIMIT %s))",
            (row[0], BATCH),
        )
        deleted = int(cursor.rowcount)
        if deleted:
            cursor.execute(
                f"DELETE FROM {notes} WHERE at < (SELECT max(at) FROM {notes} WHERE upto = %s)",
                (row[0],),
            )
            cursor.execute(f"UPDATE {notes} SET cleaned = true WHERE upto = %s", (row[0],))
        cursor.execute("COMMIT")
    except BaseException:
        cursor.execute("ROLLBACK")
        raise
    return deleted
