"""Housekeeping on PostgreSQL: old log rows go.

Age is not read off a row: a transaction that was open for longer than the
retention would lose its rows before anybody could see them. Instead the log's
snapshot is noted down from time to time; what a note sees that is older than
the retention has been *committed* for that long. The note is marked "cleaned"
in the transaction that deletes, so a reader sees both or neither. It then sees no
more than what was deleted: a reader that has read all of that has missed nothing,
whatever other transactions the note saw.
"""

import contextlib
import time
from typing import Any, Iterator, Optional, Sequence

from ..database.grouplog import BACKFILL_SQL
from ..events.logrow import MESSAGE
from ..tables import Tables
from ..warnings import Warnings
from .cursor import BY_POSITION, has_passed, is_fresh
from .snapshot import Snapshot

BATCH = 5000  # rows deleted in one transaction
NOTES = 20  # notes that one retention time is divided into
SUSPICIOUS = 10.0  # seconds that one transaction may have the turn; a batch takes less


class Housekeeping:
    """Cleans one log. The processes take turns, by a lock on a row that no stranger can lock."""

    def __init__(self, tables: Tables, warnings: Warnings) -> None:
        self._tables = tables
        self._notes = tables.name("retention")
        self._warnings = warnings
        self._holder: Optional[str] = None  # the transaction that had the turn the last time …
        self._met_at = 0.0  # … and when we first met it

    def clean(self, connection: Any, retention: float, groups: float) -> int:
        """Note the snapshot down; delete what was committed ``retention`` seconds ago.

        What a group has not passed, has taken, or has given up, stays for
        ``groups`` seconds. Does nothing more when another process has the turn.
        """
        deleted = 0
        with connection.cursor() as cursor:
            self._take_note(cursor, retention)
            try:
                deleted += self._delete(cursor, retention, "cleaned", _free(self._tables))
                deleted += self._delete(cursor, groups, "forced", "true")
                self._forget_notes(cursor, groups * 2)
            except _NotOurTurn:
                self._suspect(cursor)
            else:
                self._holder = None
                self._warnings.set("housekeeping", None)
        return deleted

    def _take_note(self, cursor: Any, retention: float) -> None:
        cursor.execute(
            f"INSERT INTO {self._notes} (upto) SELECT pg_current_snapshot()::text"
            # A note from the future is of a clock that was set back since.
            f" WHERE NOT EXISTS (SELECT FROM {self._notes}"
            "                    WHERE at > clock_timestamp() - make_interval(secs => %s)"
            "                      AND at <= clock_timestamp())",
            (retention / NOTES,),
        )

    def _forget_notes(self, cursor: Any, age: float) -> None:
        old = "NOT cleaned AND NOT forced AND at < clock_timestamp() - make_interval(secs => %s)"
        cursor.execute(f"SELECT EXISTS (SELECT FROM {self._notes} WHERE {old})", (age,))
        if cursor.fetchone()[0]:
            with self._turn(cursor):
                cursor.execute(f"DELETE FROM {self._notes} WHERE {old}", (age,))

    def _delete(self, cursor: Any, age: float, mark: str, condition: str) -> int:
        """Delete what the newest note of this age sees, and mark that note."""
        cursor.execute(
            f"SELECT id, upto FROM {self._notes}"
            " WHERE at <= clock_timestamp() - make_interval(secs => %s)"
            " ORDER BY at DESC LIMIT 1",
            (age,),
        )
        row = cursor.fetchone()
        deleted = 0
        while row is not None:
            batch = self._delete_batch(cursor, row[0], row[1], mark, condition)
            deleted += batch
            if batch < BATCH:
                break
        return deleted

    def _delete_batch(self, cursor: Any, note: int, upto: str, mark: str, condition: str) -> int:
        log = self._tables.name("log")
        # Looked for before the turn is taken: that is a write, and mostly there is nothing.
        cursor.execute(
            f"SELECT seq, xid::text FROM {log} l WHERE pg_visible_in_snapshot(xid, %s::pg_snapshot)"
            f" AND {condition} ORDER BY seq LIMIT %s",
            (upto, BATCH),
        )
        rows = cursor.fetchall()
        if rows:
            last = max(int(xid) for _, xid in rows)
            with self._turn(cursor):
                cursor.execute(
                    f"DELETE FROM {log} WHERE seq = ANY (%s)", ([seq for seq, _ in rows],)
                )
                self._mark(cursor, note, upto, mark, last)
        return len(rows)

    def _mark(self, cursor: Any, note: int, upto: str, mark: str, last: int) -> None:
        """Mark a note, with what it sees up to ``last`` and up to what was marked before."""
        cursor.execute(
            f"SELECT max(pg_snapshot_xmax(upto::pg_snapshot))::text FROM {self._notes}"
            f" WHERE {mark} OR id = %s AND (cleaned OR forced)",
            (note,),
        )
        before = int(cursor.fetchone()[0] or 0)
        seen = Snapshot.parse(upto).without_later(max(last, before - 1))
        cursor.execute(
            f"UPDATE {self._notes} SET {mark} = (id = %s),"
            "  upto = CASE WHEN id = %s THEN %s ELSE upto END"
            f" WHERE {mark} OR id = %s",
            (note, note, seen.text, note),
        )

    @contextlib.contextmanager
    def _turn(self, cursor: Any) -> Iterator[None]:
        """Give a transaction in which nobody else cleans. Raises _NotOurTurn."""
        cursor.execute("BEGIN")
        try:
            cursor.execute(
                f"SELECT id FROM {self._notes} WHERE {self._first} FOR UPDATE SKIP LOCKED"
            )
            if cursor.fetchone() is None:
                raise _NotOurTurn
            yield
            cursor.execute("COMMIT")
        except BaseException:
            cursor.execute("ROLLBACK")
            raise

    @property
    def _first(self) -> str:
        return f"id = (SELECT min(id) FROM {self._notes})"

    def _suspect(self, cursor: Any) -> None:
        """Warn of a transaction that has had the turn for too long to be cleaning."""
        cursor.execute(
            "SELECT n.xmax::text, a.pid, a.usename"
            f"  FROM {self._notes} n LEFT JOIN pg_locks l"
            "     ON l.transactionid = n.xmax AND l.locktype = 'transactionid'"
            "        AND l.mode = 'ExclusiveLock' AND l.granted"
            f" LEFT JOIN pg_stat_activity a ON a.pid = l.pid WHERE {self._first}"
        )
        holder, pid, role = cursor.fetchone() or (None, None, None)
        now = time.monotonic()
        if holder != self._holder:
            self._holder, self._met_at = holder, now
            self._warnings.set("housekeeping", None)
        elif now - self._met_at >= SUSPICIOUS:
            who = "" if pid is None else f" in session {pid} of role {role!r}"
            self._warnings.set(
                "housekeeping",
                (
                    f"old rows stay in {self._tables.name('log')}: a transaction{who} has locked"
                    f" {self._notes} for {now - self._met_at:.0f} s. Somebody should end it"
                ),
            )


