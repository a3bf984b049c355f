"""Reading the log on PostgreSQL: the cursor is a snapshot, the sleep is announced.

What is new behind a cursor: see cursor.py. How a reader goes to sleep without missing
anything is drawn in functions.sql, at ring().
"""

import logging
import time
from typing import Any, Dict, FrozenSet, List, Optional, Set, Tuple

from ..database.reader import Reader, new_owner
from ..errors import NotInstalled, Unavailable
from ..events.logrow import MESSAGE, POSITION, TOPIC, TRANSACTION, LogRow
from ..tables import Tables
from ..threads import Waker
from ..warnings import Warnings
from . import pages
from .address import Address
from .alterations import Alterations
from .catalog import MARKS, quoted
from .connection import Listening, primary_only
from .cursor import Cursor, all_fresh, any_fresh, first_fresh, page_of
from .obstacles import Obstacles
from .snapshot import Snapshot

logger = logging.getLogger("pgevents")

PAGE_ROWS = 500  # rows read at once, or as many as fit a page: see pages.py
PROBE = 4.0  # seconds between two reads of an idle log, so that a dead peer is noticed
ANSWER = 5.0  # seconds of silence in the middle of a statement: the connection is lost
LONGEST_ANSWER = 600.0  # seconds; for a log so large that reading it takes longer
QUIET = 0.002  # seconds without a row before we think of sleeping
WRITER_PAUSE = 0.001  # seconds between two reads while a writer is under way …
BUSY_PAUSE = 0.005  # … and at the most, while we have not announced ourselves
PATIENT_AFTER = 0.1  # seconds of that, after which we announce ourselves all the same
PATIENT_PAUSE = 0.1  # seconds, then, at the most
UNANNOUNCED = 0.05  # seconds, at the most, while we cannot announce ourselves
OWNING = 2.0  # seconds between two attempts to take the lock of our leases' owner

#: Planning takes four times as long as running them, and every reader asks
#: the same again and again: so they are prepared, with one plan for all values.
_PREPARE = """
DEALLOCATE ALL;
PREPARE pgevents_fresh (xid8, xid8[]) AS {fresh};
PREPARE pgevents_page (bigint, pg_snapshot, pg_snapshot) AS {page};
PREPARE pgevents_marks (text[]) AS {marks};
{look}
"""

#: Not ORDER BY xid: that would be the number in the SELECT list, which no index has.
_BEGIN = """
SELECT pg_current_snapshot()::text,
       coalesce((SELECT l.xid::text::int8 FROM {log} l ORDER BY l.xid DESC LIMIT 1), 0)
"""

_CRASHED = """
SELECT pg_current_snapshot()::text,
       EXISTS (SELECT FROM {log} WHERE xid > %(newest)s::xid8
                  AND pg_visible_in_snapshot(xid, %(since)s::pg_snapshot)),
       coalesce((SELECT l.xid::text::int8 FROM {log} l
                  WHERE pg_visible_in_snapshot(l.xid, %(upto)s::pg_snapshot)
                  ORDER BY l.xid DESC LIMIT 1), 0)
"""

#: Both conditions and the new snapshot in ONE statement: two have two
#: snapshots. A backlog that does not fit a page comes back as its first row
#: alone, without contents. With the first row come the marks of all tables: that
#: one was altered before a row was written has to show before the row is decoded.
_FRESH = """
WITH fresh AS MATERIALIZED ({fresh}
), bulk AS (
    SELECT {too_large} AS large
)
SELECT pg_current_snapshot()::text, bulk.large,
       (SELECT r.upto FROM {retention} r WHERE r.cleaned),
       CASE WHEN f.seq = (SELECT min(seq) FROM fresh) THEN
            (SELECT array_agg(ARRAY[m.topic, m.mark::text])
               FROM ({marks}) m) END,
       f.*
  FROM bulk LEFT JOIN fresh f ON NOT bulk.large
 ORDER BY f.seq
"""

