"""What a loop of the application's own takes of a group: one lease for each message.

    a claim ──▶ waiting ──the loop──▶ in hand ──ack(), nack()─────▶ acted
                   │                    │ └──ack(bind)─▶ bound ──commit──▶ (gone)
                   └──────close()───────┴──▶ given back    └──rollback──▶ in hand

A lease for each, because one may be acknowledged in a transaction of the application's, which
locks it until it ends, while the others go on.
"""

import logging
import threading
import time
from typing import Any, Callable, Iterator, List, NamedTuple, NoReturn, Optional

from sqlalchemy.engine import Connection

from .. import checks
from ..errors import DatabaseError, LeaseLost, PgEventsError, UsageError
from ..events.logrow import LogRow
from ..metrics import GroupMetrics
from .definition import difference
from .failure import Failure, Failures
from .group_rows import NoGroup, Superseded
from .ledger import Ledger
from .lost import Lost
from .options import Options
from .reports import Reports
from .settlement import Settlement
from .work import Work

logger = logging.getLogger("pgevents")

LOOK = 4.0  # seconds between two looks when nothing wakes us
SOON = 0.25  # seconds between two looks at what others hold, at the most
RENEWAL = 0.5  # seconds between two renewals

_ACKED = Settlement([], [], False, 1, 1)


