"""The thread in which a group's listeners are called.

It claims events, calls the listeners for one after the other, and writes down how that went. No
lock of the database is held meanwhile. What is taken is a ``Lease``; its states are drawn there.
"""

import contextlib
import logging
import threading
import time
from typing import Any, Callable, Dict, List, Optional, Set, TypeVar

from ..database.grouplog import Captured
from ..database.notes import gap_of, without_notes
from ..delivery.around import Around
from ..delivery.delivery import Audience
from ..delivery.entries import Entries
from ..delivery.strangers import Strangers
from ..delivery.topics import Topics
from ..errors import DatabaseError, Unavailable
from ..events.logrow import POSITION, LogRow
from ..listening.registry import Registry
from ..metrics import GroupMetrics
from ..reporter import Reporter
from ..retry import Backoff
from ..streams.selection import is_selection
from ..threads import Worker
from .calls import Calls, Ended, guard
from .definition import difference
from .failure import Failures
from .group_rows import NoGroup, Superseded
from .lease import Handled, Lease
from .ledger import Ledger
from .lost import Lost
from .options import Options
from .progress import Progress
from .reports import Reports
from .settlement import Settlement
from .standing import Standing
from .succession import Succession
from .work import Work

logger = logging.getLogger("pgevents")

Answer = TypeVar("Answer")

GAP_CHECK = 10.0  # seconds between two looks whether something was cleaned away
IDLE = 4.0  # seconds between two looks when nothing wakes us
STANDBY = 0.25  # seconds between two looks at what another process holds