_SKIM = """
SELECT pg_current_snapshot()::text,
       {any_fresh},
       (SELECT r.upto FROM {retention} r WHERE r.cleaned),
       coalesce((SELECT l.xid::text::int8 FROM {log} l ORDER BY l.xid DESC LIMIT 1), 0)
"""

_PAGE = """
SELECT (SELECT r.upto FROM {retention} r WHERE r.cleaned), {columns} FROM ({page}) page
 ORDER BY seq
"""

#: Backfills are for groups; a message has their operation: see functions.sql.
_WANTED = f"(operation <> 'read' OR starts_with(topic, '{MESSAGE}'))"

#: Misled by old statistics, the planner would read or sort the whole log for each page.
#: Starting parallel workers takes longer than reading one. Where row-level security would
#: hide rows of the log from us, that is to be an error.
_SESSION = """
SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off;
SET jit = off; SET max_parallel_workers_per_gather = 0; SET plan_cache_mode = force_generic_plan;
SET statement_timeout = 0; SET lock_timeout = 0;
SET default_transaction_isolation = 'read committed'; SET timezone = 'UTC';
SET datestyle = 'ISO'; SET idle_session_timeout = 0;
SET idle_in_transaction_session_timeout = 0; SET row_security = off
"""

_SERVER = """
SELECT pg_is_in_recovery(), current_setting('server_version_num'),
       current_setting('server_version'), log.oid::int8,
       (SELECT encode(tgargs, 'escape') FROM pg_trigger
         WHERE tgrelid = log.oid AND tgname = 'pgevents_ring')
  FROM (SELECT to_regclass(%s)::oid AS oid) log
"""