class Held:
    """A message that is taken: its lease, and what became of it."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.acted = False  # as far as we know
        self.lost = False
        self.in_doubt = False  # the answer of the database was lost
        self.bound: Any = None  # the transaction in which it was acknowledged

    @property
    def row(self) -> LogRow:
        return self.work.rows[0]

    @property
    def is_open(self) -> bool:
        """Whether it waits, as far as we know: one whose transaction has ended may."""
        return not (self.acted or self.lost or self.is_bound)

    @property
    def is_bound(self) -> bool:
        """Whether the transaction in which it was acknowledged goes on."""
        return self.bound is not None and bool(self.bound.is_active)


class Parts(NamedTuple):
    """What a box needs of its hub, and of its group."""

    group: str
    topics: List[str]
    definition: str
    options: Options
    owner: str
    ledger: Ledger
    failures: Failures
    reports: Reports
    metrics: GroupMetrics
    message: Callable[["Box", Held, LogRow, bool], Any]
    expired: Callable[[Any], bool]
    connection_of: Callable[[Any], Connection]
    close: Callable[["Box"], None]


class Box:
    """The messages of a group, one by one, for a ``for`` loop and a ``with``.

    One thread loops; any may act upon a message. ``timeout``: seconds to wait for the next
    message until the loop ends, None for as long as the hub runs. When the box is closed, or
    an exception leaves the ``with``, what was not acted upon is there for others at once, and
    its attempt does not count.
    """

    def __init__(self, parts: Parts, timeout: Optional[float], renew: bool) -> None:
        self.group = parts.group
        self._parts = parts
        self._timeout = None if timeout is None else checks.seconds("timeout", timeout)
        self._renews = renew
        self._since = time.monotonic()
        self._lock = threading.RLock()  # guards the lists, never a wait for a loop
        self._waiting: List[Held] = []
        self._in_hand: List[Held] = []
        self._woken = threading.Event()
        self._changed = threading.Condition()
        self._thread: Optional[int] = None  # that loops
        self._ending = False  # no message is handed out any more
        self.closed = False

    # The loop.

    def __enter__(self) -> "Box":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        """Return the next message. Raises StopIteration when its time is over, or the hub's."""
        self._thread = threading.get_ident()
        deadline = None if self._timeout is None else time.monotonic() + self._timeout
        while not self._ending:
            self._woken.clear()  # before we look: what comes later wakes us again
            message = self._next_waiting()
            if message is not None:
                return message
            wait = self._claim()
            if wait:
                left = wait if deadline is None else min(wait, deadline - time.monotonic())
                if left <= 0:
                    break
                self._woken.wait(left)
        raise StopIteration

    def close(self) -> None:
        """Give back what was not acted upon. Safe twice, and from any thread.

        Raises a DatabaseError where that cannot be; then others get it when its lease is over.
        """
        held = self._closed()
        if held:
            self._give_back(held)

    def _closed(self) -> List[Held]:
        """Hand out nothing any more, and return what was not acted upon."""
        with self._lock:
            self._ending = self.closed = True
            held = self._waiting + [one for one in self._in_hand if one.is_open]
            self._waiting, self._in_hand = [], []
        self._woken.set()
        self._parts.close(self)
        with self._changed:
            self._changed.notify_all()
        return held

    def _next_waiting(self) -> Optional[Any]:
        while True:
            with self._lock:
                self._in_hand = [one for one in self._in_hand if self._keeps(one)]
                if self._ending or not self._waiting:
                    return None
                held = self._waiting.pop(0)
                if held.lost:
                    continue
                self._in_hand.append(held)
            parts, work = self._parts, held.work
            if work.attempt > 1 and parts.failures.exhausted(work.attempt):
                ended = f"given up: attempts that ended with their process: {work.attempt - 1}"
                self._settle(held, self._failed(held, PgEventsError(ended), None))
                continue
            message = parts.message(self, held, held.row, work.again or work.attempt > 1)
            if message.until is not None and parts.expired(message):
                self._settle(held, _ACKED)  # as a group's thread does
                continue
            held.work = work._replace(again=True)  # whoever gets it after this may see it again
            return message

    def _keeps(self, held: Held) -> bool:
        """Tell whether a message in hand is still to be looked after."""
        if held.acted or held.lost:
            return False
        # Where nothing is renewed, the end of its lease decides about one that was rolled back.
        return self._renews or held.bound is None or held.is_bound

    def _claim(self) -> float:
        """Take what there is; return in how many seconds to look again, 0.0 if there was any."""
        parts = self._parts
        try:
            works, held = parts.ledger.claims.claim_each(
                parts.group, parts.definition, parts.owner, parts.topics, parts.options
            )
        except Superseded as other:
            found = difference(parts.definition, other.definition)
            raise UsageError(
                f"another process has defined the group {parts.group!r} otherwise: {found}"
            ) from None
        except NoGroup as error:
            raise UsageError(str(error)) from error
        if not works:
            return LOOK if held is None else max(0.02, min(held or SOON, SOON))
        parts.metrics.read += len(works)
        with self._lock:
            self._since = time.monotonic()
            self._waiting += map(Held, works)
            late = self.closed  # by another thread, meanwhile
        if late:
            self.close()
        return 0.0

    # What becomes of a message.

    def ack(self, held: Held, bind: Any) -> None:
        """Acknowledge a message: see ``Received.ack()``."""
        if bind is None:
            self._require(held)
            self._settle(held, _ACKED)
            return
        connection = self._parts.connection_of(bind)
        self._require(held, bound=True)
        try:
            self._parts.ledger.settle(self.group, held.work, _ACKED, connection)
        except Lost:
            self._raise_lost(held)
        held.bound = connection.get_transaction()
        self._parts.metrics.delivered += 1
        self._parts.reports.settled(_ACKED)

    def nack(self, held: Held, delay: Optional[float], error: Any) -> None:
        """Give a message back as one that failed: see ``Received.nack()``."""
        if delay is not None:
            checks.seconds("delay", delay)
        self._require(held)
        cause = error if isinstance(error, BaseException) else PgEventsError(str(error))
        self._settle(held, self._failed(held, cause, delay))

    def extend(self, held: Held, seconds: float) -> None:
        """Keep a message for longer: see ``Received.extend()``."""
        checks.seconds("seconds", seconds)
        self._require(held)
        parts = self._parts
        if not parts.ledger.keep([held.work], seconds):
            self._raise_lost(held)

    def _failed(self, held: Held, cause: BaseException, delay: Optional[float]) -> Settlement:
        failure: Failure = self._parts.failures.of(held.row, held.work.attempt, cause)
        if delay is not None and failure.delay is not None:
            failure = failure._replace(delay=delay)
        return Settlement([], [failure], False, 1, 0)

    def _settle(self, held: Held, settlement: Settlement) -> None:
        try:
            letters = self._parts.ledger.settle(self.group, held.work, settlement)
        except Lost:
            if not held.in_doubt:  # else it was written, and only the answer was lost
                self._raise_lost(held)
            letters = {}
        except DatabaseError:
            held.in_doubt = True
            raise
        held.acted = True
        if settlement.done:
            self._parts.metrics.delivered += 1
        self._parts.reports.settled(settlement._replace(letters=letters))
        with self._changed:
            self._changed.notify_all()

    def _require(self, held: Held, bound: bool = False) -> None:
        """Raise unless a message can be acted upon; ``bound``: in a transaction, perhaps again."""
        if held.acted:
            raise UsageError("the message was acknowledged or given back already")
        if self.closed:
            raise LeaseLost("the box of the message is closed, and gave the message back")
        if held.lost:
            raise LeaseLost("the message is somebody else's by now: nothing of it counts")
        if held.is_bound and not bound:
            raise UsageError("the message was acknowledged in a transaction that goes on")

    def _raise_lost(self, held: Held) -> NoReturn:
        if held.bound is not None:
            held.acted = True
            raise UsageError("the message was acknowledged already, in a transaction")
        held.lost = True
        raise LeaseLost(
            "the message is somebody else's by now: its lease was over before it was acted upon"
        )

    def _give_back(self, held: List[Held]) -> None:
        parts = self._parts

        def give_back(connection: Connection) -> None:
            for one in held:
                rest = Settlement([one.row], [], False, one.work.attempt, 0)
                try:
                    parts.ledger.settle(self.group, one.work, rest, connection)
                except Lost:
                    pass  # somebody has it

        parts.ledger.log.write(give_back)
        for one in held:
            one.lost = True

    # For the hub.

    @property
    def taken(self) -> int:
        """How many messages are taken and not acted upon."""
        with self._lock:
            return len(self._waiting) + sum(
                one.is_open and one.bound is None for one in self._in_hand
            )

    def wake(self) -> None:
        """There may be something: look."""
        self._woken.set()

    def stop(self, deadline: float) -> bool:
        """Let the loop end after what is in hand; tell whether that was in time."""
        with self._lock:
            self._ending = True
            waiting, self._waiting = self._waiting, []
        self._woken.set()
        self._give_back_if_possible(waiting)
        own = self._thread == threading.get_ident()  # it cannot wait for itself
        with self._changed:
            ended = self._changed.wait_for(
                lambda: not self.taken, 0.0 if own else max(0.0, deadline - time.monotonic())
            )
        self._give_back_if_possible(self._closed())
        return ended or own

    def _give_back_if_possible(self, held: List[Held]) -> None:
        try:
            if held:
                self._give_back(held)
        except DatabaseError as error:  # the hub stops all the same
            logger.warning(
                "group %s could not give %d messages back, which others get when their lease is"
                " over: %s",
                self.group,
                len(held),
                error,
            )

    # For the renewer.

    @property
    def renewal(self) -> float:
        """In how many seconds its leases have to be renewed."""
        return self._since + RENEWAL - time.monotonic() if self._renews else RENEWAL

    def renew(self) -> None:
        """Keep what is taken."""
        with self._lock:
            held = [one for one in self._waiting + self._in_hand if one.is_open]
            now = time.monotonic()
        if held:
            parts = self._parts
            works = [one.work for one in held]
            kept = parts.ledger.keep(works, parts.options.lease)
            for one in held:
                if one.work.lease in kept or not one.is_open:
                    continue
                if one.bound is None:
                    one.lost = True
                else:  # its transaction was committed
                    one.acted = True
        self._since = now
