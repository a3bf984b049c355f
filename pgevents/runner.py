"""The thread in which a group's listeners are called; the states of a lease are drawn in groups.

It claims a batch, calls the listeners for one event after the other, and writes
down how that went. No lock is held meanwhile.
"""

import contextlib
import json
import logging
import threading
import time
import traceback
from typing import Callable, Dict, List, NoReturn, Optional, Tuple

from sqlalchemy.engine import Connection

from . import checks
from .delivery import Audience
from .errors import DatabaseError, PgEventsError, Unavailable, UsageError
from .event import Event, LogRow
from .grouplog import Captured, plain_row
from .ledger import RENEWAL, Failure, Ledger, Lost, NoGroup, Progress, Superseded, Work
from .registry import Listener, Registry
from .retry import Backoff
from .standing import Standing
from .threads import Worker
from .topics import Topics

logger = logging.getLogger("pgevents")

BATCH_SIZE = 500  # events that are claimed together
LEASE = 10.0  # seconds without a renewal until another process takes over
MAX_ATTEMPTS = 5
FIRST_WAIT, LONGEST_WAIT = 1.0, 300.0  # seconds before an event is tried again
GAP_CHECK = 10.0  # seconds between two looks whether something was cleaned away
IDLE = 4.0  # seconds between two looks when nothing wakes us
STANDBY = 0.25  # seconds between two looks at what another process holds
SUCCESSION = 10.0  # seconds that nobody of another definition was there, until ours counts
STARTS = ("now", "beginning", "backfill")
OPTIONS = ("ordered", "batch_size", "lease", "max_attempts", "backoff", "start")


class Options:
    """How a group works. Raises UsageError."""

    def __init__(
        self,
        ordered: bool = True,
        batch_size: int = BATCH_SIZE,
        lease: float = LEASE,
        max_attempts: int = MAX_ATTEMPTS,
        backoff: Tuple[float, float] = (FIRST_WAIT, LONGEST_WAIT),
        start: str = "now",
    ) -> None:
        if start not in STARTS:
            raise UsageError(f"start={start!r}: choose one of {', '.join(STARTS)}")
        if not isinstance(ordered, bool):
            raise UsageError(f"ordered={ordered!r}: give True or False")
        if not isinstance(backoff, (tuple, list)) or len(backoff) != 2:
            raise UsageError(f"backoff={backoff!r}: give two waits in seconds, first and longest")
        self.ordered = ordered
        self.batch_size = checks.whole("batch_size", batch_size)
        self.lease = checks.seconds("lease", lease, 1.0)
        self.max_attempts = checks.whole("max_attempts", max_attempts)
        self.backoff = Backoff(*(checks.seconds("backoff", wait) for wait in backoff))
        self.start = start

    def definition(self, topics: Dict[str, List[str]]) -> str:
        """Return what all processes of the group have to agree about, as JSON."""
        return json.dumps(
            {
                "ordered": self.ordered,
                "topics": {topic: sorted(topics[topic]) for topic in sorted(topics)},
            },
            ensure_ascii=False,  # not every database's encoding can read \u00e9
        )

    def own(self) -> str:
        """Return what may be different in each process, as JSON."""
        return json.dumps(
            {
                "batch_size": self.batch_size,
                "lease": self.lease,
                "max_attempts": self.max_attempts,
                "backoff": [self.backoff.first, self.backoff.longest],
            }
        )


