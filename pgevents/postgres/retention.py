"""Housekeeping on PostgreSQL: old log rows go.

Age is not read off a row: a transaction that was open for longer than the
retention would lose its rows before anybody could see them. Instead the log's
snapshot is noted down from time to time; what a note sees that is older than
the retention has been *committed* for that long. The note is marked "cleaned"
in the transaction that deletes, so a reader sees both or neither.
"""

from typing import Any

from ..grouplog import BACKFILL_SQL
from ..tables import Tables

BATCH = 5000  # rows deleted in one transaction
NOTES = 20  # notes that one retention time is divided into


def clean(connection: Any, tables: Tables, retention: float, groups: float) -> int:
    """Note the snapshot down; delete what was committed ``retention`` seconds ago.

    What a group has not passed, has taken, or has given up, stays for
    ``groups`` seconds.
    """
    log, notes = tables.name("log"), tables.name("retention")
    lock = f"('{log}'::regclass::oid::int4, 3)"
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT pg_try_advisory_lock{lock}")
        if not cursor.fetchone()[0]:
            return 0  # another process is at it
        try:
            _take_note(cursor, notes, retention)
            deleted = _delete(cursor, tables, retention, "cleaned", _free(tables))
            deleted += _delete(cursor, tables, groups, "forced", "true")
            cursor.execute(f"DELETE FROM {notes} WHERE NOT cleaned AND NOT forced AND at <"
                           " clock_timestamp() - make_interval(secs => %s)", (groups * 2,))
            return deleted
        finally:
            if not connection.closed:
                cursor.execute(f"SELECT pg_advisory_unlock{lock}")


def heal(connection: Any, tables: Tables) -> int:
    """Make use of what comes from another cluster (a restored dump); return how much that was.

    Its transactions' numbers lie in the future here. Every reader would find
    such rows new, again and again: they count as read. A group that has come
    so far would take all that is new for read: it goes on by the number of
    the row that it had last. Raises psycopg2's error without the right.
    """
    log, notes, groups = (tables.name(table) for table in ("log", "retention", "groups"))
    now = "pg_snapshot_xmax(pg_current_snapshot())"
    row = f"xid >= {now}"
    note = f"pg_snapshot_xmax(upto::pg_snapshot) > {now}"
    cursor_ = " OR ".join(
        f"pg_snapshot_xmax((cursor::json ->> '{name}')::pg_snapshot) > {now}"
        for name in ("since", "upto")
    )
    foreign = " OR ".join(
        f"EXISTS (SELECT FROM {table} WHERE {condition})"
        for table, condition in ((log, row), (notes, note), (groups, cursor_))
    )
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {foreign}")
        if not cursor.fetchone()[0]:
            return 0
        cursor.execute("BEGIN")
        try:
            # One process heals, while no group claims; then look again.
            cursor.execute(f"SELECT FROM {groups} FOR UPDATE")
            cursor.execute(f"SELECT {foreign}")
            healed = _heal(cursor, log, notes, groups, row) if cursor.fetchone()[0] else 0
            cursor.execute("COMMIT")
        except BaseException:
            cursor.execute("ROLLBACK")
            raise
        return healed


def _heal(cursor: Any, log: str, notes: str, groups: str, foreign: str) -> int:
    cursor.execute(f"DELETE FROM {notes}")
    cursor.execute(f"UPDATE {log} SET xid = '1' WHERE {foreign}")
    rows = int(cursor.rowcount)
    # All groups: to one that is not so far the rows healed just now would seem read.
    cursor.execute(
        f"UPDATE {groups} SET cursor = json_build_object('since', '1:1:',"
        " 'upto', pg_current_snapshot()::text, 'seq', cursor::json -> 'seq')::text"
    )
    return rows + int(cursor.rowcount)


def _take_note(cursor: Any, notes: str, retention: float) -> None:
    cursor.execute(
        f"INSERT INTO {notes} (upto) SELECT pg_current_snapshot()::text"
        # A note from the future is of a clock that was set back since.
        f" WHERE NOT EXISTS (SELECT FROM {notes}"
        "                    WHERE at > clock_timestamp() - make_interval(secs => %s)"
        "                      AND at <= clock_timestamp())",
        (retention / NOTES,),
    )


def _delete(cursor: Any, tables: Tables, age: float, mark: str, condition: str) -> int:
    """Delete what the newest note of this age sees, and mark that note."""
    notes = tables.name("retention")
    cursor.execute(
        f"SELECT upto FROM {notes} WHERE at <= clock_timestamp() - make_interval(secs => %s)"
        " ORDER BY at DESC LIMIT 1",
        (age,),
    )
    row = cursor.fetchone()
    deleted = 0
    while row is not None:
        batch = _delete_batch(cursor, tables, row[0], mark, condition)
        deleted += batch
        if batch < BATCH:
            break
    return deleted


def _delete_batch(cursor: Any, tables: Tables, upto: str, mark: str, condition: str) -> int:
    log, notes = tables.name("log"), tables.name("retention")
    cursor.execute("BEGIN")
    try:
        cursor.execute(
            f"DELETE FROM {log} WHERE seq = ANY (ARRAY(SELECT seq FROM {log} l"
            f" WHERE pg_visible_in_snapshot(xid, %s::pg_snapshot) AND {condition}"
            " ORDER BY seq LIMIT %s))",
            (upto, BATCH),
        )
        deleted = int(cursor.rowcount)
        if deleted:
            cursor.execute(
                f"UPDATE {notes} SET {mark} = (upto = %s) WHERE {mark} OR upto = %s", (upto, upto)
            )
        cursor.execute("COMMIT")
    except BaseException:
        cursor.execute("ROLLBACK")
        raise
    return deleted


def _free(tables: Tables) -> str:
    """Return SQL that is true for a log row ``l`` that no group needs any more."""
    groups, leases, dead = (tables.name(table) for table in ("groups", "leases", "dead"))
    return f"""NOT EXISTS (
        SELECT FROM {groups} g, LATERAL (SELECT g.cursor::json AS cursor) c
         WHERE ((g.definition::jsonb -> 'topics') ? l.topic
                OR starts_with(l.topic, {BACKFILL_SQL})
                OR starts_with(l.topic, 'backfill:' || g.name || ':'))
           AND NOT pg_visible_in_snapshot(l.xid, (c.cursor ->> 'since')::pg_snapshot)
           AND NOT coalesce(l.seq <= (c.cursor ->> 'seq')::int8 AND
                   pg_visible_in_snapshot(l.xid, (c.cursor ->> 'upto')::pg_snapshot), false))
       AND NOT EXISTS (
        SELECT FROM (SELECT unnest(string_to_array(seqs, ',')::int8[]) AS seq FROM {leases}) t
         WHERE t.seq = l.seq)
       AND NOT EXISTS (SELECT FROM {dead} d WHERE d.seq = l.seq)"""
