"""Groups: of many processes one gets each event, even after a crash.

A group's row holds its cursor. What a process takes is named by one lease row;
when all is handled, that row is deleted, and nothing is left.

    log ──claim──▶ leased ──all handled──▶ (gone)
                   │ ▲ │
     its process   │ │ └──an event raised──▶ waiting ──its time──▶ leased, attempt + 1
     died or lost  ▼ │                          │
     the lease    due┘                          └──attempts used up──▶ dead letter

Claiming is one short transaction: lock the group's row, read the next batch
behind the cursor, write the lease, move the cursor. That lock is never held
while a listener runs. The model is that of a Redis stream's consumer group.
"""

import copy
import logging
import threading
import time
import weakref
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Set, Tuple

from sqlalchemy.engine import Connection

from .. import checks
from ..channels.names import channel_pattern, is_topic, topic_of
from ..database.backend import Backend
from ..database.grouplog import Captured, GroupLog, plain_row
from ..delivery.around import Around
from ..delivery.entries import Entries
from ..delivery.strangers import Strangers
from ..delivery.topics import Topics
from ..errors import DatabaseError, UsageError
from ..events.entry import Entry
from ..events.logrow import LogRow
from ..listening.listener import Listener
from ..listening.registry import Registry
from ..listening.target import OPERATIONS, operation_of
from ..metrics import GroupMetrics
from ..reporter import Reporter
from ..streams.selection import is_selection
from ..threads import Worker
from .box import Box, Held
from .box import Parts as BoxParts
from .consumer import Consumer
from .failure import Failures
from .group import Books, Group
from .ledger import Ledger
from .options import NAMES, Options
from .received import Received
from .renewer import Kept, Renewer
from .reports import Reports

logger = logging.getLogger("pgevents")

DRAIN_PAUSE = 0.02  # seconds between two looks of drain()


def _definition(consumer: Consumer, topics: Optional[Dict[str, List[str]]]) -> Optional[str]:
    return None if topics is None else consumer.options.definition(topics)


