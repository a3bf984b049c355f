"""Reading the log on SQLite, by polling, because SQLite has no LISTEN.

There is one writer at a time, so the order of the numbers is the order of the
commits, and the cursor is a number. ``PRAGMA data_version`` tells, in a few
microseconds, whether another connection has committed anything. It is asked
more seldom the longer nothing has happened; where the kernel tells that the
file is written, that is a happening.
"""

import logging
import sqlite3
import time
from typing import Any, List, Optional, Tuple

from ..database.backend import Backend
from ..database.reader import Reader, new_owner
from ..errors import DatabaseError, NotInstalled, Unavailable
from ..events.logrow import MESSAGE, POSITION, LogRow
from ..tables import Tables
from ..threads import Waker
from .connection import busy, connect, identity, translated
from .inotify import Inotify
from .marks import Marks
from .numbers import Numbers, numbers, raise_to
from .pages import COLUMNS, first_page

logger = logging.getLogger("pgevents")

PAGE_ROWS = 500  # rows read at once, or as many as fit a page
QUICK = 0.001  # seconds between two looks while things happen …
SLOW = 0.006  # … and when nothing has happened for some time …
SLOW_TOLD = 0.1  # … where the kernel tells what is written; that takes no looking
SLOW_AFTER = 1.0  # seconds without a change, until the looks are as far apart as that
DEAF_AFTER = 5.0  # seconds after the kernel's last word in which no change goes untold
POKED = 0.0002  # seconds between two looks when a commit is known to be under way …
POKED_FOR = 0.02  # … for so long
FILE_CHECK = 0.5  # seconds between two looks whether the kernel watches the files there are
PATIENCE = 0.05  # seconds that SQLite itself waits for a lock; then others may have their turn …
LOCKED = 10.0  # … seconds that the file may be locked before we say so