class LogReader(Reader):
    """Reads the log on the connection that listens."""

    def __init__(
        self,
        address: Address,
        tables: Tables,
        poll_interval: float,
        warnings: Warnings,
        marks: Dict[str, Any],
        cursor: Optional[Cursor] = None,
    ) -> None:
        self._address = address
        self._tables = tables
        self._warnings = warnings
        self._bell = True
        self._poll_interval = poll_interval
        self._marks = marks  # of the tables' shapes: shared with whoever decodes rows
        self._cursor = cursor
        self.owner = new_owner()
        self._waker = Waker()
        self._connection = Listening(address, self._waker)
        self._answer = ANSWER
        self._oid = 0
        self._native: FrozenSet[str] = frozenset()  # channels of the application's own
        self._announced = False  # we hold SLEEPERS
        self._owned = False  # we hold the lock that says that our leases' owner lives
        self._tried_to_own: Optional[float] = None  # since we connected
        self._obstacles = Obstacles(tables.name("log"), warnings)
        self._waiting_since: Optional[float] = None  # for a writer, without a row
        self._found: List[LogRow] = []  # read while lying down
        self._behind = False
        self._marked: Set[str] = set()  # topics in the backlog whose marks were read
        self._alterations = Alterations(tables)
        self._gap: Optional[str] = None
        self._cleaned: Optional[str] = None
        log = tables.name("log")
        names = {
            "columns": pages.COLUMNS,
            "log": log,
            "retention": tables.name("retention"),
            "rows": PAGE_ROWS,
            "marks": MARKS.format(topics="ARRAY(SELECT DISTINCT topic FROM fresh)"),
            "too_large": pages.too_large(str(PAGE_ROWS)),
            "fresh": all_fresh(log, pages.COLUMNS, _WANTED, str(PAGE_ROWS), "$1", "$2"),
            "any_fresh": any_fresh(log, _WANTED),
            "page": pages.page(log, page_of(_WANTED, "$1", "$2", "$3"), str(PAGE_ROWS)),
        }
        fresh, page, self._skim, self._begin, self._crashed = (
            sql.format(**names) for sql in (_FRESH, _PAGE, _SKIM, _BEGIN, _CRASHED)
        )
        self._first = first_fresh(log)
        self._prepare = _PREPARE.format(
            fresh=fresh,
            page=page,
            marks=MARKS.format(topics="$1"),
            look=self._alterations.prepare,
        )

    @property
    def is_open(self) -> bool:
        return self._connection.open

    def open(self) -> None:
        connection = self._connection
        connection.connect()
        self._announced = self._owned = False
        self._native = frozenset()
        self._tried_to_own = None
        self._waiting_since = None
        row = connection.run(_SERVER, (self._tables.name("log"),), ANSWER)[0]
        primary_only(row[:3])
        oid, bell = row[3:]
        if oid is None:
            connection.close()
            raise NotInstalled(f"there is no table {self._tables.name('log')}: call hub.install()")
        self._oid = oid - (1 << 32) if oid >= 1 << 31 else oid  # as PostgreSQL casts it to int4
        self._bell = (bell or "").startswith("on")
        # One trip, one transaction: LISTEN has come into force when it is answered.
        self._own(f"LISTEN pgevents_{oid}; {_SESSION}; {self._prepare}; ")
        # LISTEN first, then the snapshot: what comes between them wakes us.
        if self._cursor is None:
            now, newest = self._run(self._begin)[0]
            self._cursor = Cursor(Snapshot.parse(now), newest=newest)
        else:
            self._cursor = self._after_crash(self._cursor)
        # Now, not at the first read: what a migration does in between has to show.
        self._alterations.look(self._run)

    def read(self) -> List[LogRow]:
        assert self._cursor is not None, "open() comes first"
        # What was found earlier does not say what is there now.
        self._behind = bool(self._found)
        if self._found:
            found, self._found = self._found, []
            return found
        self._look()
        found = self._read_fresh() if self._cursor.upto is None else self._read_page()
        self._behind = self._cursor.upto is not None
        self._answer = ANSWER
        return found

    @property
    def behind(self) -> bool:
        return self._behind

    @property
    def cursor(self) -> Any:
        return self._cursor, self._found

    def go_back(self, cursor: Any) -> None:
        self._cursor, self._found = cursor

    def skim(self) -> bool:
        if self._found or self._cursor is None or self._cursor.upto is not None:
            return bool(self.read())
        self._look()
        now, new, cleaned, newest = self._run(self._skim, self._cursor.values)[0]
        self._notice_cleaning(cleaned, self._cursor.since)
        self._cursor = self._cursor.behind_all(Snapshot.parse(now))._replace(newest=newest)
        self._behind = False
        self._answer = ANSWER
        return bool(new)

    def wait(self, timeout: float) -> None:
        """Sleep as drawn in functions.sql; a writer under way is waited for by reading again."""
        connection = self._connection
        if connection.notified() or connection.others:
            return
        if not self._bell:
            connection.sleep(min(timeout, self._poll_interval))
            self.stirred()
            return
        waited = self._waited()
        # While somebody writes, do not even announce ourselves: all who begin
        # meanwhile would ring, and queue for it.
        if waited < QUIET or (waited < PATIENT_AFTER and not self._alone()):
            self._pause(timeout, waited)
            return
        alone = self._alone(announced=True)
        if not self._announced:
            # Writers try SLEEPERS for an instant; a stranger may keep it for ever.
            connection.sleep(min(timeout, max(WRITER_PAUSE, min(waited / 4, UNANNOUNCED))))
            return
        # Somebody may have committed just before we were announced.
        self._found = self._read_fresh(announced=True)
        if self._found or self._cursor is None or self._cursor.upto is not None:
            return
        # The read above is of the log alone.
        self.stirred()
        if alone:
            self._waiting_since = None
            connection.sleep(min(timeout, PROBE))
            self.stirred()
            connection.notified()  # the read that follows sees what it was about
        elif waited < PATIENT_AFTER:
            # A writer that began before we were announced will not ring for us.
            self._give_back()
            self._pause(timeout, waited)
        else:
            # A long transaction: stay announced, so that others ring for us,
            # and look for this one from time to time.
            connection.sleep(min(timeout, waited / 50, PATIENT_PAUSE))

    def breathe(self, timeout: float = 0.0) -> None:
        if self._announced:  # with what was found while lying down
            self._give_back()
        self._connection.sleep(timeout)
        self._connection.notified()

    def wake(self) -> None:
        self._waker.wake()

    def interrupt(self) -> None:
        self._connection.interrupted = True
        self._waker.wake()

    def listen(self, channels: FrozenSet[str]) -> None:
        if channels != self._native:
            sql = [f"LISTEN {quoted(name)}" for name in sorted(channels - self._native)]
            sql += [f"UNLISTEN {quoted(name)}" for name in sorted(self._native - channels)]
            self._run("; ".join(sql))
            self._native = channels

    def notifications(self) -> List[Tuple[str, str, int]]:
        if self._connection.open:
            self._connection.notified()
        found, self._connection.others = self._connection.others, []
        return found

    def altered(self) -> bool:
        return self._alterations.noticed()

    def missed(self) -> Optional[str]:
        gap, self._gap = self._gap, None
        return gap

    def close(self) -> None:
        self._connection.close()

    def end(self) -> None:
        self._connection.close()
        self._waker.close()

    def abandon(self) -> None:
        self._connection.abandon()
        self._waker.close()

    def copy(self) -> "LogReader":
        return LogReader(
            self._address,
            self._tables,
            self._poll_interval,
            self._warnings,
            self._marks,
            self._cursor,
        )

    def _run(self, sql: str, values: Any = None, announced: bool = False) -> List[Any]:
        """Run a statement; but for ``announced``, we are not asleep any more."""
        prefix = ""
        if self._announced and not announced:
            # In the same trip to the server.
            prefix = f"SELECT pg_advisory_unlock_shared({self._oid}, 2); "
        try:
            rows = self._connection.run(prefix + sql, values, self._answer)
        except Unavailable:
            # It may have been no dead peer but a slow disk: be more patient, until a
            # read succeeds. That open() does says nothing about that.
            self._answer = min(self._answer * 2, LONGEST_ANSWER)
            raise
        self._announced = announced
        return rows

    def _read_fresh(self, announced: bool = False) -> List[LogRow]:
        cursor = self._cursor
        assert cursor is not None
        rows = self._run(
            "EXECUTE pgevents_fresh (%(xmax)s, %(xip)s::xid8[])", cursor.values, announced
        )
        now, large, cleaned, marks = rows[0][:4]
        self._notice_cleaning(cleaned, cursor.since)
        if large:
            return self._begin_pages(cursor, Snapshot.parse(now))
        found = [row[4:] for row in rows if row[4] is not None]
        self._marks.update((topic, int(mark)) for topic, mark in marks or ())
        if now != cursor.since.text:
            newest = _newest(found, cursor.newest)
            self._cursor = cursor.behind_all(Snapshot.parse(now))._replace(newest=newest)
        if found:
            self._waiting_since = None
        return found

    def _begin_pages(self, cursor: Cursor, upto: Snapshot) -> List[LogRow]:
        first = self._run(self._first, {**cursor.values, "upto": upto.text})[0][0]
        if first is None:  # cleaned away meanwhile
            self._cursor = cursor.behind_all(upto)
            return []
        self._cursor = cursor.in_pages(upto, first)
        self._marked.clear()
        return self._read_page()

    def _read_page(self) -> List[LogRow]:
        cursor = self._cursor
        assert cursor is not None and cursor.upto is not None
        rows = self._run("EXECUTE pgevents_page (%(position)s, %(since)s, %(upto)s)", cursor.values)
        if not rows:
            self._cursor = cursor.behind_pages()
            return self._read_fresh()
        self._notice_cleaning(rows[0][0], cursor.since)
        found = [row[1:] for row in rows]
        # Once for all pages of a backlog: what is altered later has later rows.
        topics = {row[TOPIC] for row in found} - self._marked
        if topics:
            self._marks.update(self._run("EXECUTE pgevents_marks (%s)", (list(topics),)))
            self._marked |= topics
        newest = _newest(found, cursor.newest_read)
        self._cursor = cursor.behind(found[-1][POSITION])._replace(newest_read=newest)
        return found

    def _after_crash(self, cursor: Cursor) -> Cursor:
        """Return the cursor to go on with on a new connection.

        After a crash the server may use the numbers of transactions again
        that it has not written down, as those that were rolled back. The
        cursor has seen them end: it must forget all without a row.
        """
        rows = self._run(
            self._crashed,
            {
                "newest": str(cursor.newest),
                "since": cursor.since.text,
                "upto": cursor.all_read.text,
            },
        )
        now, used_again, newest = Snapshot.parse(rows[0][0]), rows[0][1], rows[0][2]
        if now.xmax <= max(cursor.newest, cursor.newest_read):
            self._gap = "the server has forgotten what this hub had read: a failover or a restore"
            return Cursor(now)
        if now.covers(cursor.all_read) and not used_again:
            return cursor
        logger.info("the server has crashed or was replaced: the cursor goes back")
        return cursor._replace(
            since=cursor.since.without_later(cursor.newest),
            upto=cursor.upto and cursor.upto.without_later(newest),
        )

    def _alone(self, announced: bool = False) -> bool:
        """Return whether no writer is under way; ``announced`` tries to take SLEEPERS before.

        Each lock may be somebody else's for an instant, or a stranger's for ever.
        """
        o = self._oid
        sleepers = f"pg_try_advisory_lock_shared({o}, 2)"
        sql = (
            f"SELECT CASE WHEN {f'{sleepers} OR {sleepers}' if announced else 'true'} THEN"
            f" CASE WHEN pg_try_advisory_lock({o}, 1)"
            f" THEN pg_advisory_unlock({o}, 1) ELSE false END END,"
            f" to_regclass('{self._tables.name('log')}')::oid::int4"
        )
        alone, now = self._connection.run(sql, None, self._answer)[0]
        if now != o:
            # Its bell has another name; and its rows another meaning, perhaps.
            self._connection.close()
            raise NotInstalled("the log was dropped, or created again")
        self._announced = self._announced or (announced and alone is not None)
        if alone:
            self._obstacles.passed()
        else:
            self._obstacles.met(self._ask, o)
        return bool(alone)

    def _ask(self, sql: str, values: Any) -> List[Any]:
        """Run a statement without waking up: whether we are announced stays as it is."""
        return self._run(sql, values, self._announced)

    def _look(self) -> None:
        self._alterations.look(self._run)
        if not self._owned and time.monotonic() - (self._tried_to_own or 0.0) >= OWNING:
            self._own()

    def _own(self, first: str = "") -> None:
        """Let the owner of our leases live for as long as this session does.

        What is to be done ``first`` goes to the server with it. Others who ask for its life
        hold that lock for an instant.
        """
        number = int(self.owner.rpartition(":")[2])
        lock = f"pg_try_advisory_lock_shared({self._oid}, {number})"
        again, self._tried_to_own = self._tried_to_own is not None, time.monotonic()
        self._owned = bool(self._run(f"{first}SELECT {lock} OR {lock}")[0][0])
        self._warnings.set(
            "owner",
            (
                None
                if self._owned or not again
                else (
                    f"somebody holds the advisory lock ({self._oid}, {number}), by which others"
                    " see that this process lives: if it dies, its groups' leases are taken over"
                    " when they run out"
                )
            ),
        )

    def _waited(self) -> float:
        """Return for how many seconds writers have kept us waiting without a row."""
        now = time.monotonic()
        if self._waiting_since is None:
            self._waiting_since = now
        return now - self._waiting_since

    def _pause(self, timeout: float, waited: float) -> None:
        self._connection.sleep(min(timeout, max(WRITER_PAUSE, min(waited / 4, BUSY_PAUSE))))

    def _give_back(self) -> None:
        self._run("SELECT 1")

    def _notice_cleaning(self, cleaned: Optional[str], since: Snapshot) -> None:
        """Remember a gap if housekeeping deleted what we had not read."""
        if cleaned is None or cleaned == self._cleaned:
            return
        self._cleaned = cleaned
        if not since.covers(Snapshot.parse(cleaned)):
            self._gap = "the log was cleaned (retention) before this hub had read it"


def _newest(rows: List[LogRow], before: int) -> int:
    """Return the last transaction among these rows and the one before."""
    return max([before, *(int(row[TRANSACTION]) for row in rows)])