class Runner(Worker):
    """The thread in which a group's listeners are called."""

    def __init__(
        self,
        group: str,
        options: Options,
        topics: Dict[str, List[str]],
        owner: str,
        ledger: Ledger,
        registry: Registry,
        known: Topics,
        tell: Callable[..., None],
    ) -> None:
        super().__init__(f"pgevents-group-{group}")
        self.group = group
        self.work: Optional[Work] = None  # what is leased now
        self.finished = 0  # of its rows, the first ones that need not be handled again
        self.lost = False  # … but somebody took it over
        self.written = 0  # how many of them the lease has been renewed with; -1: not at all …
        self.unwritten_since = 0.0  # … and since when
        self._standing: Optional[Standing] = None  # what was handled, and not acknowledged yet
        self.standing_by: Optional[str] = None  # why this process takes nothing
        self.trouble: Optional[str] = None  # why the last turn failed
        self.backfill = Progress()  # as it was when this process took something last
        self.options = options
        self._topics = sorted(topics)
        self.definition = options.definition(topics)
        self._owner = owner
        self._ledger = ledger
        self._audience = Audience(registry, known, group)
        self._known = known
        self._tell = tell
        self._woken = threading.Event()
        self._idle = False  # others have what there is to do
        self._deserted: Optional[Tuple[Optional[str], float]] = None  # by whom, and since when
        self._gap_checked = 0.0
        self._gap: Optional[str] = None  # told already

    def define(self, captured: Callable[[], List[Captured]]) -> None:
        """Write the group's definition down; the last one who does has the say."""
        self._ledger.define(
            self.group, self.options.start, captured, definition=self.definition,
            options=self.options.own(), owner=self._owner,
        )

    def behind(self, last: int) -> int:
        """Return how many events up to this position the group has to handle yet, in any process.

        A paused one has none to handle.
        """
        found = self._ledger.group(self.group)
        if found is None or found["paused"]:
            return 0
        standing = self._standing
        if standing is not None:
            standing.hasten()
            self.wake()
        return self._ledger.lag(self.group, self._topics, last)[0]

    def wake(self) -> None:
        self._woken.set()

    def run(self) -> None:
        waits = iter(Backoff())
        works = False
        while not self.stopping:
            self._woken.clear()  # before we look: what comes later wakes us again
            works = False
            try:
                self._check_gap()
                wait = self._turn()
                works, waits = True, iter(Backoff())
                self.trouble = None
            except DatabaseError as error:
                wait = next(waits)
                self.trouble = str(error)
                logger.warning(
                    "group %s cannot work, trying again in %.1f s: %s", self.group, wait, error
                )
            except NoGroup as error:  # somebody dropped it
                wait = IDLE
                self._stand_by(str(error))
            except Exception as error:
                # Our own mistake: a thread that ends would leave the group to others.
                wait = next(waits)
                self.trouble = str(error)
                logger.exception("group %s failed, trying again in %.1f s", self.group, wait)
            if wait and not self.stopping:
                self._woken.wait(wait)
        with contextlib.suppress(DatabaseError, Lost):
            self._end()
        if works:  # else others take our silence for it
            with contextlib.suppress(DatabaseError):
                self._ledger.resign(self.group, self._owner)

    def _turn(self) -> float:
        """Claim and handle once; return how long to wait before the next turn, in seconds."""
        if self._standing is not None:
            wait = self._follow(self._standing)
            if wait is not None:
                return wait
        try:
            work, held, backfill = self._ledger.claim(
                self.group, self.definition, self._owner, self._topics, self.options,
                self._idle,
            )
        except Superseded as other:
            self._idle = True
            self._stand_by("another process has defined the group otherwise: "
                           + _difference(self.definition, other.definition))
            self._succeed(other)
            return STANDBY
        self.standing_by = self._deserted = None
        if backfill is not None:
            self.backfill = backfill
        self._idle = work is None and held is not None
        if work is None:
            return IDLE if held is None else max(0.02, min(held or STANDBY, STANDBY))
        self._take(work, time.monotonic())
        return 0.0

    def _follow(self, standing: Standing) -> Optional[float]:
        """Go on with a lease that is kept; return how long to wait, None if it is over."""
        try:
            claim, over = self._ledger.follow(
                self.group, self.definition, standing, self._topics, self.options
            )
            if over:
                self._end()
        except Lost:
            self._standing = None
            self._tell_lost(standing.unnamed)
            return None
        if claim.backfill is not None:
            self.backfill = claim.backfill
        if claim.work is not None:
            named = claim.work.named
            self._take(claim.work, time.monotonic() if named else standing.since)
            return 0.0
        return None if over else standing.wait

    def _end(self) -> None:
        """Acknowledge what is handled, and give back the lease that is kept. Raises Lost."""
        if self._standing is not None:
            self._ledger.end(self.group, self._standing)
            self._standing = None

    def _take(self, work: Work, since: float) -> None:
        """Handle what is taken; ``since`` then nothing was written down."""
        self.finished, self.unwritten_since = 0, since
        self.written = 0 if work.named else -1
        self.work, self.lost = work, False
        try:
            self._handle(work)
        except Lost:
            self._standing = None
            self._tell_lost(len(work.rows))
        finally:
            self.work = None

    def _tell_lost(self, events: int) -> None:
        logger.warning(
            "group %s lost its lease of %d events: another process handles them again",
            self.group, events,
        )

    def _check_gap(self) -> None:
        now = time.monotonic()
        if now - self._gap_checked < GAP_CHECK:
            return
        self._gap_checked = now
        gap = self._ledger.missed(self.group)
        if gap is not None and gap != self._gap:
            reason = f"the log was cleaned before the group {self.group} had read it"
            self._tell("gap", reason=reason)
        self._gap = gap

    def _handle(self, work: Work) -> None:
        """Handle what a lease names, and end the lease. Raises Lost."""
        if not work.rows:  # all cleaned away, which the gap told
            self._ledger.settle(self.group, work, [], [], False)
            return
        rest, attempt, singly = work.rows, work.attempt, work.again
        while rest:
            # Who had these before may have died of one of them: one at a time,
            # so that what the next process finds tells which it was.
            chunk = rest[:1] if singly else rest
            if not self._transactional(chunk):
                rest = self._step(work, chunk, rest, attempt, None)
                attempt = 1
                continue
            try:
                with self._ledger.transaction() as connection:
                    _guard(connection)
                    left = self._step(work, chunk, rest, attempt, connection)
            except Unavailable:
                raise
            except DatabaseError as error:
                # Refused at the commit, as a deferred constraint is: by whose fault?
                if len(chunk) > 1:
                    singly = True
                    continue
                failure = self._failure(chunk[0], attempt, error)
                left = self._settle(work, rest, 1, [failure], attempt, None)
            rest, attempt = left, 1

    def _step(
        self,
        work: Work,
        chunk: List[LogRow],
        rest: List[LogRow],
        attempt: int,
        connection: Optional[Connection],
    ) -> List[LogRow]:
        """Handle a chunk, write down how that went; return what of the lease is still to do."""
        with contextlib.ExitStack() as stack:
            if connection is not None:
                stack.enter_context(self._ledger.lent(connection))
            handled, failures = self._call_all(chunk, attempt, work.again, connection)
        return self._settle(work, rest, handled, failures, attempt, connection)

    def _settle(
        self,
        work: Work,
        rest: List[LogRow],
        handled: int,
        failures: List[Failure],
        attempt: int,
        connection: Optional[Connection],
    ) -> List[LogRow]:
        ordered = self.options.ordered
        rest = rest[handled:]
        over = self.stopping or not rest
        waiting = [failure for failure in failures if failure.delay is not None]
        if ordered and waiting:
            # All that comes after it waits with it.
            over = True
            position = waiting[0].row[0]
            rest = [row for row in work.rows if row[0] > position]
            failures = [f for f in failures if f.delay is None and f.row[0] < position]
            failures.append(waiting[0])
        if not (rest or failures) and self._may_stand(work, attempt, connection):
            self._stand(work)
            return []
        self._standing = None
        self._ledger.settle(
            self.group,
            work,
            rest,
            failures,
            ordered,
            keep=not over,
            rest_attempt=1 if handled else attempt,
            connection=connection,
        )
        return [] if over else rest

    def _may_stand(self, work: Work, attempt: int, connection: Optional[Connection]) -> bool:
        """Tell whether a lease may be kept for what comes next, since all of it is handled."""
        return (
            self._ledger.one_writer
            and self.options.ordered
            # One that is allowed a single attempt must not be blamed for an end that comes later.
            and self.options.max_attempts > 1
            and work.behind is not None
            and attempt == 1
            and connection is None
            and not self.stopping
        )

    def _stand(self, work: Work) -> None:
        if self._standing is None:
            self._standing = Standing(work, self.unwritten_since)
        else:
            self._standing.handled(work, self.unwritten_since)

    def _call_all(
        self, rows: List[LogRow], attempt: int, again: bool, connection: Optional[Connection]
    ) -> Tuple[int, List[Failure]]:
        """Call the listeners; return how many rows were begun, and which failed."""
        failures: Dict[int, Failure] = {}
        batches: Dict[Listener, List[Tuple[LogRow, Event]]] = {}
        begun = 0
        for row in rows:
            if self.lost:
                raise Lost()
            if self.stopping:
                break
            begun += 1
            failure = self._call_one(row, attempt, again, connection, batches)
            if connection is None and not (again or failures or failure or batches):
                self.finished += 1
            if failure is not None:
                failures[row[0]] = failure
                if self.options.ordered and failure.delay is not None:
                    break
            attempt = 1
        for listener, members in batches.items():
            good = [(row, event) for row, event in members if row[0] not in failures]
            try:
                if good:
                    listener.fn([event for _, event in good])
            except BaseException as error:
                for row, event in good:
                    failures[row[0]] = self._failure(row, event.attempt, error)
        return begun, [failures[seq] for seq in sorted(failures)]

    def _call_one(
        self,
        row: LogRow,
        attempt: int,
        again: bool,
        connection: Optional[Connection],
        batches: Dict[Listener, List[Tuple[LogRow, Event]]],
    ) -> Optional[Failure]:
        """Call the listeners for one event; return how that failed, or None."""
        if attempt > self.options.max_attempts:
            ended = PgEventsError(
                f"given up: attempts that ended with their process: {attempt - 1}"
            )
            self._give_up(row, attempt - 1, ended)
            return Failure(row, attempt - 1, str(ended), "", None)
        event = self._event(row, attempt, again)
        try:
            with contextlib.ExitStack() as stack:
                if connection is not None:
                    # What a listener that raises has written is taken back; the others' stays.
                    stack.enter_context(connection.begin_nested())
                for listener in self._audience.of(event):
                    if not listener.wants(event):
                        continue
                    if listener.batch:
                        batches.setdefault(listener, []).append((row, event))
                    elif listener.transactional:
                        listener.fn(event, connection)
                    else:
                        listener.fn(event)
                if connection is not None and self._ledger.aborted(connection):
                    raise UsageError(
                        "a statement failed, and the listener went on: nothing more can be written"
                        " in this transaction. Put connection.begin_nested() around what may fail"
                    )
        except BaseException as error:  # sys.exit(), a time limit: must not end our thread
            return self._failure(row, attempt, error)
        return None

    def _failure(self, row: LogRow, attempt: int, error: BaseException) -> Failure:
        options = self.options
        last = attempt >= options.max_attempts
        delay = None if last else options.backoff.wait(attempt)
        if last:
            self._give_up(row, attempt, error)
        else:
            logger.warning(
                "group %s failed for event %s (attempt %d), trying again in %.1f s: %s",
                self.group, row[0], attempt, delay, _said(error),
            )
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        return Failure(row, attempt, _said(error), text, delay)

    def _give_up(self, row: LogRow, attempts: int, error: BaseException) -> None:
        event = self._event(row, attempts, attempts > 1)
        logger.error(
            "group %s gives up event %s after %d attempts", self.group, event.id, attempts,
            exc_info=error,
        )
        self._tell("dead_lettered", group=self.group, event=event, error=error)

    def _transactional(self, rows: List[LogRow]) -> bool:
        kinds = {(row[3], row[4]): row for row in rows}  # a topic and an operation
        return any(
            listener.transactional
            for row in kinds.values()
            for listener in self._audience.of(self._event(row, 1, False))
        )

    def _event(self, row: LogRow, attempt: int, again: bool) -> Event:
        row = plain_row(row, self.group)
        return Event(row, self._known.shape_of(row), attempt, again or attempt > 1)

    def _stand_by(self, why: str) -> None:
        if self.standing_by != why:
            logger.warning("group %s stands by in this process: %s", self.group, why)
        self.standing_by = why

    def _succeed(self, other: Superseded) -> None:
        """Let our definition count when nobody of the other has been there for some time.

        Not if that one has tables or moments that ours has not: their events
        would be passed over.
        """
        if other.alive or _missing(self.definition, other.definition):
            self._deserted = None
            return
        now = time.monotonic()
        if self._deserted is None or self._deserted[0] != other.owner:
            self._deserted = other.owner, now
        elif now - self._deserted[1] > SUCCESSION:
            logger.warning("group %s: nobody else is there, this process goes on", self.group)
            self._ledger.succeed(
                self.group, other, definition=self.definition, options=self.options.own(),
                owner=self._owner,
            )


