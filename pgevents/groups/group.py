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

import datetime
import json
import logging
import threading
import time
import weakref
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    List,
    NamedTuple,
    Optional,
    Set,
    Tuple,
    Union,
)

from .. import checks
from ..database.backend import Backend
from ..database.grouplog import LAST, Captured, GroupLog, plain_row
from ..delivery.around import Around
from ..delivery.strangers import Strangers
from ..delivery.topics import Topics
from ..errors import DatabaseError, UsageError
from ..events.event import Event
from ..listening.registry import Listener, Registry
from ..listening.target import OPERATIONS
from ..metrics import GroupMetrics
from ..threads import Worker
from .ledger import Ledger
from .runner import OPTIONS, Options, Renewer, Runner

logger = logging.getLogger("pgevents")

DRAIN_PAUSE = 0.02  # seconds between two looks of drain()


class DeadLetter(NamedTuple):
    """An event that a group has given up. ``at`` is when it did.

    Where the group keeps no rows the event has the columns of its key alone.
    """

    id: int
    event: Event
    attempts: int
    error: str
    traceback: str
    at: datetime.datetime


class Group:
    """One group of a hub: what it has to do, and what is done about it.

    All methods ask the database, and raise a DatabaseError if that fails, or
    UsageError if the group has never been started.
    """

    def __init__(self, name: str, groups: "Groups") -> None:
        self.name = name
        self._groups = groups

    def lag(self) -> Tuple[int, float]:
        """Return how many events wait, and how many seconds the oldest has waited."""
        return self._groups.ledger().lag(self.name, self._topics())

    def info(self) -> Dict[str, Any]:
        """Return how the group is defined, as a dict: ordered, topics, batch_size, paused, …

        What each process may choose is as the last one that started has it.
        ``backfilled`` is how many rows its backfill had, None if it has none.
        """
        found = self._groups.ledger().group(self.name)
        if found is None:
            raise UsageError(f"there is no group {self.name!r}")
        return {
            **found["definition"],
            **found["options"],
            "paused": found["paused"],
            "backfilled": found["backfill"].total or None,
        }

    def progress(self) -> Optional[Dict[str, int]]:
        """Return how many rows of the backfill are handled, of how many: {"done": n, "total": m}.

        None when there is no backfill, or when it is over.
        """
        progress = self._groups.ledger().progress(self.name)
        return progress._asdict() if progress.done < progress.total else None

    def served_by(self) -> List[str]:
        """Return the processes that are known to serve it, as "host:pid"; none if nobody does.

        Those that handle something now, and the one that did last or has
        defined it. After that one has ended, another is known in some seconds.
        """
        owners = self._groups.ledger().owners(self.name)
        return sorted({owner.rpartition(":")[0] for owner in owners})

    def pause(self) -> None:
        """Let no process claim anything more, until ``resume()``."""
        self._groups.ledger().pause(self.name, True)

    def resume(self) -> None:
        """Undo ``pause()``."""
        self._groups.ledger().pause(self.name, False)
        self._groups.wake()

    def rewind(self, to: Union[str, int, datetime.datetime, Event]) -> None:
        """Move the group's position: what comes after it is handled, for the first time or again.

        ``to`` is "beginning" (of what the log keeps), "now" (skip what
        waits), an aware datetime, or a position or event, which is handled
        again, too.
        """
        if isinstance(to, Event):
            to = to.position
        if isinstance(to, datetime.datetime):
            if to.tzinfo is None:
                raise UsageError(f"rewind to {to!r}: a time needs a time zone")
            self._groups.ledger().rewind(self.name, to.timestamp())
        elif to in ("beginning", "now") or (type(to) is int and 0 <= to <= LAST):
            self._groups.ledger().rewind(self.name, to)
        else:
            raise UsageError(
                f'rewind to {to!r}: give "beginning", "now", a datetime, a position or an event'
            )
        self._groups.wake()

    def dead_letters(self, older_than: float = 0.0) -> List[DeadLetter]:
        """Return what the group has given up, oldest first.

        ``older_than``: only what it had given up so many seconds ago.
        """
        checks.seconds("older_than", older_than)
        return [
            DeadLetter(
                row["id"],
                self._groups.event(self.name, json.loads(row["event"]), row["attempts"]),
                row["attempts"],
                row["error"],
                row["traceback"],
                datetime.datetime.fromtimestamp(row["at"], datetime.timezone.utc),
            )
            for row in self._groups.ledger().dead_letters(self.name, older_than)
        ]

    def retry_dead(self, *letters: Union[int, DeadLetter]) -> int:
        """Let these dead letters, or all, be handled anew; return how many.

        Those whose event is not in the log any more stay where they are.
        """
        ids = _ids("retry", letters)
        count = self._groups.ledger().retry_dead(self.name, ids or None)
        self._groups.wake()
        return count

    def discard_dead(self, *letters: Union[int, DeadLetter], older_than: float = 0.0) -> int:
        """Forget these dead letters, or all: their events are never handled; return how many.

        ``older_than``: only those that were given up so many seconds ago, or before.
        """
        ids: Optional[List[int]] = _ids("discard", letters) or None
        if checks.seconds("older_than", older_than):
            old = self._groups.ledger().dead_letters(self.name, older_than)
            ids = [row["id"] for row in old if ids is None or row["id"] in ids]
        return self._groups.ledger().discard_dead(self.name, ids)

    def drop(self) -> None:
        """Forget the group, its position and its dead letters. Its processes must be stopped."""
        self._groups.drop(self.name)

    def __repr__(self) -> str:
        return f"<Group {self.name}>"

    def _topics(self) -> List[str]:
        return sorted(self.info()["topics"])