class LogReader(Reader):
    """Reads the log of one file, on a connection of its own."""

    def __init__(
        self,
        path: str,
        tables: Tables,
        backend: Backend,
        marks: Marks,
        cursor: Optional[int] = None,
    ) -> None:
        self._marks = marks
        self._path = path
        self._tables = tables
        self._backend = backend  # for its gate, which a forked child replaces
        self._cursor = cursor
        self.owner = new_owner()
        self._connection: Optional[sqlite3.Connection] = None
        self._file: Optional[Tuple[int, int]] = None
        self._replaced = False  # it is not the one that the cursor is of
        self._version: Any = None
        self._schema_version: Any = None
        self._behind = False
        self._altered = False
        self._stirred_at = 0.0  # when something happened
        self._poked_until = 0.0
        self._file_checked = 0.0
        self._waker = Waker()
        self._kernel: Optional[Inotify] = None
        self._heard_at = 0.0  # when the kernel told of a write
        self._interrupted = False
        self._gap: Optional[str] = None
        self._set_back: Optional[Numbers] = None  # the numbers are lower than they were
        log, retention = tables.name("log"), tables.name("retention")
        self._select = (
            f"SELECT {COLUMNS} FROM {log} WHERE seq > ?"
            f" AND (operation <> 'read' OR substr(topic, 1, {len(MESSAGE)}) = '{MESSAGE}')"
            f" ORDER BY seq LIMIT {PAGE_ROWS}"
        )
        self._cleaned = f"SELECT max(upto) FROM {retention} WHERE cleaned"

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    def open(self) -> None:
        self.close()
        former, self._file = self._file, identity(self._path)
        if former not in (None, self._file):
            self._replaced = True
            self._marks.forget()
        with self._backend.gate:
            self._connection = connect(self._path, timeout=PATIENCE)
        self._version = None
        last = int(self._patiently(self._read_last, self.deadline))
        if self._cursor is None:
            self._cursor = last
        elif self._replaced:
            self._gap = "the SQLite file was replaced by another"
            self._cursor = last
            self._altered = True  # perhaps that one does not capture what this hub wants
        elif last < self._cursor and self._altered:
            self._gap = "the log was dropped and made again"
            self._cursor = last
        self._replaced = False
        self._kernel = Inotify.of([self._path, self._path + "-wal"])
        self._heard_at = time.monotonic()

    def read(self) -> List[LogRow]:
        rows: List[LogRow] = self._patiently(self._read_page)
        if self._set_back is not None:
            self._raise_numbers(self._set_back)
        return rows

    @property
    def behind(self) -> bool:
        return self._behind

    @property
    def cursor(self) -> Any:
        return self._cursor

    def go_back(self, cursor: Any) -> None:
        self._cursor = cursor

    def wait(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not self._waker.woken and not self._interrupted:
            now = time.monotonic()
            if now >= deadline:
                break
            self._renew_kernel(now)
            if self._changed():
                self._stirred_at = now
                self._doubt(now)
                break
            self._sleep(min(self._pause(now), deadline - now))
        self._waker.woken = False

    def poke(self) -> None:
        """Look very often for a moment: a commit is under way."""
        self._poked_until = time.monotonic() + POKED_FOR

    def altered(self) -> bool:
        altered, self._altered = self._altered, False
        return altered

    def missed(self) -> Optional[str]:
        gap, self._gap = self._gap, None
        return gap

    def breathe(self, timeout: float = 0.0) -> None:
        # There is no socket to be read.
        if timeout and not self._waker.woken:
            self._waker.sleep(timeout)
        self._waker.woken = False

    def wake(self) -> None:
        self._waker.wake()

    def interrupt(self) -> None:
        self._interrupted = True
        self._waker.wake()

    def close(self) -> None:
        self._deafen()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def end(self) -> None:
        self.close()
        self._waker.close()

    def abandon(self) -> None:
        self._deafen()
        self._waker.close()
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if connection.in_transaction:
            # Without the hooks of a fork: closing it might roll back the parent's.
            _abandoned.append(connection)
        else:
            # So that SQLite forgets the locks that are the parent's.
            connection.close()

    def copy(self) -> "LogReader":
        copy = LogReader(self._path, self._tables, self._backend, self._marks, self._cursor)
        copy._file = self._file
        return copy

    def _patiently(self, step: Any, deadline: Optional[float] = None) -> Any:
        """Do a step, again while the file is locked, for LOCKED seconds, not after ``deadline``."""
        if self._connection is None:
            raise Unavailable("the SQLite file is closed")
        patient = time.monotonic() + LOCKED
        deadline = patient if deadline is None else min(patient, deadline)
        with translated():
            while True:
                try:
                    return self._do(step)
                except sqlite3.OperationalError as error:
                    if not busy(error) or self._interrupted or time.monotonic() > deadline:
                        raise
                    time.sleep(QUICK)

    def _do(self, step: Any) -> Any:
        """Do a step on the connection; leave it in no transaction."""
        with self._backend.gate:
            connection = self._connection
            assert connection is not None
            # Not even to look at it: SQLite would take the journal of a transaction in the new
            # file for one that the former has left, and undo it.
            self._require_file()
            try:
                return step(connection)
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def _read_last(self, connection: sqlite3.Connection) -> int:
        # sqlite_sequence is there as soon as the log is.
        if not connection.execute(
            "SELECT 1 FROM sqlite_master WHERE name = ?", (self._tables.name("log"),)
        ).fetchone():
            raise NotInstalled(f"there is no table {self._tables.name('log')}: call hub.install()")
        # Now, not at the first read: what a migration does in between has to show.
        self._notice_schema(connection.execute("PRAGMA schema_version").fetchone()[0])
        last = numbers(connection, self._tables).last
        self._look_at_marks(connection, last)
        return last

    def _look_at_marks(self, connection: sqlite3.Connection, last: int) -> None:
        self._marks.look(lambda sql: connection.execute(sql).fetchall(), last)

    def _notice_schema(self, version: int) -> None:
        if self._schema_version not in (None, version):
            self._altered = True
        self._schema_version = version

    def _read_page(self, connection: sqlite3.Connection) -> List[LogRow]:
        # The version first: what is committed while we read shows next time.
        former = self._version
        self._version = connection.execute("PRAGMA data_version").fetchone()[0]
        if self._version != former:
            self.stirred()
        connection.execute("BEGIN")  # one view of the file for all that follows
        cleaned = connection.execute(self._cleaned).fetchone()[0]
        rows, full = first_page(connection.execute(self._select, (self._cursor,)))
        schema_version = connection.execute("PRAGMA schema_version").fetchone()[0]
        there = numbers(connection, self._tables)
        self._look_at_marks(connection, there.last)
        connection.execute("COMMIT")
        assert self._cursor is not None
        if there.last < self._cursor and schema_version != self._schema_version:
            # Its numbers begin again: we would hear nothing until they are as high.
            raise NotInstalled("the log was dropped and made again")
        self._notice_numbers(there)
        self._behind = len(rows) == PAGE_ROWS or full
        self._notice_schema(schema_version)
        if cleaned is not None and cleaned > self._cursor:
            self._gap = "the log was cleaned (retention) before this hub had read it"
        # Past the rows of a backfill, too: when they are cleaned away, we miss nothing.
        self._cursor = rows[-1][POSITION] if self._behind else max(there.last, self._cursor)
        return rows

    def _notice_numbers(self, there: Numbers) -> None:
        """Notice that somebody has emptied sqlite_sequence, and what that made us miss."""
        assert self._cursor is not None
        passed, known = max(self._cursor, there.passed), self._set_back
        self._set_back = there if there.noted < max(there.newest, passed) else None
        if 0 < there.last < passed and known is None:
            self._gap = (
                "the numbers of the log were set back (sqlite_sequence), and what was written since"
                " may have been missed"
            )

    def _raise_numbers(self, there: Numbers) -> None:
        """Let the numbers go on where they were; if others write now, after the next read."""
        assert self._cursor is not None
        raised = max(self._cursor, there.last, there.passed)

        def step(connection: sqlite3.Connection) -> None:
            try:
                raise_to(connection, self._tables, raised, time.monotonic())
            finally:
                connection.execute(f"PRAGMA busy_timeout = {int(PATIENCE * 1000)}")

        try:
            with translated():
                self._do(step)
        except Unavailable:
            return
        except DatabaseError as error:  # the rows that were read are worth more
            self._backend.warnings.set(
                "numbers",
                (
                    "somebody has emptied sqlite_sequence, and the numbers of the log cannot be"
                    f" raised again, so what is written now may be missed: {error}"
                ),
            )
            return
        self._backend.warnings.set("numbers", None)
        logger.warning(
            "somebody has emptied sqlite_sequence: the numbers of %s go on after %d",
            self._tables.name("log"),
            raised,
        )
        self._set_back = None

    def _changed(self) -> bool:
        if self._connection is None:
            raise Unavailable("the SQLite file is closed")
        try:
            version = self._do(lambda c: c.execute("PRAGMA data_version").fetchone()[0])
            return bool(version != self._version)
        except sqlite3.OperationalError as error:
            if busy(error):
                return False  # whoever locks it is about to change it: look again
            with translated():
                raise

    def _pause(self, now: float) -> float:
        if now < self._poked_until:
            return POKED
        slow = SLOW if self._kernel is None else SLOW_TOLD
        return min(slow, max(QUICK, slow * (now - self._stirred_at) / SLOW_AFTER))

    def _sleep(self, pause: float) -> None:
        if self._kernel is None or pause <= POKED:
            # Nobody minds that this cannot be woken, and it costs half as much.
            time.sleep(pause)
        elif self._waker.sleep(pause, self._kernel.fd):
            self._kernel.heard()
            # A commit is under way, and can be seen in a moment. If it takes
            # long, it is seen late by a tenth of that at the most.
            self._stirred_at = self._heard_at = time.monotonic()
            self.poke()

    def _doubt(self, now: float) -> None:
        """The file has changed: if the kernel did not tell, do not rely on it any more."""
        if self._kernel is None:
            return
        if self._kernel.heard():
            self._heard_at = now
        elif now - self._heard_at > DEAF_AFTER:
            logger.info(
                "the kernel does not report what is written to %s: looking for it every %.0f ms",
                self._path,
                SLOW * 1000,
            )
            self._deafen()

    def _deafen(self) -> None:
        kernel, self._kernel = self._kernel, None
        if kernel is not None:
            kernel.close()

    def _require_file(self) -> None:
        """Raise Unavailable unless the file is still the one that is open."""
        file = identity(self._path)
        if file != self._file:
            raise Unavailable(
                "the SQLite file was deleted" if file is None else "the SQLite file was replaced"
            )

    def _renew_kernel(self, now: float) -> None:
        """See to it that the kernel tells of the file and the -wal that there are now."""
        if self._kernel is not None and now - self._file_checked >= FILE_CHECK:
            self._file_checked = now
            self._kernel.renew()


_abandoned: List[Any] = []