def _missing(mine: str, other: str) -> List[str]:
    """Return what another definition has, and this one has not: "public.orders (insert)"."""
    ours, theirs = (json.loads(definition)["topics"] for definition in (mine, other))
    return [
        f"{topic} ({operation})"
        for topic, operations in theirs.items()
        for operation in operations
        if operation not in ours.get(topic, ())
    ]


def _difference(mine: str, other: str) -> str:
    """Return in words how another definition of a group differs."""
    more, less = _missing(mine, other), _missing(other, mine)
    ordered = json.loads(other)["ordered"]
    return ", ".join(
        [f"it has {one}" for one in more]
        + [f"it has no {one}" for one in less]
        + ([f"ordered={ordered}"] if ordered != json.loads(mine)["ordered"] else [])
    )


def _said(error: BaseException) -> str:
    """Return ``repr(error)``, whatever its class makes of that."""
    try:
        return repr(error)
    except Exception:
        return f"<{type(error).__name__}, whose repr() failed>"


def _guard(connection: Connection) -> None:
    """Keep a listener from ending the transaction that is to hold the acknowledgement, too."""

    def refuse() -> NoReturn:
        raise UsageError(
            "a transactional listener neither commits nor rolls back: return, or raise, and what it"
            " wrote stays, or is taken back"
        )

    connection.commit = connection.rollback = refuse  # type: ignore[method-assign]