def _ids(verb: str, letters: Iterable[Union[int, DeadLetter]]) -> List[int]:
    ids = [letter.id if isinstance(letter, DeadLetter) else letter for letter in letters]
    for given in ids:
        if type(given) is not int or not 0 <= given <= LAST:
            raise UsageError(f"{verb} {given!r}: give dead letters, or their ids")
    return ids


def _definition(runner: Runner, topics: Optional[Dict[str, List[str]]]) -> Optional[str]:
    return None if topics is None else runner.options.definition(topics)


class Groups:
    """All groups of a hub, and the threads that work for them."""

    def __init__(
        self,
        backend: Backend,
        registry: Registry,
        topics: Topics,
        tell: Callable[..., None],
        strangers: Strangers,
        around: Around,
    ) -> None:
        self._around = around
        self._backend = backend
        self._registry = registry
        self._known = topics
        self._tell = tell
        self._strangers = strangers
        self._options: Dict[str, Options] = {}
        self._metrics: Dict[str, GroupMetrics] = {}  # also of those that run no more
        self._log: Optional[GroupLog] = None
        self._ledger: Optional[Ledger] = None
        self._runners: Dict[str, Runner] = {}
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
            if name in self._runners:
                raise UsageError(f"the group {name!r} runs: say how it works before start()")
            unknown = sorted(set(options) - set(OPTIONS))
            if unknown:
                raise UsageError(
                    f"{unknown[0]}={options[unknown[0]]!r}: a group has the options"
                    f" {', '.join(OPTIONS)}"
                )
            self._options[name] = Options(**options)
        return Group(name, self)

    def names(self) -> List[str]:
        """Return the names of all groups in the database."""
        return self.ledger().names()

    def expire(self, seconds: float) -> int:
        """Forget the dead letters of all groups that are as old; return how many."""
        return self.ledger().expire_dead(seconds)

    def drop(self, name: str) -> None:
        """Forget a group. Raises UsageError while it runs here."""
        if name in self._runners:
            raise UsageError(f"the group {name!r} runs in this process: stop the hub before drop()")
        self.ledger().drop(name)

    def ledger(self) -> Ledger:
        """Return what is written down of the groups."""
        with self._lock:
            if self._ledger is None:
                self._log = self._backend.group_log()
                self._ledger = Ledger(self._backend.tables, self._log)
            return self._ledger

    def event(self, name: str, row: List[Any], attempt: int) -> Event:
        """Return the event of a group's log row that was kept as JSON."""
        plain = plain_row(tuple(row), name)
        return Event(plain, self._known.shape_of(plain), attempt, attempt > 1)

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
        options = self._options.setdefault(name, Options())
        former, ledger = self._runners.get(name), self.ledger()
        if former is not None and not former.stopping:
            if former.definition == options.definition(topics):
                if ledger.group(name) is None:  # somebody dropped the log
                    former.define(lambda: self._captured(topics))
                return
        runner = Runner(
            name,
            options,
            topics,
            owner,
            ledger,
            self._registry,
            self._known,
            self._tell,
            self._metrics.setdefault(name, GroupMetrics()),
            self._strangers,
            self._around,
            former,
        )
        try:
            runner.define(lambda: self._captured(topics))
        except DatabaseError as error:
            if former is None or not former.stopping:
                raise
            # Nobody else is there to go on: it tries again itself.
            logger.warning("group %s is not defined yet, trying again: %s", name, error)
        self._begin(runner, ledger, life)

    def _begin(self, runner: Runner, ledger: Ledger, life: object) -> None:
        """Start a thread in the place of the former one, unless the hub was stopped meanwhile."""
        with self._lock:
            if life is not self._life:
                return
            former = self._runners.get(runner.group)
            if former is not None:
                former.give_way()
            self._runners[runner.group] = runner
            runner.start()
            if self._renewer is None:
                self._renewer = Renewer(ledger, self._running)
                self._renewer.start()

    def _running(self) -> List[Runner]:
        """Return the threads of all groups; those, too, whose last listener has not returned."""
        runners = list(self._runners.values())
        return runners + [former for runner in runners for former in runner.formers]

    def leave(self, leaving: Set[Listener], moments: Tuple[str, ...]) -> None:
        """End the threads of groups that are others without these listeners.

        What they took would else be acknowledged though nobody here handles it.
        """
        with self._turns:  # who defines a group now would count them in
            self._leaving.update((one, {*self._leaving.get(one, ()), *moments}) for one in leaving)
            wanted = self._wanted()
            ending = [
                runner
                for runner in list(self._runners.values())
                if runner.group in {one.group for one in leaving}
                and _definition(runner, wanted.get(runner.group)) != runner.definition
            ]
            for runner in ending:
                runner.stop()
        # Not in a lock: a listener that runs may want to listen, or to remove.
        for runner in ending:
            deadline = time.monotonic() + runner.options.lease
            ended = all([one.join(deadline) for one in [runner, *runner.formers]])
            with self._lock:
                # Another thread here that begins with the group later waits for what runs on.
                if (
                    ended
                    and runner.group not in wanted
                    and (self._runners.get(runner.group) is runner)
                ):
                    del self._runners[runner.group]

    def wake(self) -> None:
        """Something happened: let the threads look."""
        for runner in list(self._runners.values()):
            runner.wake()

    def drain(self, deadline: float) -> bool:
        """Wait until the groups that run here have handled what is committed now.

        Tell whether it was in time. Raises UsageError inside a listener.
        """
        runners = [runner for runner in self._running() if runner.alive]
        if any(runner.current for runner in runners):
            raise UsageError("a listener cannot drain() its own hub: it would wait for itself")
        if not runners:
            return True
        last = self.ledger().last()
        self.wake()
        for runner in runners:
            while runner.behind(last):
                if time.monotonic() > deadline:
                    return False
                time.sleep(DRAIN_PAUSE)
        return True

    def stop(self, deadline: float) -> bool:
        """Let each thread finish the event it handles; tell whether all ended in time.

        What was taken and not begun is there for other processes at once.
        """
        with self._lock:
            runners, self._runners = self._running(), {}
            renewer, self._renewer = self._renewer, None
        for runner in runners:
            runner.stop()
        ended = all([runner.join(deadline) for runner in runners])
        if renewer is not None:
            renewer.stop()
            renewer.join(deadline)
        log, self._log, self._ledger = self._log, None, None
        if log is not None:
            log.dispose()
        return ended

    def after_fork(self) -> None:
        """In a child: the threads and connections are the parent's."""
        self._lock, self._turns = threading.Lock(), threading.RLock()
        self._life = None
        log, self._log, self._ledger = self._log, None, None
        self._runners = {}
        self._renewer = None
        self._metrics = {}
        if log is not None:
            log.dispose(close=False)

    def threads(self) -> List[Worker]:
        """Return the threads that work for groups."""
        runners: List[Worker] = [*self._running()]
        renewer = self._renewer
        return runners if renewer is None else [*runners, renewer]

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
        found = {}
        for name, runner in list(self._runners.items()):
            work, backfill = runner.work, runner.backfill
            found[name] = {
                "taken": 0 if work is None else len(work.rows),
                "standing_by": runner.standing_by,
                "error": runner.trouble,
                "backfill": backfill._asdict() if backfill.total else None,
                **runner.metrics.as_dict(),
            }
        return found

    def _captured(self, topics: Dict[str, List[str]]) -> List[Captured]:
        found = (self._backend.captured(topic) for topic in topics)
        return [captured for captured in found if captured is not None]

    def _wanted(self) -> Dict[str, Dict[str, List[str]]]:
        """Return group → topic → operations, from the listeners there are and do not leave."""
        wanted: Dict[str, Dict[str, List[str]]] = {}
        for listener, moments in self._registry.all():
            if listener.group is None:
                continue
            if listener.target is None:
                raise UsageError(f"{listener.name}: a group listens to tables, not to ANY")
            left = self._leaving.get(listener, ())
            operations = [moment[len("after_") :] for moment in moments if moment not in left]
            if not operations:
                continue
            topics = wanted.setdefault(listener.group, {})
            for topic in self._known.topics_of(listener.target):
                merged = {*topics.get(topic, ()), *operations}
                topics[topic] = [operation for operation in OPERATIONS if operation in merged]
        return wanted
