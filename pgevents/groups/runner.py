"""The thread in which a group's listeners are called; the states of a lease are drawn in groups.

It claims a batch, calls the listeners for one event after the other, and writes
down how that went. No lock is held meanwhile.
"""

import contextlib
import itertools
import json
import logging
import threading
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Set, Tuple, TypeVar

from sqlalchemy.engine import Connection

from .. import checks
from ..database.grouplog import Captured
from ..database.notes import gap_of, without_notes
from ..delivery.around import Around
from ..delivery.delivery import Audience
from ..delivery.strangers import Strangers
from ..delivery.topics import Topics
from ..discreet import discreet, said
from ..errors import DatabaseError, Unavailable, UsageError
from ..events.event import LogRow
from ..listening.registry import Registry
from ..metrics import GroupMetrics
from ..retry import Backoff
from ..threads import Worker
from .calls import ENDED, Calls, Ended, guard
from .ledger import RENEWAL, Failure, Ledger, Lost, NoGroup, Progress, Superseded, Work
from .standing import Standing

logger = logging.getLogger("pgevents")

Answer = TypeVar("Answer")

BATCH_SIZE = 500  # events that are claimed together
LEASE = 10.0  # seconds without a renewal until another process takes over
MAX_ATTEMPTS = 5
FIRST_WAIT, LONGEST_WAIT = 1.0, 300.0  # seconds before an event is tried again
GAP_CHECK = 10.0  # seconds between two looks whether something was cleaned away
IDLE = 4.0  # seconds between two looks when nothing wakes us
STANDBY = 0.25  # seconds between two looks at what another process holds
SUCCESSION = 10.0  # seconds that nobody of another definition was there, until ours counts
STARTS = ("now", "beginning", "backfill")
OPTIONS = ("ordered", "batch_size", "lease", "max_attempts", "backoff", "start", "keep_rows")


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
        keep_rows: bool = True,
    ) -> None:
        if start not in STARTS:
            raise UsageError(f"start={start!r}: choose one of {', '.join(STARTS)}")
        for name, value in (("ordered", ordered), ("keep_rows", keep_rows)):
            if not isinstance(value, bool):
                raise UsageError(f"{name}={value!r}: give True or False")
        if not isinstance(backoff, (tuple, list)) or len(backoff) != 2:
            raise UsageError(f"backoff={backoff!r}: give two waits in seconds, first and longest")
        self.ordered = ordered
        self.batch_size = checks.whole("batch_size", batch_size)
        self.lease = checks.seconds("lease", lease, 1.0)
        self.max_attempts = checks.whole("max_attempts", max_attempts)
        self.backoff = Backoff(*(checks.seconds("backoff", wait) for wait in backoff))
        self.start = start
        self.keep_rows = keep_rows

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
                "keep_rows": self.keep_rows,
            }
        )


class Settlement(NamedTuple):
    """What is to be written down of a lease: what is left of it, and what failed.

    With ``keep`` the lease goes on with the rest, whose first event has this
    ``attempt``. ``done`` events need nothing more.
    """

    rest: List[LogRow]
    failures: List[Failure]
    keep: bool
    attempt: int
    done: int


