"""How a group's listeners are called for rows of a lease; the consumer's thread does it."""

import time
from typing import Callable, Dict, List, NoReturn, Optional, Set, Tuple, Union

from sqlalchemy.engine import Connection

from ..database.grouplog import GroupLog, plain_row
from ..delivery.around import Around
from ..delivery.call import call
from ..delivery.delivery import Audience
from ..delivery.entries import Entries
from ..delivery.strangers import Strangers
from ..errors import PgEventsError, Unavailable, UsageError
from ..events.entry import Entry
from ..events.logrow import OPERATION, POSITION, TOPIC, LogRow
from ..listening.listener import Listener
from ..metrics import GroupMetrics
from .failure import Failures
from .lease import Handled, Lease

SLICE = 0.1  # seconds of a transaction, after which what is handled is committed

ENDED = " (the database ended the session while the listener ran)"


class Ended(Exception):
    """What was written in a transaction is gone: its session ended, or it has to be taken back.

    ``handled`` rows had been handled in it.
    """

    def __init__(self, handled: int) -> None:
        super().__init__(handled)
        self.handled = handled


class NotBegun(Exception):
    """A transaction ended before a listener was called."""


class Batches:
    """What listeners with ``batch=True`` are to be called with, when all rows are looked at."""

    def __init__(self) -> None:
        self.of: Dict[Listener, List[Tuple[LogRow, Entry]]] = {}
        self.rows: Dict[int, LogRow] = {}  # that are in any, by position

    def add(self, listener: Listener, row: LogRow, event: Entry) -> None:
        self.of.setdefault(listener, []).append((row, event))
        self.rows[row[POSITION]] = row