class _NotOurTurn(Exception):
    """Another process cleans."""


def heal(connection: Any, tables: Tables) -> int:
    """Make use of what comes from another cluster (a restored dump); return how much that was.

    Its transactions' numbers lie in the future here. Every reader would find
    such rows new, again and again: they count as read. A group that has come
    so far would take all that is new for read: it goes on by the number of
    the row that it had last. Raises psycopg2's error without the right.
    """
    log, notes, groups, events = map(tables.name, ("log", "retention", "groups", "events"))
    now = "pg_snapshot_xmax(pg_current_snapshot())"
    row = f"xid >= {now}"
    note = f"pg_snapshot_xmax(upto::pg_snapshot) > {now}"
    foreign = " OR ".join(
        f"EXISTS (SELECT FROM {table} WHERE {condition})"
        for table, condition in (
            (log, row),
            (events, row),
            (notes, note),
            (groups, has_passed(now)),
        )
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
            found = cursor.fetchone()[0]
            healed = _heal(cursor, (log, events), notes, groups, row) if found else 0
            cursor.execute("COMMIT")
        except BaseException:
            cursor.execute("ROLLBACK")
            raise
        return healed


def _heal(cursor: Any, tables: Sequence[str], notes: str, groups: str, foreign: str) -> int:
    cursor.execute(f"DELETE FROM {notes}")
    rows = 0
    for table in tables:
        cursor.execute(f"UPDATE {table} SET xid = '1' WHERE {foreign}")
        rows += int(cursor.rowcount)
    # All groups: to one that is not so far the rows healed just now would seem read.
    cursor.execute(f"UPDATE {groups} SET cursor = {BY_POSITION}")
    return rows + int(cursor.rowcount)


def _free(tables: Tables) -> str:
    """Return SQL that is true for a log row ``l`` that no group needs any more."""
    groups, leases, dead = (tables.name(table) for table in ("groups", "leases", "dead"))
    return f"""NOT EXISTS (
        SELECT FROM {groups} g, LATERAL (SELECT g.cursor::json AS cursor) c
         WHERE ((g.definition::jsonb -> 'topics') ? regexp_replace(l.topic, '^partition:', '')
                OR starts_with(l.topic, '{MESSAGE}') AND EXISTS (
                   SELECT FROM json_object_keys(g.definition::json -> 'topics') t
                    WHERE right(t, 1) = '*' AND starts_with(l.topic, left(t, -1)))
                OR starts_with(l.topic, {BACKFILL_SQL})
                OR starts_with(l.topic, 'backfill:' || g.name || ':'))
           AND {is_fresh('l', 'c.cursor')})
       AND NOT EXISTS (
        SELECT FROM (SELECT unnest(string_to_array(seqs, ',')::int8[]) AS seq FROM {leases}) t
         WHERE t.seq = l.seq)
       AND NOT EXISTS (SELECT FROM {dead} d WHERE d.seq = l.seq)"""