class Refused(Exception):
    """The transaction of the listeners could not be committed: refused, or its session lost."""

    def __init__(self, error: BaseException, failures: List[Failure]) -> None:
        super().__init__(error)
        self.error = error
        self.failures = failures  # of listeners that were called in it


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
        metrics: GroupMetrics,
        strangers: Strangers,
        around: Around,
        former: Optional["Runner"] = None,
    ) -> None:
        super().__init__(f"pgevents-group-{group}")
        # Whose listeners may still run: nobody else may have their events meanwhile.
        self.formers: List["Runner"] = [] if former is None else [former, *former.formers]
        self._replaced = False  # by one that has defined the group since
        self.group = group
        self.work: Optional[Work] = None  # what is leased now
        self.finished = 0  # of its rows, the first ones that need not be handled again
        self.lost: Optional[Work] = None  # … but somebody took it over
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
        self._calls = Calls(
            group,
            options.max_attempts,
            options.backoff,
            options.ordered,
            options.keep_rows,
            ledger,
            Audience(registry, known, group),
            known,
            metrics,
            strangers,
            self._goes_on,
            self._finish_one,
            around,
        )
        self._tell = tell
        self.metrics = metrics
        self._woken = threading.Event()
        self._idle = False  # others have what there is to do
        self._deserted: Optional[Tuple[Optional[str], float]] = None  # by whom, and since when
        self._gap_checked = 0.0
        self._gap: Optional[str] = None  # told already
        self._captured: Callable[[], List[Captured]] = list
        self._defined = False  # by us …
        self._place: Any = None  # … in this database

    def define(self, captured: Callable[[], List[Captured]]) -> None:
        """Write the group's definition down; the last one who does has the say."""
        self._captured, place = captured, self._ledger.place()
        self._ledger.define(
            self.group,
            self.options.start,
            captured,
            definition=self.definition,
            options=self.options.own(),
            owner=self._owner,
        )
        self._defined, self._place = True, place

    def give_way(self) -> None:
        """End, for another thread here that goes on with the group."""
        self._replaced = True
        self.stop()

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
        self._wait_for_formers()
        waits = iter(Backoff())
        works = False
        while not self.stopping:
            self._woken.clear()  # before we look: what comes later wakes us again
            works = False
            try:
                self._check_place()
                self._check_gap()
                wait = self._turn()
                works, waits = True, iter(Backoff())
                self.trouble = None
            except DatabaseError as error:
                wait = next(waits)
                self._pause(wait, error)
                continue
            except NoGroup as error:  # somebody dropped it
                wait = IDLE
                self._stand_by(str(error))
            except Exception as error:
                # Our own mistake: a thread that ends would leave the group to others.
                wait = next(waits)
                self.trouble = str(error)
                logger.exception("group %s failed, trying again in %.1f s", self.group, wait)
                self._sleep(wait)
                continue
            if wait and not self.stopping:
                self._woken.wait(wait)
        with contextlib.suppress(DatabaseError, Lost):
            self._end()
        if works and not self._replaced:  # else others take our silence for it
            with contextlib.suppress(DatabaseError):
                self._ledger.resign(self.group, self._owner)

    def _wait_for_formers(self) -> None:
        """Wait until the last listener of those before us has returned, or ``stop()``.

        They have the same owner: what they hold would count as ours.
        """
        while self.formers and not self.stopping:
            former = self.formers[0]
            former.join(time.monotonic() + STANDBY)
            if former.alive:
                self._stand_by("a listener called before the group changed here still runs")
            else:
                self.formers = self.formers[1:]

    def _turn(self) -> float:
        """Claim and handle once; return how long to wait before the next turn, in seconds."""
        if self._standing is not None:
            wait = self._follow(self._standing)
            if wait is not None:
                return wait
        try:
            work, held, backfill = self._ledger.claim(
                self.group,
                self.definition,
                self._owner,
                self._topics,
                self.options,
                self._idle,
            )
        except Superseded as other:
            self._idle = True
            difference = _difference(self.definition, other.definition)
            if other.owner == self._owner:
                # Who goes on in our place begins now; or it does not: its answer was lost.
                self.standing_by = f"a change of the group was not finished here: {difference}"
            else:
                self._stand_by(f"another process has defined the group otherwise: {difference}")
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
        self.metrics.read += len(work.rows)
        self.work = work
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
            self.group,
            events,
        )

    def _goes_on(self) -> bool:
        """Tell whether another event may be begun. Raises Lost."""
        if self.lost is not None and self.lost is self.work:
            raise Lost()
        return not self.stopping

    def _finish_one(self) -> None:
        self.finished += 1

    def _check_place(self) -> None:
        """Define the group, if it is not yet, or in a database that has replaced the former."""
        defined, place = self._defined, self._ledger.place()
        if defined and place == self._place:
            return
        if self._standing is not None and self._standing.place != place:
            self._standing = None  # what is not acknowledged there needs not be
        self.define(self._captured)
        if defined:
            logger.warning(
                "group %s goes on in the file that has replaced the former one", self.group
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
            self._write(work, Settlement([], [], False, 1, 0))
            return
        reason = gap_of(without_notes(work.rows)[0])
        if reason is not None:
            self._tell("gap", reason=f"the group {self.group}: {reason}")
        rest, attempt, singly = work.rows, work.attempt, work.again
        failed: Dict[int, Failure] = {}  # attempts whose transaction took them along
        spared: Set[int] = set()  # events of which one such attempt was not counted
        redone = -1  # the last event that somebody here may have seen before
        pauses = iter(Backoff())
        while rest:
            failure = failed.pop(rest[0][0], None)
            if failure is not None:
                settlement = self._settlement(rest, 1, [failure], attempt)
                rest, attempt = self._write(work, settlement), 1
                continue
            # Who had these before may have died of one of them: one at a time,
            # so that what the next process finds tells which it was.
            chunk = rest[:1] if singly else _until(rest, failed)
            again = work.again or chunk[0][0] <= redone
            if not self._calls.transactional(chunk):
                handled, failures = self._calls.all(chunk, attempt, again, None)
                settlement = self._settlement(rest, handled, failures, attempt)
                rest, attempt = self._write(work, settlement), 1
                continue
            try:
                rest, attempt = self._in_transaction(work, chunk, rest, attempt, again), 1
                continue
            except Ended as ended:
                failed.update((failure.row[0], failure) for failure in ended.failures)
                if not ended.failures:  # in nobody's hands
                    singly = singly or ended.handled > 0
                    self._pause(next(pauses), ended.__cause__ or ended)
            except Refused as refused:
                # By whose fault?
                position = chunk[0][0]
                failed.update((failure.row[0], failure) for failure in refused.failures)
                if len(chunk) > 1:
                    singly = True
                elif isinstance(refused.error, Unavailable) and position not in spared:
                    spared.add(position)
                elif position not in failed:
                    failed[position] = self._calls.failure(chunk[0], attempt, refused.error)
            redone = max(redone, chunk[-1][0])

    def _in_transaction(
        self, work: Work, chunk: List[LogRow], rest: List[LogRow], attempt: int, again: bool
    ) -> List[LogRow]:
        """Handle a chunk and write down how that went in one transaction; return what is left.

        Raises Ended when the transaction was lost while listeners were called,
        Refused when it was lost, or refused, afterwards; then nothing of it is there.
        """
        settlement: Optional[Settlement] = None
        failures: List[Failure] = []
        ended: Optional[Ended] = None
        try:
            with self._ledger.transaction() as connection:
                guard(connection)
                try:
                    with self._ledger.lent(connection):
                        handled, failures = self._calls.all(chunk, attempt, again, connection)
                except Ended as error:
                    ended = error
                    raise
                settlement = self._settlement(rest, handled, failures, attempt)
                letters = self._settle(work, settlement, connection)
        except (DatabaseError, Ended) as error:
            if ended is not None:
                raise ended from error  # what its rollback said does not count
            if settlement is None:
                raise Ended(0) from error
            if not isinstance(error, Unavailable):
                raise Refused(error, failures) from error
            # Was it committed, and only the answer lost?
            found = self._answer(error, lambda: self._found(work, settlement))
            if found is None:
                raise Refused(error, failures) from error
            letters = found
        self._standing = None
        return self._written(work, settlement, letters)

    def _write(self, work: Work, settlement: Settlement) -> List[LogRow]:
        """Write down how far we are, as soon as the database can be reached; return what is left.

        Raises Lost.
        """
        if not (settlement.rest or settlement.failures) and self._may_stand(work):
            self._stand(work)
            return self._written(work, settlement, {})
        self._standing = None
        try:
            letters = self._settle(work, settlement, None)
        except Unavailable as error:
            letters = self._answer(error, lambda: self._settle_again(work, settlement))
        return self._written(work, settlement, letters)

    def _settle_again(self, work: Work, settlement: Settlement) -> Dict[int, int]:
        found = self._found(work, settlement)
        return self._settle(work, settlement, None) if found is None else found

    def _found(self, work: Work, settlement: Settlement) -> Optional[Dict[int, int]]:
        """Return the letters of a settlement whose answer was lost; None if it is not there."""
        if not self._ledger.settled(work, settlement.rest, settlement.keep):
            return None
        return self._ledger.letters(self.group, settlement.failures)

    def _answer(self, error: BaseException, ask: Callable[[], Answer]) -> Answer:
        """Return what the database answers, as soon as it does; raise when we are to stop."""
        for pause in Backoff():
            try:
                return ask()
            except Unavailable as another:
                error = another
            if self.stopping:
                raise error
            self._pause(pause, error)
        raise AssertionError("a Backoff has no end")

    def _pause(self, seconds: float, error: BaseException) -> None:
        self.trouble = str(error)
        logger.warning(
            "group %s cannot go on, trying again in %.1f s: %s", self.group, seconds, error
        )
        self._sleep(seconds)

    def _sleep(self, seconds: float) -> None:
        """Sleep until ``stop()``: what happens meanwhile does not make the database better."""
        until = time.monotonic() + seconds
        while not self.stopping and time.monotonic() < until:
            self._woken.clear()
            if not self.stopping:
                self._woken.wait(max(0.0, until - time.monotonic()))

    def _settle(
        self, work: Work, settlement: Settlement, connection: Optional[Connection]
    ) -> Dict[int, int]:
        return self._ledger.settle(
            self.group,
            work,
            settlement.rest,
            settlement.failures,
            self.options.ordered,
            keep=settlement.keep,
            rest_attempt=settlement.attempt,
            connection=connection,
        )

    def _may_stand(self, work: Work) -> bool:
        """Tell whether a lease may be kept for what comes next, since all of it is handled."""
        return (
            self._ledger.one_writer
            and self.options.ordered
            # One that is allowed a single attempt must not be blamed for an end that comes later.
            and self.options.max_attempts > 1
            and work.behind is not None
            and not self.stopping
        )

    def _stand(self, work: Work) -> None:
        if self._standing is None:
            self._standing = Standing(work, self.unwritten_since)
        else:
            self._standing.handled(work, self.unwritten_since)

    def _settlement(
        self, rest: List[LogRow], handled: int, failures: List[Failure], attempt: int
    ) -> Settlement:
        """Return what is to be written down after the first of these rows were handled."""
        before, rest = rest, rest[handled:]
        over = self.stopping or not rest
        waiting = [failure for failure in failures if failure.delay is not None]
        if self.options.ordered and waiting:
            # All that comes after it waits with it.
            over = True
            position = waiting[0].row[0]
            rest = [row for row in before if row[0] > position]
            failures = [f for f in failures if f.delay is None and f.row[0] < position]
            failures.append(waiting[0])
        done = len(before) - len(rest) - len(failures)
        return Settlement(rest, failures, not over, 1 if handled else attempt, done)

    def _written(self, work: Work, settlement: Settlement, letters: Dict[int, int]) -> List[LogRow]:
        """Tell what was written down, now that it is; return what of the lease is still to do."""
        self.trouble = None
        self.finished = len(work.rows) - len(settlement.rest)
        metrics = self.metrics
        metrics.handled += settlement.done
        for failure in settlement.failures:
            metrics.failed += 1
            if failure.delay is None:
                metrics.dead += 1
                self._tell_of_death(failure, letters.get(failure.row[0]))
            else:
                metrics.retried += 1
                logger.warning(
                    "group %s failed for event %s (attempt %d), trying again in %.1f s: %s",
                    self.group,
                    failure.row[0],
                    failure.attempt,
                    failure.delay,
                    _told(failure),
                )
        return settlement.rest if settlement.keep else []

    def _tell_of_death(self, failure: Failure, letter: Optional[int]) -> None:
        event = self._calls.event(failure.row, failure.attempt, failure.attempt > 1)
        logger.error(
            "group %s gives up event %s after %d attempts",
            self.group,
            event.id,
            failure.attempt,
            exc_info=discreet(failure.cause),
        )
        self._tell(
            "dead_lettered", group=self.group, event=event, error=failure.cause, letter=letter
        )

    def _stand_by(self, why: str) -> None:
        if self.standing_by != why:
            logger.warning("group %s stands by in this process: %s", self.group, why)
        self.standing_by = why

    def _succeed(self, other: Superseded) -> None:
        """Let our definition count when nobody of the other has been there for some time.

        Not if that one has tables or moments that ours has not: their events
        would be passed over; but who asked for them here got an error, and no events.
        """
        own = other.owner == self._owner
        if not own and (other.alive or _missing(self.definition, other.definition)):
            self._deserted = None
            return
        now = time.monotonic()
        if self._deserted is None or self._deserted[0] != other.owner:
            self._deserted = other.owner, now
        elif now - self._deserted[1] > SUCCESSION:
            logger.warning("group %s: nobody else is there, this process goes on", self.group)
            self._ledger.succeed(
                self.group,
                other,
                definition=self.definition,
                options=self.options.own(),
                owner=self._owner,
            )


def _until(rows: List[LogRow], failed: Dict[int, Failure]) -> List[LogRow]:
    """Return the rows before the first that has failed."""
    return list(itertools.takewhile(lambda row: row[0] not in failed, rows))


def _told(failure: Failure) -> str:
    """Return a failure's error for the log: what is written down may hold values of rows."""
    return said(failure.cause) + (ENDED if failure.error.endswith(ENDED) else "")


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
            if not kept:
                runner.lost = work
            if runner.work is work:
                runner.written, runner.unwritten_since = finished, now
        except DatabaseError as error:
            logger.warning("the lease of group %s was not renewed: %s", runner.group, error)
        except Exception:  # the leases of the others are to be renewed, too
            logger.exception(
                "the lease of group %s was not renewed by a mistake in pgevents, please report it",
                runner.group,
            )
        return RENEWAL

    def _interval(self, runner: Runner, finished: int) -> float:
        """Return after how many seconds a lease has to be renewed."""
        if self._ledger.one_writer and runner.written == finished:
            # Whether its owner's process lives is known without: only the time is to be written.
            return max(RENEWAL, runner.options.lease / 4)
        return RENEWAL
