"""A cursor: what of a table was read; and the SQL for the rest, which is new behind it.

The order of the numbers (seq) is not the order of the commits, so "what is
above the last number" loses rows. New is what is visible now and was not
visible then: its transaction is at or above the old snapshot's xmax, or was in
progress in it. Never a lower bound on seq: xmax is the latest *completed*
transaction plus one, so one above it may already hold a lower number.

What is too large for one page is read in pages, in the order of the numbers,
up to a second snapshot:

    since ── all of it was read
          └─ upto ── read up to ``position``, a page at a time; then it becomes ``since``

The SQL is for any table that has the columns ``seq`` and ``xid``. It gets its
values as a dict, ``Cursor.values``; a prepared statement has ``$1`` instead.
"""

import json
from typing import Any, Dict, NamedTuple, Optional

from .snapshot import Snapshot

#: Sees nothing: all that is kept is new to it.
NOTHING = Snapshot.parse("1:1:")


class Cursor(NamedTuple):
    """What was read of a table: all that ``since`` sees.

    While a large backlog is read in pages, all that ``upto`` sees and that
    has a number up to ``position`` was read, too.

    ``backfill`` is the transaction of a backfill, which is new to ``since``
    and read before all else. What it wrote up to ``position`` was read.

    ``newest`` is the last transaction with a row that ``since`` sees, and
    ``newest_read`` with one that was read: a reader knows them, what is stored does not.
    """

    since: Snapshot
    upto: Optional[Snapshot] = None
    position: int = 0
    newest: int = 0
    newest_read: int = 0
    backfill: Optional[int] = None

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """Read a cursor as it is stored."""
        given = json.loads(text)
        upto = given["upto"]
        return cls(
            Snapshot.parse(given["since"]),
            None if upto is None else Snapshot.parse(upto),
            given["seq"],
            backfill=given.get("backfill"),
        )

    @property
    def text(self) -> str:
        """The cursor as it is stored.

        The last number that was read is always there: with it BY_POSITION makes
        a cursor of one that comes from another cluster.
        """
        upto = None if self.upto is None else self.upto.text
        stored = {"since": self.since.text, "upto": upto, "seq": self.position}
        if self.backfill is not None:
            stored["backfill"] = self.backfill
        return json.dumps(stored)

    @property
    def values(self) -> Dict[str, Any]:
        """The values that the SQL of this module names."""
        return {
            "xmax": str(self.since.xmax),
            "xip": [str(xid) for xid in self.since.in_progress],
            "since": self.since.text,
            "upto": self.read_in_order.text,
            "position": self.position,
        }

    @property
    def read_in_order(self) -> Snapshot:
        """What is new and visible in this one is read in the order of the numbers."""
        if self.backfill is not None:
            return self.since.and_also(self.backfill)
        return self.upto or NOTHING

    @property
    def all_read(self) -> Snapshot:
        """A snapshot with all that may have been read."""
        return self.upto or self.since

    def in_pages(self, upto: Snapshot, first: int) -> "Cursor":
        """Return a cursor that reads up to a snapshot in pages; ``first`` is the first number."""
        return self._replace(upto=upto, position=first - 1, newest_read=self.newest)

    def behind(self, position: int) -> "Cursor":
        """Return a cursor behind a row, of a page or of a backfill."""
        return self._replace(position=position)

    def behind_pages(self) -> "Cursor":
        """Return a cursor behind the last page."""
        assert self.upto is not None
        return self._replace(since=self.upto, upto=None, newest=self.newest_read)

    def behind_backfill(self) -> "Cursor":
        """Return a cursor behind the last row of a backfill."""
        assert self.backfill is not None
        return self._replace(since=self.since.and_also(self.backfill), backfill=None)

    def behind_all(self, now: Snapshot, position: int = 0) -> "Cursor":
        """Return a cursor behind all that is visible now, with rows up to ``position``."""
        return self._replace(since=now, upto=None, position=max(self.position, position))


XMAX, XIP = "%(xmax)s::xid8", "%(xip)s::xid8[]"
SINCE, UPTO, POSITION = "%(since)s::pg_snapshot", "%(upto)s::pg_snapshot", "%(position)s"


def all_fresh(
    table: str, columns: str, condition: str, rows: str, xmax: str = XMAX, xip: str = XIP
) -> str:
    """Return SQL for what is new and meets a condition, at most twice ``rows`` + 1.

    The branches stop early, each on the index on xid. ORDER BY seq inside would read the
    table in the order of seq.
    """
    return f"""
    (SELECT {columns} FROM {table} WHERE xid >= {xmax} AND {condition} LIMIT {rows} + 1)
    UNION ALL
    (SELECT {columns} FROM {table} WHERE xid = ANY ({xip}) AND {condition} LIMIT {rows} + 1)"""


def any_fresh(table: str, condition: str) -> str:
    """Return SQL that is true where something is new that meets a condition."""
    return f"""EXISTS (SELECT FROM {table} WHERE xid >= {XMAX} AND {condition})
       OR EXISTS (SELECT FROM {table} WHERE xid = ANY ({XIP}) AND {condition})"""


def first_fresh(table: str) -> str:
    """Return SQL for the first number that is new up to another snapshot, NULL for none."""
    return f"""
SELECT min(seq) FROM (
    SELECT seq, xid FROM {table} WHERE xid >= {XMAX}
    UNION ALL
    SELECT seq, xid FROM {table} WHERE xid = ANY ({XIP})) fresh
 WHERE pg_visible_in_snapshot(xid, {UPTO})
"""


def page_of(condition: str, position: str = POSITION, since: str = SINCE, upto: str = UPTO) -> str:
    """Return SQL that is true for a row that the next page may hold: see ``Cursor.in_pages``."""
    return f"""seq > {position} AND {condition}
          AND NOT pg_visible_in_snapshot(xid, {since})
          AND pg_visible_in_snapshot(xid, {upto})"""


#: True for a row that is new, and that no page had. Not for pages: no index finds it.
FRESH = f"""(xid >= {XMAX} OR xid = ANY ({XIP}))
   AND NOT (seq <= {POSITION} AND pg_visible_in_snapshot(xid, {UPTO}))"""


def is_fresh(row: str, cursor: str) -> str:
    """Return SQL that is true for a ``row`` that is new to a stored ``cursor``, a column of json.

    Whether the rows of its backfill were read, it does not tell: they are new until all were.
    """
    return f"""NOT pg_visible_in_snapshot({row}.xid, ({cursor} ->> 'since')::pg_snapshot)
           AND NOT coalesce({row}.seq <= ({cursor} ->> 'seq')::int8 AND
                   pg_visible_in_snapshot({row}.xid, ({cursor} ->> 'upto')::pg_snapshot), false)"""


def has_passed(xid: str) -> str:
    """Return SQL that is true for the column ``cursor`` if a snapshot in it ends behind ``xid``."""
    return " OR ".join(
        f"pg_snapshot_xmax((cursor::json ->> '{name}')::pg_snapshot) > {xid}"
        for name in ("since", "upto")
    )


#: A stored cursor, made of the column ``cursor``: all up to its number was read, and is visible.
BY_POSITION = f"""json_build_object('since', '{NOTHING.text}',
         'upto', pg_current_snapshot()::text, 'seq', cursor::json -> 'seq')::text"""