class Groups:
    """All groups of a hub, and the threads that work for them."""

    def __init__(
        self,
        backend: Backend,
        registry: Registry,
        topics: Topics,
        entries: Entries,
        reporter: Reporter,
        strangers: Strangers,
        around: Around,
    ) -> None:
        self._around = around
        self._backend = backend
        self._registry = registry
        self._known = topics
        self._entries = entries
        self._reporter = reporter
        self._strangers = strangers
        self._books = Books(
            self.ledger, self._ledger_of, self.event, self.wake, self.drop, self._hasten
        )
        self._options: Dict[str, Options] = {}
        self._metrics: Dict[str, GroupMetrics] = {}  # also of those that run no more
        self._log: Optional[GroupLog] = None
        self._ledger: Optional[Ledger] = None
        self._streams: Optional[Ledger] = None  # of groups that read the events of streams
        self._consumers: Dict[str, Consumer] = {}
        self._unfinished: Dict[str, Consumer] = {}  # stop() has not waited for their listeners
        self._boxes: List[Box] = []  # that loops of the application's own read
        self._renewer: Optional[Renewer] = None
        self._life: Optional[object] = None  # from open() to close(): outside, no thread begins
        self._leaving: "weakref.WeakKeyDictionary[Listener, Set[str]]"
        self._leaving = weakref.WeakKeyDictionary()  # … and at which moments
        self._lock = threading.Lock()  # guards the fields above, never a wait
        self._turns = threading.RLock()  # one thread defines groups, the others wait

    def group(self, name: str, **options: Any) -> Group:
        """Return a group, and say how it works. Raises UsageError while it runs."""
        checks.name("group", name)
        if options:
            if name in self._consumers:
                raise UsageError(f"the group {name!r} runs: say how it works before start()")
            unknown = sorted(set(options) - set(NAMES))
            if unknown:
                raise UsageError(
                    f"{unknown[0]}={options[unknown[0]]!r}: a group has the options"
                    f" {', '.join(NAMES)}"
                )
            self._options[name] = Options(**options)
        return Group(name, self._books)

    def all(self) -> List[Group]:
        """Return all groups in the database."""
        return [Group(name, self._books) for name in self.ledger().groups.names()]

    def expire(self, seconds: float) -> int:
        """Delete the dead letters of all groups that are as old; return how many."""
        return self.ledger().dead.expire(seconds)

    def drop(self, name: str) -> None:
        """Forget a group. Raises UsageError while it runs here."""
        if name in self._consumers:
            raise UsageError(f"the group {name!r} runs in this process: stop the hub before drop()")
        self.ledger().drop(name)

    def ledger(self) -> Ledger:
        """Return what is written down of the groups."""
        with self._lock:
            if self._ledger is None:
                self._log = self._backend.group_log()
                tables = self._backend.tables
                self._ledger = Ledger(tables, self._log)
                self._streams = Ledger(tables, self._log.streams(), tables.events)
            return self._ledger

    def streams(self) -> Ledger:
        """Return what is written down of the groups that read the events of streams."""
        self.ledger()
        streams = self._streams
        assert streams is not None
        return streams

    def _ledger_for(self, topics: Iterable[str]) -> Ledger:
        """Return the ledger of a group that listens to these topics."""
        return self.streams() if any(map(is_selection, topics)) else self.ledger()

    def _ledger_of(self, name: str) -> Ledger:
        """Return the ledger of a group as it is defined in the database."""
        found = self.ledger().groups.described(name)
        return self._ledger_for(() if found is None else found["definition"]["topics"])

    def _hasten(self, name: str) -> None:
        """Let the thread of a group, if it runs here, acknowledge what it has handled."""
        consumer = self._consumers.get(name)
        if consumer is not None:
            consumer.hasten()

    def event(self, name: str, row: List[Any], attempt: int) -> Entry:
        """Return the event of a group's log row that was kept as JSON."""
        plain = plain_row(tuple(row), name)
        return self._entries.of(plain, attempt, attempt > 1)

    def open(self) -> None:
        """Let threads begin, until ``close()``."""
        self._life = object()

    def close(self) -> None:
        """Let no thread begin any more, whoever is about to start one. Returns at once."""
        with self._lock:
            self._life = None

    def start(self, owner: str) -> None:
        """Start a thread for each group somebody listens in, and leave those that run.

        Where a group cannot be defined, the thread that runs goes on as it is.
        The others are started, and the first error is raised.
        """
        errors: List[DatabaseError] = []
        with self._turns:
            life = self._life
            for name, topics in self._wanted().items():
                if life is None or life is not self._life:
                    return
                try:
                    self._start(name, topics, owner, life)
                except DatabaseError as error:
                    errors.append(error)
        if errors:
            raise errors[0]

    def _start(self, name: str, topics: Dict[str, List[str]], owner: str, life: object) -> None:
        options = self._options.setdefault(name, Options()).of(topics)
        former, ledger = self._consumers.get(name), self._ledger_for(topics)
        if former is not None and not former.stopping:
            if former.definition == options.definition(topics):
                if ledger.groups.described(name) is None:  # somebody dropped the log
                    former.define(lambda: self._captured(topics))
                return
        consumer = Consumer(
            name,
            options,
            topics,
            owner,
            ledger,
            self._registry,
            self._known,
            self._entries,
            self._reporter,
            self._metrics.setdefault(name, GroupMetrics()),
            self._strangers,
            self._around,
            former or self._unfinished.get(name),
        )
        try:
            consumer.define(lambda: self._captured(topics))
        except DatabaseError as error:
            if former is None or not former.stopping:
                raise
            # Nobody else is there to go on: it tries again itself.
            logger.warning("group %s is not defined yet, trying again: %s", name, error)
        self._begin(consumer, life)

    def _begin(self, consumer: Consumer, life: object) -> None:
        """Start a thread in the place of the former one, unless the hub was stopped meanwhile."""
        with self._lock:
            if life is not self._life:
                return
            former = self._consumers.get(consumer.group)
            if former is not None:
                former.give_way()
            self._unfinished.pop(consumer.group, None)
            self._consumers[consumer.group] = consumer
            consumer.start()
            self._begin_renewing()

    def _begin_renewing(self) -> None:
        if self._renewer is None:
            self._renewer = Renewer(self._leases)
            self._renewer.start()

    def box(
        self,
        name: str,
        patterns: Sequence[str],
        owner: str,
        batch_size: int,
        timeout: Optional[float],
        renew: bool,
        connection_of: Callable[[Any], Connection],
    ) -> Box:
        """Return the messages of a group, for a loop of the application's own.

        Raises UsageError where listeners here serve the group, or it is ordered.
        """
        checks.name("group", name)
        topics = {topic_of(channel_pattern(one)): ["message"] for one in patterns}
        options = copy.copy(self._options.setdefault(name, Options()).of(topics))
        options.batch_size = checks.whole("batch_size", batch_size)
        if name in self._wanted():
            raise UsageError(f"the group {name!r} has listeners here, which receive its messages")
        if options.ordered:
            raise UsageError(
                f"the group {name!r} is ordered: one that hands out its messages one by one is not"
            )
        ledger, metrics = self.ledger(), self._metrics.setdefault(name, GroupMetrics())
        definition = options.definition(topics)
        ledger.groups.define(
            name, options.start, list, definition=definition, options=options.own(), owner=owner
        )

        def event(row: LogRow, attempt: int, redelivered: bool) -> Entry:
            return self._entries.of(plain_row(row, name), attempt, redelivered)

        def message(box: Box, held: Held, row: LogRow, redelivered: bool) -> Received:
            return Received(box, held, row, redelivered, self._entries.decoder)

        parts = BoxParts(
            name,
            sorted(topics),
            definition,
            options,
            owner,
            ledger,
            Failures(name, options.max_attempts, options.backoff, options.keep_rows, self._known),
            Reports(name, event, self._reporter, metrics),
            metrics,
            message,
            self._entries.expired,
            connection_of,
            self._forget_box,
        )
        box = Box(parts, timeout, renew)
        with self._lock:
            if self._life is None:
                raise UsageError("messages() needs a hub that is started")
            self._boxes.append(box)
            self._begin_renewing()
        return box

    def _forget_box(self, box: Box) -> None:
        with self._lock:
            self._boxes = [one for one in self._boxes if one is not box]

    def _running(self) -> List[Consumer]:
        """Return the threads of all groups; those, too, whose last listener has not returned."""
        consumers = list(self._consumers.values())
        return consumers + [former for consumer in consumers for former in consumer.formers]

    def _leases(self) -> List[Kept]:
        """Return the leases whose rows are handled now."""
        leases = (consumer.lease for consumer in self._running())
        return [*(lease for lease in leases if lease is not None), *self._boxes]

    def leave(self, leaving: Set[Listener], moments: Tuple[str, ...]) -> None:
        """End the threads of groups that are others without these listeners.

        What they took would else be acknowledged though nobody here handles it.
        """
        with self._turns:  # who defines a group now would count them in
            self._leaving.update((one, {*self._leaving.get(one, ()), *moments}) for one in leaving)
            wanted = self._wanted()
            ending = [
                consumer
                for consumer in list(self._consumers.values())
                if consumer.group in {one.group for one in leaving}
                and _definition(consumer, wanted.get(consumer.group)) != consumer.definition
            ]
            for consumer in ending:
                consumer.stop()
        # Not in a lock: a listener that runs may want to listen, or to remove.
        for consumer in ending:
            deadline = time.monotonic() + consumer.options.lease
            ended = all([one.join(deadline) for one in [consumer, *consumer.formers]])
            with self._lock:
                # Another thread here that begins with the group later waits for what runs on.
                if (
                    ended
                    and consumer.group not in wanted
                    and (self._consumers.get(consumer.group) is consumer)
                ):
                    del self._consumers[consumer.group]

    def wake(self) -> None:
        """Something happened: let the threads look."""
        for consumer in list(self._consumers.values()):
            consumer.wake()
        for box in self._boxes:
            box.wake()

    def wake_streams(self) -> None:
        """Something may have been appended to a stream: let those threads look."""
        for consumer in list(self._consumers.values()):
            if consumer.reads_streams:
                consumer.wake()

    def drain(self, deadline: float) -> bool:
        """Wait until the groups that run here have handled what is committed now.

        Tell whether it was in time. Raises UsageError inside a listener.
        """
        consumers = [consumer for consumer in self._running() if consumer.alive]
        if any(consumer.current for consumer in consumers):
            raise UsageError("a listener cannot drain() its own hub: it would wait for itself")
        if not consumers:
            return True
        lasts = [consumer.last() for consumer in consumers]
        self.wake()
        for consumer, last in zip(consumers, lasts):
            while consumer.behind(last):
                if time.monotonic() > deadline:
                    return False
                time.sleep(DRAIN_PAUSE)
        return True

    def halt(self) -> None:
        """Let no thread begin with another event. Returns at once."""
        for consumer in self._running():
            consumer.stop()

    def stop(self, deadline: float) -> bool:
        """Let each thread finish the event it handles; tell whether all ended in time.

        What was taken and not begun is there for other processes at once.
        """
        with self._lock:
            consumers = self._running()
            last, self._consumers = self._consumers, {}
            renewer, self._renewer = self._renewer, None
            boxes = list(self._boxes)
        for consumer in consumers:
            consumer.stop()
        ended = all([box.stop(deadline) for box in boxes])
        ended = all([consumer.join(deadline) for consumer in consumers]) and ended
        with self._lock:
            self._unfinished.update(last)
            for name, consumer in list(self._unfinished.items()):
                if not any(one.alive for one in [consumer, *consumer.formers]):
                    del self._unfinished[name]
        if renewer is not None:
            renewer.stop()
            renewer.join(deadline)
        log, self._log, self._ledger, self._streams = self._log, None, None, None
        if log is not None:
            log.dispose()
        return ended

    def after_fork(self) -> None:
        """In a child: the threads and connections are the parent's."""
        self._lock, self._turns = threading.Lock(), threading.RLock()
        self._life = None
        log, self._log, self._ledger, self._streams = self._log, None, None, None
        self._consumers = {}
        self._unfinished = {}
        self._boxes = []
        self._renewer = None
        self._metrics = {}
        if log is not None:
            log.dispose(close=False)

    def threads(self) -> List[Worker]:
        """Return the threads that work for groups."""
        consumers: List[Worker] = [*self._running()]
        renewer = self._renewer
        return consumers if renewer is None else [*consumers, renewer]

    def counts(self) -> Dict[str, int]:
        """Return what the groups of this process add to the hub's counters."""
        found: Dict[str, int] = {}
        for metrics in list(self._metrics.values()):
            for name, number in metrics.in_all().items():
                found[name] = found.get(name, 0) + number
        return found

    def status(self) -> Dict[str, Any]:
        """Return for each group that runs here how much it has taken, and why it stands by.

        What it has done since the process began is counted: see GroupMetrics.
        ``error`` is why it cannot work, while it cannot.
        ``backfill`` is how far it was when this process took something last.
        """
        found: Dict[str, Dict[str, Any]] = {}
        for name, consumer in list(self._consumers.items()):
            lease, backfill = consumer.lease, consumer.backfill
            found[name] = {
                "taken": 0 if lease is None else len(lease.work.rows),
                "standing_by": consumer.standing_by,
                "error": consumer.trouble,
                "backfill": backfill._asdict() if backfill.total else None,
                **consumer.metrics.as_dict(),
            }
        for box in self._boxes:
            taken = found[box.group]["taken"] if box.group in found else 0
            found[box.group] = {
                "taken": taken + box.taken,
                "standing_by": None,
                "error": None,
                "backfill": None,
                **self._metrics[box.group].as_dict(),
            }
        return found

    def _topics_of(self, listener: Listener) -> Iterable[str]:
        if listener.target is not None:
            topics = self._known.topics_of(listener.target)
            for topic in topics:
                if is_topic(topic) or is_selection(topic):
                    raise UsageError(
                        f"{listener.name}: a group cannot listen to {topic}, as its schema is named"
                        " like a channel or a stream: listen without group="
                    )
            return topics
        if not listener.topics:
            raise UsageError(f"{listener.name}: a group listens to tables, not to ANY")
        return listener.topics

    def _captured(self, topics: Dict[str, List[str]]) -> List[Captured]:
        return self._backend.captured(
            [topic for topic in topics if not (is_topic(topic) or is_selection(topic))]
        )

    def _wanted(self) -> Dict[str, Dict[str, List[str]]]:
        """Return group → topic → operations, from the listeners there are and do not leave."""
        wanted: Dict[str, Dict[str, List[str]]] = {}
        for listener, moments in self._registry.all():
            if listener.group is None:
                continue
            left = self._leaving.get(listener, ())
            operations = [operation_of(moment) for moment in moments if moment not in left]
            if not operations:
                continue
            topics = wanted.setdefault(listener.group, {})
            for topic in self._topics_of(listener):
                merged = {*topics.get(topic, ()), *operations}
                topics[topic] = [one for one in (*OPERATIONS, "message", "event") if one in merged]
        return wanted