class Calls:
    """Calls the listeners of one group.

    ``stopping()`` is asked before each event: when it says so, none is begun any more.
    """

    def __init__(
        self,
        group: str,
        ordered: bool,
        failures: Failures,
        log: GroupLog,
        audience: Audience,
        entries: Entries,
        metrics: GroupMetrics,
        strangers: Strangers,
        around: Around,
        stopping: Callable[[], bool],
    ) -> None:
        self._group = group
        self._ordered = ordered
        self._failures = failures
        self._log = log
        self._audience = audience
        self._entries = entries
        self._metrics = metrics
        self._strangers = strangers
        self._around = around
        self._stopping = stopping

    def all(
        self,
        lease: Lease,
        rows: List[LogRow],
        handled: Union[Lease, Handled],
        connection: Optional[Connection] = None,
    ) -> None:
        """Call the listeners for rows of a lease; let ``handled`` know what became of each.

        Those that are not begun are neither done nor failed. With a ``connection`` it stops
        after SLICE seconds, and raises Ended when the session is gone. Raises Lost when the
        lease is.
        """
        batches, failed = Batches(), set()
        begun, since = 0, time.monotonic()
        fresh, attempt, again = lease.fresh, 1, False
        stopping, done = self._stopping, handled.done
        for row in rows:
            if lease.lost or stopping():
                lease.check()
                break
            if not fresh:
                attempt, again = lease.attempt_of(row), lease.redelivered(row)
            if connection is not None and begun and time.monotonic() - since > SLICE:
                break
            try:
                error = self._one(row, attempt, again, connection, batches)
            except NotBegun as lost:
                raise Ended(begun) from lost
            if connection is not None and self._log.ended(connection):
                if error is not None:
                    handled.failed(row, error, ENDED)
                raise Ended(begun)
            begun += 1
            if error is not None:
                failed.add(row[POSITION])
                if handled.failed(row, error).delay is not None and self._ordered:
                    break
            elif row[POSITION] not in batches.rows:
                done(row)
        in_savepoints = len(failed)
        for listener, members in batches.of.items():
            self._batch(listener, members, handled, failed)
        if connection is not None and len(failed) > in_savepoints:
            # What others have written for these events must not stay: they come again.
            raise Ended(begun)
        for position, row in batches.rows.items():
            if position not in failed:
                done(row)

    def transactional(self, rows: List[LogRow]) -> bool:
        """Tell whether a listener of any of these rows wants the transaction."""
        kinds = {(row[TOPIC], row[OPERATION]): row for row in rows}  # a topic and an operation
        return any(
            listener.transactional
            for row in kinds.values()
            for listener in self._audience.of(self.event(row, 1, False))
        )

    def event(self, row: LogRow, attempt: int, redelivered: bool) -> Entry:
        """Return the event of a row."""
        if row[OPERATION] == "read":
            row = plain_row(row, self._group)
        return self._entries.of(row, attempt, redelivered)

    def _one(
        self,
        row: LogRow,
        attempt: int,
        again: bool,
        connection: Optional[Connection],
        batches: Batches,
    ) -> Optional[BaseException]:
        """Call the listeners for one event; return what one of them raised."""
        if attempt > 1 and self._failures.exhausted(attempt):
            return PgEventsError(f"given up: attempts that ended with their process: {attempt - 1}")
        if not self._strangers.knows(row):
            return None  # as what the group does not listen to
        event = self.event(row, attempt, again)
        if event.until is not None and self._entries.expired(event):
            return None
        if connection is None:
            return self._listeners(event, row, None, batches)
        return self._in_savepoint(event, row, connection, batches)

    def _in_savepoint(
        self, event: Entry, row: LogRow, connection: Connection, batches: Batches
    ) -> Optional[BaseException]:
        """What a listener that raises has written is taken back; the others' stays."""
        try:
            savepoint = connection.begin_nested()
        except Exception as lost:
            raise NotBegun() from lost
        error = self._listeners(event, row, connection, batches) or self._overlooked(connection)
        if error is not None:
            self._take_back(savepoint)
            return error
        try:
            savepoint.commit()
        except BaseException as refused:
            return refused
        return None

    def _take_back(self, savepoint: object) -> None:
        try:
            savepoint.rollback()  # type: ignore[attr-defined]
        except Exception:
            pass  # the session is gone, and all that was written in it; the error is known

    def _listeners(
        self, event: Entry, row: LogRow, connection: Optional[Connection], batches: Batches
    ) -> Optional[BaseException]:
        """Call the listeners for one event until one raises; return what it raised."""
        try:
            for listener in self._audience.of(event):
                if listener.picks and not listener.wants(event):
                    continue
                if listener.batch:
                    batches.add(listener, row, event)
                    continue
                outcome = call(listener, event, self._around, connection)
                if outcome.error is not None:
                    return outcome.error
                self._metrics.delivered += 1
        except BaseException as error:  # of a filter: sys.exit() must not end our thread
            return error
        return None

    def _overlooked(self, connection: Connection) -> Optional[BaseException]:
        """Return an error that a listener has overlooked: nothing can be written after it."""
        if self._log.ended(connection):
            return Unavailable("an error of the database was overlooked")
        if self._log.aborted(connection):
            return UsageError(
                "a statement failed, and the listener went on: nothing more can be written"
                " in this transaction. Put connection.begin_nested() around what may fail"
            )
        return None

    def _batch(
        self,
        listener: Listener,
        members: List[Tuple[LogRow, Entry]],
        handled: Union[Lease, Handled],
        failed: Set[int],
    ) -> None:
        good = [(row, event) for row, event in members if row[POSITION] not in failed]
        if not good:
            return
        outcome = call(listener, [event for _, event in good], self._around)
        if outcome.error is None:
            self._metrics.delivered += 1
            return
        for row, _ in good:
            handled.failed(row, outcome.error)
            failed.add(row[POSITION])


def guard(connection: Connection) -> None:
    """Keep a listener from ending the transaction that is to hold the acknowledgement, too."""

    def refuse() -> NoReturn:
        raise UsageError(
            "a transactional listener neither commits nor rolls back: return, or raise, and what it"
            " wrote stays, or is taken back"
        )

    connection.commit = connection.rollback = refuse  # type: ignore[method-assign]
