"""How a group's listeners are called for what is leased; the thread that does it is the runner."""

import time
import traceback
from typing import Callable, Dict, Iterable, List, NoReturn, Optional, Tuple

from sqlalchemy.engine import Connection

from ..database.grouplog import plain_row
from ..delivery.around import Around
from ..delivery.call import call
from ..delivery.delivery import Audience
from ..delivery.strangers import Strangers
from ..delivery.topics import Topics
from ..errors import PgEventsError, Unavailable, UsageError
from ..events.event import Event, LogRow, without_values
from ..listening.registry import Listener
from ..metrics import GroupMetrics
from ..retry import Backoff
from .ledger import Failure, Ledger

SLICE = 0.1  # seconds of a transaction, after which what is handled is committed

ENDED = " (the database ended the session while the listener ran)"

Batches = Dict[Listener, List[Tuple[LogRow, Event]]]


class Ended(Exception):
    """What was written in a transaction is gone: its session ended, or it has to be taken back.

    ``handled`` rows had been handled in it. ``failures`` are its attempts that
    failed, none if no listener is to blame.
    """

    def __init__(self, handled: int, failures: Iterable[Failure] = ()) -> None:
        super().__init__(handled)
        self.handled = handled
        self.failures = list(failures)


class NotBegun(Exception):
    """A transaction ended before a listener was called."""


class Calls:
    """Calls the listeners of one group.

    ``goes_on()`` is asked before each event: False ends the calls, an
    exception goes through. ``finished()`` is called after each event that
    need not be handled again.
    """

    def __init__(
        self,
        group: str,
        max_attempts: int,
        backoff: Backoff,
        ordered: bool,
        keep_rows: bool,
        ledger: Ledger,
        audience: Audience,
        known: Topics,
        metrics: GroupMetrics,
        strangers: Strangers,
        goes_on: Callable[[], bool],
        finished: Callable[[], None],
        around: Around,
    ) -> None:
        self._group = group
        self._max_attempts = max_attempts
        self._backoff = backoff
        self._ordered = ordered
        self._keep_rows = keep_rows
        self._ledger = ledger
        self._audience = audience
        self._known = known
        self._metrics = metrics
        self._strangers = strangers
        self._goes_on = goes_on
        self._finished = finished
        self._around = around

    def all(
        self, rows: List[LogRow], attempt: int, again: bool, connection: Optional[Connection]
    ) -> Tuple[int, List[Failure]]:
        """Call the listeners; return how many rows were begun, and which failed.

        ``attempt`` is the first row's. With a ``connection`` it stops after
        SLICE seconds, and raises Ended when the session is gone.
        """
        failures: Dict[int, Failure] = {}
        batches: Batches = {}
        begun, since = 0, time.monotonic()
        for row in rows:
            if not self._goes_on():
                break
            if connection is not None and begun and time.monotonic() - since > SLICE:
                break
            try:
                failure = self._one(row, attempt, again, connection, batches)
            except NotBegun as error:
                raise Ended(begun, failures.values()) from error
            if connection is not None and self._ledger.ended(connection):
                if failure is not None:
                    failures[row[0]] = failure._replace(error=failure.error + ENDED)
                raise Ended(begun, failures.values())
            begun += 1
            if connection is None and not (again or failures or failure or batches):
                self._finished()
            if failure is not None:
                failures[row[0]] = failure
                if self._ordered and failure.delay is not None:
                    break
            attempt = 1
        in_savepoints = len(failures)
        for listener, members in batches.items():
            self._batch(listener, members, failures)
        if connection is not None and len(failures) > in_savepoints:
            # What others have written for these events must not stay: they come again.
            raise Ended(begun, failures.values())
        return begun, [failures[seq] for seq in sorted(failures)]

    def transactional(self, rows: List[LogRow]) -> bool:
        """Tell whether a listener of any of these rows wants the transaction."""
        kinds = {(row[3], row[4]): row for row in rows}  # a topic and an operation
        return any(
            listener.transactional
            for row in kinds.values()
            for listener in self._audience.of(self.event(row, 1, False))
        )

    def event(self, row: LogRow, attempt: int, again: bool) -> Event:
        """Return the event of a row."""
        row = plain_row(row, self._group)
        return Event(row, self._known.shape_of(row), attempt, again or attempt > 1)

    def failure(self, row: LogRow, attempt: int, error: BaseException) -> Failure:
        """Return what is to be written down of an attempt that failed."""
        delay = None if attempt >= self._max_attempts else self._backoff.wait(attempt)
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        kept = self._kept(row) if delay is None else None
        return Failure(row, attempt, said(error), text, delay, error, kept)

    def _kept(self, row: LogRow) -> Optional[LogRow]:
        """Return what a dead letter keeps of a row, None if the whole."""
        if self._keep_rows:
            return None
        return without_values(row, self._known.shape_of(plain_row(row, self._group)).key)

    def _one(
        self,
        row: LogRow,
        attempt: int,
        again: bool,
        connection: Optional[Connection],
        batches: Batches,
    ) -> Optional[Failure]:
        """Call the listeners for one event; return how that failed, or None."""
        if attempt > self._max_attempts:
            ended = PgEventsError(
                f"given up: attempts that ended with their process: {attempt - 1}"
            )
            return Failure(row, attempt - 1, str(ended), "", None, ended, self._kept(row))
        if not self._strangers.knows(row):
            return None  # as what the group does not listen to
        event = self.event(row, attempt, again)
        if connection is None:
            error = self._listeners(event, row, None, batches)
        else:
            error = self._in_savepoint(event, row, connection, batches)
        return None if error is None else self.failure(row, attempt, error)

    def _in_savepoint(
        self, event: Event, row: LogRow, connection: Connection, batches: Batches
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
        self, event: Event, row: LogRow, connection: Optional[Connection], batches: Batches
    ) -> Optional[BaseException]:
        """Call the listeners for one event until one raises; return what it raised."""
        try:
            for listener in self._audience.of(event):
                if not listener.wants(event):
                    continue
                if listener.batch:
                    batches.setdefault(listener, []).append((row, event))
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
        if self._ledger.ended(connection):
            return Unavailable("an error of the database was overlooked")
        if self._ledger.aborted(connection):
            return UsageError(
                "a statement failed, and the listener went on: nothing more can be written"
                " in this transaction. Put connection.begin_nested() around what may fail"
            )
        return None

    def _batch(
        self,
        listener: Listener,
        members: List[Tuple[LogRow, Event]],
        failures: Dict[int, Failure],
    ) -> None:
        good = [(row, event) for row, event in members if row[0] not in failures]
        if not good:
            return
        outcome = call(listener, [event for _, event in good], self._around)
        if outcome.error is None:
            self._metrics.delivered += 1
            return
        for row, event in good:
            failures[row[0]] = self.failure(row, event.attempt, outcome.error)


def said(error: BaseException) -> str:
    """Return ``repr(error)``, whatever its class makes of that."""
    try:
        return repr(error)
    except Exception:
        return f"<{type(error).__name__}, whose repr() failed>"


def guard(connection: Connection) -> None:
    """Keep a listener from ending the transaction that is to hold the acknowledgement, too."""

    def refuse() -> NoReturn:
        raise UsageError(
            "a transactional listener neither commits nor rolls back: return, or raise, and what it"
            " wrote stays, or is taken back"
        )

    connection.commit = connection.rollback = refuse  # type: ignore[method-assign]