class Renewer(Worker):
    """Keeps the leases of all runners of a hub while their listeners run."""

    def __init__(self, ledger: Ledger, runners: Callable[[], List[Runner]]) -> None:
        super().__init__("pgevents-renewer")
        self._ledger = ledger
        self._runners = runners
        self._woken = threading.Event()

    def wake(self) -> None:
        self._woken.set()

    def run(self) -> None:
        wait = RENEWAL
        while not self._woken.wait(wait):
            wait = min([RENEWAL, *(self._renew(runner) for runner in self._runners())])

    def _renew(self, runner: Runner) -> float:
        """Renew a runner's lease if it is time; return in how many seconds to look again."""
        work, finished = runner.work, runner.finished
        if work is None:
            return RENEWAL
        now = time.monotonic()
        left = runner.unwritten_since + self._interval(runner, finished) - now
        if left > 0:
            return left
        try:
            kept = self._ledger.renew(
                runner.group, work, runner.options.lease, finished, lambda: runner.work is work
            )
            if runner.work is work:
                runner.lost = not kept
                runner.written, runner.unwritten_since = finished, now
        except DatabaseError as error:
            logger.warning("the lease of group %s was not renewed: %s", runner.group, error)
        return RENEWAL

    def _interval(self, runner: Runner, finished: int) -> float:
        """Return after how many seconds a lease has to be renewed."""
        if self._ledger.one_writer and runner.written == finished:
            # Whether its owner's process lives is known without: only the time is to be written.
            return max(RENEWAL, runner.options.lease / 4)
        return RENEWAL