class Refused(Exception):
    """The transaction of the listeners could not be committed: refused, or its session lost."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


class Consumer(Worker):
    """The thread of one group in one process."""

    def __init__(
        self,
        group: str,
        options: Options,
        topics: Dict[str, List[str]],
        owner: str,
        ledger: Ledger,
        registry: Registry,
        known: Topics,
        entries: Entries,
        reporter: Reporter,
        metrics: GroupMetrics,
        strangers: Strangers,
        around: Around,
        former: Optional["Consumer"] = None,
    ) -> None:
        super().__init__(f"pgevents-group-{group}")
        # Whose listeners may still run: nobody else may have their events meanwhile.
        self.formers: List["Consumer"] = [] if former is None else [former, *former.formers]
        self._replaced = False  # by one that has defined the group since
        self.group = group
        self.lease: Optional[Lease] = None  # whose rows are handled now
        self._standing: Optional[Standing] = None  # what was handled, and not acknowledged yet
        self.standing_by: Optional[str] = None  # why this process takes nothing
        self.trouble: Optional[str] = None  # why the last turn failed
        self.backfill = Progress()  # as it was when this process took something last
        self.options = options
        self._topics = sorted(topics)
        self.definition = options.definition(topics)
        self._owner = owner
        self._ledger = ledger
        self._failures = Failures(
            group, options.max_attempts, options.backoff, options.keep_rows, known
        )
        self._calls = Calls(
            group,
            options.ordered,
            self._failures,
            ledger.log,
            Audience(registry, known, group),
            entries,
            metrics,
            strangers,
            around,
            lambda: self.stopping,
        )
        self._succession = Succession(group, self.definition, owner, self._succeed)
        self._reports = Reports(group, self._calls.event, reporter, metrics)
        self.metrics = metrics
        self._woken = threading.Event()
        self._idle = False  # others have what there is to do
        self._gap_checked = 0.0
        self._gap: Optional[str] = None  # reported already
        self._captured: Callable[[], List[Captured]] = list
        self._defined = False  # by us …
        self._place: Any = None  # … in this database

    def define(self, captured: Callable[[], List[Captured]]) -> None:
        """Write the group's definition down; the last one that is written counts."""
        self._captured, place = captured, self._ledger.log.place()
        self._ledger.groups.define(
            self.group, self.options.start, captured, **self._own_definition()
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
        found = self._ledger.groups.described(self.group)
        if found is None or found["paused"]:
            return 0
        self.hasten()
        return self._ledger.lag(self.group, self._topics, last)[0]

    def hasten(self) -> None:
        """Acknowledge soon what is handled, and was not acknowledged to write seldom."""
        standing = self._standing
        if standing is not None:
            standing.hasten()
            self.wake()

    def last(self) -> int:
        """Return the position of the newest event that is committed, of all that it may read."""
        return self._ledger.last()

    @property
    def reads_streams(self) -> bool:
        """Whether it reads the events of streams, and not the log."""
        return any(map(is_selection, self._topics))

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
                self._ledger.groups.resign(self.group, self._owner)

    def _wait_for_formers(self) -> None:
        """Wait until the last listener of those before us has returned, or ``stop()``.

        They have the same owner, or one whose session has ended: we would take what they hold.
        """
        while self.formers and not self.stopping:
            former = self.formers[0]
            former.join(time.monotonic() + STANDBY)
            if former.alive:
                self._stand_by("a listener that was called here before still runs")
            else:
                self.formers = self.formers[1:]

    def _turn(self) -> float:
        """Claim and handle once; return how long to wait before the next turn, in seconds."""
        if self._standing is not None:
            wait = self._follow(self._standing)
            if wait is not None:
                return wait
        try:
            work, held, backfill = self._ledger.claims.claim(
                self.group,
                self.definition,
                self._owner,
                self._topics,
                self.options,
                self._idle,
            )
        except Superseded as other:
            self._idle = True
            found = difference(self.definition, other.definition)
            if other.owner == self._owner:
                # Who goes on in our place begins now; or it does not: its answer was lost.
                self.standing_by = f"a change of the group was not finished here: {found}"
            else:
                self._stand_by(f"another process has defined the group otherwise: {found}")
            self._succession.consider(other)
            return STANDBY
        self.standing_by = None
        self._succession.reset()
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
            claim, over = self._ledger.claims.follow(
                self.group, self.definition, standing, self._topics, self.options
            )
            if over:
                self._end()
        except Lost:
            self._standing = None
            self._reports.lost(standing.unnamed)
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
        self.metrics.read += len(work.rows)
        lease = Lease(self._ledger, self.group, work, self.options, self._failures.of, since)
        self.lease = lease
        try:
            self._handle(lease)
        except Lost:
            self._standing = None
            self._reports.lost(len(work.rows))
        finally:
            lease.close()
            self.lease = None

    def _check_place(self) -> None:
        """Define the group, if it is not yet, or in a database that has replaced the former."""
        defined, place = self._defined, self._ledger.log.place()
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
            self._reports.gap(reason)
        self._gap = gap

    def _handle(self, lease: Lease) -> None:
        """Handle what a lease names, and settle it. Raises Lost."""
        rows = lease.work.rows
        reason = gap_of(without_notes(rows)[0])
        if reason is not None:
            self._reports.gap(f"the group {self.group}: {reason}")
        # Who had these before may have died of one of them: one at a time,
        # so that what the next process finds tells which it was.
        singly = lease.work.again
        spared: Set[int] = set()  # events of which one attempt was not counted
        pauses = iter(Backoff())
        while not lease.over:
            # Without any, all was cleaned away, which the gap reported, or failed.
            rows = lease.open[:1] if singly else lease.open
            if not self._calls.transactional(rows):
                self._calls.all(lease, rows, lease)
                self._settle(lease)
                continue
            handled = Handled(lease)
            try:
                self._in_transaction(lease, rows, handled)
                continue
            except Ended as ended:
                if not handled.failures:  # no listener is to blame
                    singly = singly or ended.handled > 0
                    self._pause(next(pauses), ended.__cause__ or ended)
            except Refused as refused:
                # By whose fault?
                (first, *others), error = rows, refused.error
                if others:
                    singly = True
                elif isinstance(error, Unavailable) and first[POSITION] not in spared:
                    spared.add(first[POSITION])
                elif first[POSITION] not in handled.failures:
                    handled.failed(first, error)
            lease.blame(handled.failures.values())
            lease.repeat(rows)

    def _in_transaction(self, lease: Lease, rows: List[LogRow], handled: Handled) -> None:
        """Handle rows and settle that in one transaction.

        Raises Ended when the transaction was lost while listeners were called,
        Refused when it was lost, or refused, afterwards; then nothing of it is there.
        """
        ended: Optional[Ended] = None
        try:
            with self._ledger.log.transaction() as connection:
                guard(connection)
                try:
                    with self._ledger.log.lent(connection):
                        self._calls.all(lease, rows, handled, connection)
                except Ended as error:
                    ended = error
                    raise
                lease.settle_in(connection, handled, release=self.stopping)
        except (DatabaseError, Ended) as error:
            if ended is not None:
                raise ended from error  # what its rollback said does not count
            if not lease.in_doubt:
                raise Ended(0) from error
            settlement = None
            if isinstance(error, Unavailable):
                # Was it committed, and only the answer lost?
                settlement = self._answer(error, lease.resolve)
            if settlement is None:
                lease.refused()
                raise Refused(error) from error
        else:
            settlement = lease.committed()
        self._standing = None
        self._report(settlement)

    def _settle(self, lease: Lease) -> None:
        """Write down how far we are, as soon as the database can be reached. Raises Lost."""
        if lease.settlement().is_all and self._may_stand(lease.work):
            self._stand(lease)
            self._report(lease.stand())
            return
        self._standing = None
        try:
            settlement = lease.settle(release=self.stopping)
        except Unavailable as error:
            settlement = self._answer(error, lease.settle)
        self._report(settlement)

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

    def _may_stand(self, work: Work) -> bool:
        """Tell whether a lease may be kept for what comes next, since all of it is handled."""
        return (
            self._ledger.log.one_writer
            and self.options.ordered
            # One that is allowed a single attempt must not be blamed for an end that comes later.
            and self.options.max_attempts > 1
            and work.behind is not None
            and not self.stopping
        )

    def _stand(self, lease: Lease) -> None:
        if self._standing is None:
            self._standing = Standing(lease.work, lease.since)
        else:
            self._standing.handled(lease.work, lease.since)

    def _report(self, settlement: Settlement) -> None:
        """Report what was written down, now that it is."""
        self.trouble = None
        self._reports.settled(settlement)

    def _stand_by(self, why: str) -> None:
        if self.standing_by != why:
            logger.warning("group %s stands by in this process: %s", self.group, why)
        self.standing_by = why

    def _succeed(self, other: Superseded) -> None:
        self._ledger.groups.succeed(self.group, other, **self._own_definition())

    def _own_definition(self) -> Dict[str, str]:
        """Return the columns of the group's row as this process defines it."""
        return {
            "definition": self.definition,
            "options": self.options.own(),
            "owner": self._owner,
        }
