"""The hub: where a database, a registry and the threads come together."""

import atexit
import contextlib
import json
import logging
import os
import threading
import time
import weakref
from typing import Any, ContextManager, Dict, Iterable, Iterator, List, Optional, Set, Tuple, Union

from sqlalchemy.engine import URL, Engine

from . import checks, signals
from .backends import address_of, backend_for
from .capture.housekeeper import Housekeeper
from .capture.upkeep import Upkeep
from .database.notes import gap_of, noted_topic, without_notes
from .database.reader import Reader
from .database.writers import connection_of
from .delivery.around import Around, Factory
from .delivery.delivery import Delivery
from .delivery.dispatcher import QUEUE_SIZE, Dispatcher
from .delivery.source import Source, TooLate
from .delivery.strangers import Strangers
from .delivery.topics import Topics
from .errors import Unavailable, UsageError
from .events.event import Event, LogRow
from .groups.group import Group, Groups
from .listening.registry import Listener, Registry
from .listening.registry import default as default_registry
from .listening.target import as_target
from .metrics import Metrics
from .retry import Retry
from .threads import Worker

logger = logging.getLogger("pgevents")

RETENTION = 86400.0  # seconds that a log row is kept: a day
GROUP_RETENTION = 14 * 86400.0  # seconds; a group that is down for longer gets a ``gap``
BEHIND_AFTER = 10.0  # seconds that the queue may be full before ``fallen_behind``
START_TIMEOUT = 60.0  # seconds; longer than the tables' locks are tried for on a quiet day
HOUSEKEEPING = 30.0  # seconds between two rounds, at the most
EMPTY = 0.1  # seconds that threads with nothing to do may take to end
TELLING = 0.5  # seconds that an attempt that gave up in time may take to say why, on a busy machine
CONTEXT_SIZE = 65_536  # bytes of a context; the triggers cut what is longer
EXIT_TIMEOUT = 2.0  # seconds that the interpreter's exit waits for a listener


class Hub:
    """Tells this process what changed in one database.

    ``bind`` is a URL or an Engine, PostgreSQL or SQLite. ``registry`` says
    who listens; without one, those of ``pgevents.listens_for``.

    ``schema`` names the log. ``service`` names the application, for what it
    wants captured; services do not touch each other's captures. With
    ``install=False`` the hub needs no right to create anything, and raises
    NotInstalled where something is missing.

    ``workers``: how many listeners run at once; above 1, the events of one
    row keep their order. ``queue_size``: events waiting for a listener before
    the reader stops reading. ``retention``: seconds that the log is kept;
    ``group_retention``: what a group has not passed yet;
    ``dead_letter_retention``: what groups have given up, None for ever.
    ``retry``: how often a listener that raises is called. ``bell``: False
    where transactions are prepared (two-phase commit); None leaves what is
    installed. ``poll_interval``: seconds, where there is no bell.
    ``behind_after``: seconds of a full queue before ``fallen_behind``.

    A hub is safe to use from several threads, and restarts itself in a forked
    child. All its errors are ``PgEventsError``.
    """

    def __init__(
        self,
        bind: Union[str, URL, Engine],
        registry: Optional[Registry] = None,
        schema: str = "pgevents",
        *,
        service: str = "default",
        install: bool = True,
        workers: int = 1,
        queue_size: int = QUEUE_SIZE,
        retention: float = RETENTION,
        group_retention: float = GROUP_RETENTION,
        dead_letter_retention: Optional[float] = None,
        retry: Optional[Retry] = None,
        bell: Optional[bool] = None,
        poll_interval: float = 0.05,
        behind_after: float = BEHIND_AFTER,
    ) -> None:
        for name, thing, kind in (
            ("registry", registry, Registry),
            ("retry", retry, Retry),
            ("bell", bell, bool),
        ):
            if thing is not None and not isinstance(thing, kind):
                raise UsageError(f"{name}={thing!r}: give a {kind.__name__}")
        self.registry = default_registry if registry is None else registry
        self.metrics = Metrics()
        self._backend = backend_for(
            bind, schema, bell, checks.seconds("poll_interval", poll_interval, 0.001)
        )
        self._address = address_of(bind)
        self._service = checks.name("service", service)
        self._workers = checks.whole("workers", workers)
        self._queue_size = checks.whole("queue_size", queue_size)
        self._retention = checks.seconds("retention", retention, 1.0)
        self._group_retention = max(
            self._retention, checks.seconds("group_retention", group_retention)
        )
        self._dead_letter_retention = (
            None
            if dead_letter_retention is None
            else checks.seconds("dead_letter_retention", dead_letter_retention, 1.0)
        )
        self._behind_after = checks.seconds("behind_after", behind_after)
        self._retry = retry or Retry()
        self._topics = Topics(self._backend)
        self._upkeep = Upkeep(
            self._backend, self.registry, self._topics, self._service, install, self._tell
        )
        self._strangers = Strangers(self._backend.warnings)
        self._around_calls = Around()
        self._groups = Groups(
            self._backend,
            self.registry,
            self._topics,
            self._tell,
            self._strangers,
            self._around_calls,
        )
        self._pid = os.getpid()
        self._lock = threading.RLock()  # guards start, stop and the fields below
        self._polling = threading.RLock()  # one thread polls, the others wait for their turn
        self._source: Optional[Source] = None
        self._dispatcher: Optional[Dispatcher] = None
        self._housekeeper: Optional[Housekeeper] = None
        self._delivery: Optional[Delivery] = None
        self._reader: Optional[Reader] = None  # of poll()
        # The registry's four verbs, here too.
        self.listens_for = self.registry.listens_for
        self.listen = self.registry.listen
        self.remove = self.registry.remove
        self.contains = self.registry.contains
        _hubs.add(self)

    # Life.

    def start(self, wait: bool = True, timeout: float = START_TIMEOUT) -> "Hub":
        """Install what is missing, listen, and call the listeners from now on.

        Returns when it listens: what is committed afterwards is heard. With
        ``wait=False`` it returns at once and goes on trying in the background,
        even if the database cannot be reached yet. A hub that runs is left
        as it is.

        Raises UsageError for an unknown table or column, NotInstalled, Denied (an unknown
        database, too), Unsupported; and when ``timeout`` seconds are over Unavailable, which
        says what kept it, such as refused connections. Then nothing runs.
        """
        checks.seconds("timeout", timeout)
        self._notice_fork()
        with self._lock:
            running = self._source
            if running is None:
                if self._reader is not None:
                    self._reader.close()  # poll() goes on where start() begins
                self.registry.attach(self)
                start_by = time.monotonic() + timeout if wait else None
                source = self._launch(self._reader or self._backend.reader(), start_by)
                self._reader = None
        if running is not None:
            return self._join_start(running, wait, timeout)
        if wait:
            # What has kept it tells so at the very end of that time.
            error = source.wait_first(timeout + TELLING)
            if not source.connected:
                self.stop(timeout=EMPTY)
                raise error or Unavailable(f"not connected within {timeout:.0f} s")
        self._tell("started")
        return self

    def stop(self, timeout: float = 10.0) -> int:
        """Stop reading, let the listeners finish what was taken, and end the threads.

        What was committed a moment ago may not have been read: ``drain()``
        before. Returns how many events were left when ``timeout`` seconds were over;
        a warning tells so, too. Safe twice, before ``start()``, and from
        inside a listener: then the rest is finished after it returns.
        """
        checks.seconds("timeout", timeout)
        self._notice_fork()
        deadline = time.monotonic() + max(timeout, EMPTY)
        with self._lock:
            source, self._source = self._source, None
            dispatcher, housekeeper = self._dispatcher, self._housekeeper
            delivery, reader = self._delivery, self._reader
            self._dispatcher = self._housekeeper = self._reader = None
            self._groups.close()
        if reader is not None:
            self.registry.detach(self)
            reader.end()
        if source is None or dispatcher is None or housekeeper is None or delivery is None:
            self._groups.stop(deadline)  # it was asked about groups, perhaps
            return 0
        self.registry.detach(self)
        housekeeper.stop()
        finished = self._groups.stop(deadline)
        source.stop()
        source.join(deadline)
        dispatcher.finish()
        left = 0
        # A listener cannot wait for itself: the others are not waited for, either.
        # The source may have used the time up: one that has nothing to do ends all the same.
        if not dispatcher.current and not dispatcher.join(max(deadline, time.monotonic() + EMPTY)):
            left = dispatcher.waiting + dispatcher.delivering
            delivery.stop.set()
        if left:
            logger.warning(
                "stopped after %.1f s with %d or more events taken but not handled", timeout, left
            )
        if not finished:
            logger.warning("stopped after %.1f s while a group's listener was running", timeout)
        housekeeper.join(deadline)
        self._backend.dispose()
        self._backend.warnings.clear()
        self._tell("stopped")
        return left

    def __enter__(self) -> "Hub":
        return self.start()

    def __exit__(self, *_: Any) -> None:
        self.stop()

    def wait_ready(self, timeout: float = START_TIMEOUT) -> bool:
        """Wait until the hub listens; tell whether it does."""
        checks.seconds("timeout", timeout)
        source = self._running("wait_ready()")
        return source.wait_connected(timeout)

    def drain(self, timeout: float = 10.0) -> bool:
        """Wait until all that is committed now was handled; tell whether it was in time.

        Of the groups, those count that run here and are not paused; what
        failed and waits for its time is not handled. Raises UsageError
        inside a listener.
        """
        checks.seconds("timeout", timeout)
        deadline = time.monotonic() + timeout
        source, dispatcher = self._running("drain()"), self._dispatcher
        if dispatcher is None:
            return False
        if dispatcher.current:
            raise UsageError("a listener cannot drain() its own hub: it would wait for itself")
        return (
            source.catch_up(timeout)
            and dispatcher.wait_idle(deadline)
            and self._groups.drain(deadline)
        )

    def poll(self, timeout: float = 0.0) -> int:
        """Handle what is there in the caller's own thread; return how many events that were.

        Waits ``timeout`` seconds for the first. For programs without
        background threads: the first call connects, and what is committed
        from then on is heard by the next ones. Threads that poll take turns;
        one whose turn does not come within ``timeout`` has handled nothing.
        Raises UsageError when the hub is started, or somebody listens in a
        group; Unavailable when the connection is lost: a later call connects
        again and misses nothing.
        """
        checks.seconds("timeout", timeout)
        self._notice_fork()
        if self._source is not None:
            raise UsageError("the hub is started: its own threads call the listeners")
        deadline = time.monotonic() + timeout
        if not self._polling.acquire(timeout=max(0.0, timeout)):
            return 0
        try:
            return self._poll(deadline)
        finally:
            self._polling.release()

    # What is captured.

    def watch(
        self,
        target: Any,
        *moments: str,
        include: Optional[Iterable[Any]] = None,
        exclude: Optional[Iterable[Any]] = None,
        old: bool = True,
    ) -> None:
        """Capture a table, or say what of it is captured, whoever listens.

        Without ``moments``, all. ``include``: only these columns and the key;
        ``exclude``: all but these; neither: all. Columns are names or mapped
        attributes. ``old=False``: of old rows, keep only the key, so
        ``event.changed`` and ``columns=`` cannot work.
        To be called before ``start()``. Where services, or several calls,
        differ, the union is captured; what a service once asked for here stays
        captured until ``uninstall()``. Where that is more than this service
        asks for, a warning says so. Listeners alone take a table as others
        want it, and whole if nobody says what; a column that they name is
        captured. Raises UsageError, in ``start()`` for columns that there are
        not, and for the key's in ``exclude``.
        """
        self._upkeep.specs.watch(target, moments, include, exclude, old)

    def install(
        self,
        sql_only: bool = False,
        role: Optional[str] = None,
        owner: Optional[str] = None,
    ) -> str:
        """Install the log, and triggers for all that is watched or listened to.

        Safe to call again, and in several processes at once; what is current
        is not touched. With ``sql_only`` nothing is changed: the SQL is
        returned, for a database's owner to run; ``role`` adds the rights that
        a hub of that role needs. ``owner`` is a role with whose rights the
        triggers run, instead of yours; it is created, without login, where
        it is not there. Returns the SQL, or an empty text. Raises Denied
        where somebody else has put something in our place.
        """
        self._notice_fork()
        with self._backend.session():
            if sql_only:
                wanted = self._upkeep.specs.all()
                return self._backend.install_sql(self._service, wanted, role, owner)
            self._upkeep.install(owner)
        return ""

    def uninstall(self, everything: bool = False) -> None:
        """Take back what this service had captured.

        If no other service is left, the log goes, too; but not while the
        database has groups: they go on where they were after ``install()``.
        ``everything`` removes other services' captures, the groups with what
        waits for them and their dead letters, and the log. Raises UsageError
        while the hub runs.
        """
        self._notice_fork()
        if self._source is not None:
            raise UsageError("stop the hub first: it would miss what happens")
        self._backend.uninstall(self._service, everything)

    def installed(self) -> List[Dict[str, Any]]:
        """Return what is captured, by whomever: a dict for each table.

        ``table``, ``operations``, ``include``, ``exclude``, ``old``,
        ``services``, and ``state``: "ok", "outdated", "gone", or "denied":
        writes to it fail, as the triggers may not write to the log.
        """
        self._notice_fork()
        return self._backend.installed()

    def group(self, name: str, **options: Any) -> Group:
        """Return a group of listeners: how far it is, what it has given up; and say how it works.

        Options, to be given before ``start()``: ``ordered`` (True: one batch
        at a time in all processes, an event that fails is tried again in its
        place; False: many at once); ``batch_size``, events claimed together;
        ``lease``, seconds until another process takes over from one that is
        silent; ``max_attempts``; ``backoff``, the first and the longest wait
        in seconds; ``start``, where a new group begins: "now", the
        "beginning" of what is kept, or with a "backfill" of the rows there are;
        ``keep_rows``: False lets its dead letters keep the key alone.

        What the group listens to and whether it is ordered lives in the
        database. The last process that started has the say; those that define
        it otherwise stand by, and say so. Raises UsageError.
        """
        return self._groups.group(name, **options)

    def groups(self) -> List[Group]:
        """Return all groups in the database. Raises NotInstalled where there is no log."""
        return [Group(name, self._groups) for name in self._groups.names()]

    # Around calls of listeners.

    def around(self, factory: Factory) -> Factory:
        """Call each listener within a context manager: that of a Flask app, for example::

            @hub.around
            @contextlib.contextmanager
            def in_app(listener, events):
                with app.app_context():
                    yield

        ``factory(listener, events)`` is called for each call, the second attempt for an event,
        too, in the thread that makes it. It gets the listener's function and a list of events:
        one, or all of a batch. Of several the first is outermost; the same one counts once.
        What it raises, or its context manager, counts as raised by the listener. A
        transactional listener's runs inside of the transaction. A ``where=`` is called
        outside. Returns the factory. To be called at any time; counts from the next call on.
        Raises UsageError.
        """
        self._around_calls.add(factory)
        return factory

    # Around writes.

    def context(self, bind: Any, /, **values: Any) -> ContextManager[None]:
        """Within the block, let ``event.context`` of the changes be these values.

        ``bind`` is the Session or Connection that writes; of a Session with
        several binds, the one to this hub's database counts. Values are JSON
        types. It ends with the block or the transaction, whichever comes first.
        Raises UsageError, at the block's begin, for a writer of another database;
        and at once for what is more than 65,536 bytes of JSON.
        """
        try:
            text = json.dumps(values)
        except (TypeError, ValueError) as error:
            raise UsageError(f"a context holds JSON types: {error}") from error
        if len(text) > CONTEXT_SIZE:
            raise UsageError(f"a context of {len(text)} bytes: give {CONTEXT_SIZE} at the most")
        return self._around(bind, {"context": text})

    def suppressed(self, bind: Any) -> ContextManager[None]:
        """Within the block, capture nothing of what ``bind`` writes.

        It ends with the block or the transaction, whichever comes first.
        """
        return self._around(bind, {"capture": "off"})

    def altering(self, bind: Any, /, *targets: Any) -> ContextManager[None]:
        """Within the block, alter these tables with ``bind``, whatever hubs run; or any table.

        For migrations on SQLite, where a trigger stands in the way of DROP COLUMN, and
        goes with a table that is made anew. ``bind`` is the Session or Connection of the
        migration, or sqlite3's own. In its transaction the triggers go, and come back at
        the end of the block for the columns that there are then: nothing is missed, and
        no hub notices. On PostgreSQL there is nothing to do. Raises UsageError for a
        table that there is not.
        """
        return self._backend.altering(bind, [as_target(target) for target in targets])

    # Looking at it.

    def status(self) -> Dict[str, Any]:
        """Return what the hub does now, as a plain dict.

        ``state`` is "stopped", "connecting", "listening" or "failed" (a
        thread has ended); ``error`` what keeps it from listening;
        ``warnings`` what works, but not as it should, a sentence each.
        """
        self._notice_fork()
        source, dispatcher = self._source, self._dispatcher
        error = None if source is None else source.failure
        return {
            "state": self._state(),
            "database": self._backend.dialect,
            "error": None if error is None else str(error),
            "warnings": self._warnings(),
            "pid": self._pid,
            "threads_ended": self._threads_ended(),
            "tables": self._topics.known(),
            "listeners": len(self.registry.all()),
            "groups": self._groups.status(),
            "waiting": 0 if dispatcher is None else dispatcher.waiting,
            "queue_size": self._queue_size,
            **self._counts(),
        }

    def __repr__(self) -> str:
        return f"<Hub {self._address} {self._state()}>"

    def listener_added(self, listener: Listener, moments: Tuple[str, ...]) -> None:
        """Called by the registry, when the hub runs, before a new listener gets events."""
        source = self._source
        if source is None and self._reader is not None:
            _refuse_group(listener)
        if (source is None and self._reader is None) or listener.target is None:
            return
        try:
            with self._backend.session():
                self._upkeep.add(listener, listener.target, moments)
        except Unavailable:
            # What is registered before the first connection is installed by it.
            if source is None or source.prepared:
                raise

    def listeners_leave(self, leaving: Set[Listener], moments: Tuple[str, ...]) -> None:
        """Called by the registry, when the hub runs, before these get no more events."""
        if self._source is not None:
            self._groups.leave(leaving, moments)

    def listener_ready(self, listener: Listener) -> None:
        """Called by the registry when a new listener can get events, or one has left."""
        source = self._source
        if source is None or listener.group is None:
            return
        try:
            self._groups.start(source.reader.owner)
        except Unavailable:
            # The first connection starts the groups of all who are registered before it.
            if source.prepared:
                raise

    # Inside.

    @contextlib.contextmanager
    def _around(self, bind: Any, values: Dict[str, str]) -> Iterator[None]:
        targets = [one.target for one, _ in self.registry.all() if one.target is not None]
        connection = connection_of(bind, self._backend, targets)
        with self._backend.settings(connection, values):
            yield

    def _state(self) -> str:
        source = self._source
        if source is None:
            return "stopped"
        if self._threads_ended():
            return "failed"
        return "listening" if source.connected else "connecting"

    def _threads_ended(self) -> List[str]:
        return [thread.name for thread in self._threads() if thread.ended]

    def _threads(self) -> List[Worker]:
        """Return all threads that work for this hub."""
        dispatcher = self._dispatcher
        lanes = [] if dispatcher is None else dispatcher.threads
        threads = [self._source, *lanes, self._housekeeper, *self._groups.threads()]
        return [thread for thread in threads if thread is not None]

    def _warnings(self) -> List[str]:
        mistakes = [thread.mistake for thread in self._threads()]
        return self._backend.warnings.all() + [sentence for sentence in mistakes if sentence]

    def _counts(self) -> Dict[str, int]:
        """Return what plain listeners and groups have done together."""
        found = self.metrics.as_dict()
        for name, number in self._groups.counts().items():
            found[name] += number
        return found

    def _join_start(self, source: Source, wait: bool, timeout: float) -> "Hub":
        """Wait for the start that another thread has begun."""
        if wait and not source.current:  # a receiver of ``connected`` is called by the source
            error = source.wait_first(timeout)
            if error is not None and source.gave_up:
                raise error
        return self

    def _launch(self, reader: Reader, start_by: Optional[float] = None) -> Source:
        """Make the threads and start them; ``reader`` goes on where it is.

        The source tries to connect for ever, or until ``start_by``.
        """
        self._delivery = self._new_delivery()
        self._housekeeper = Housekeeper(
            "pgevents-housekeeper",
            min(HOUSEKEEPING, self._retention / 4, (self._dead_letter_retention or 3600) / 4),
            self._prepared,
            self._backend.warnings,
            self._check_capture,
            self._clean,
            self._expire,
        )
        self._dispatcher = Dispatcher(
            "pgevents-dispatcher", self._delivery, self._queue_size, self._workers
        )
        self._source = Source(
            "pgevents-source",
            reader,
            prepare=self._prepare,
            events=self._events,
            offer=self._dispatcher.offer_all,
            tell=self._tell,
            wanted=self.registry.has_plain,
            noticed=self._groups.wake,
            check_capture=self._housekeeper.wake,
            behind_after=self._behind_after,
            start_by=start_by,
        )
        self._groups.open()
        self._dispatcher.start()
        self._source.start()
        self._housekeeper.start()
        return self._source

    def _new_delivery(self) -> Delivery:
        return Delivery(
            self.registry,
            self._topics,
            self._retry,
            self.metrics,
            self._tell,
            self._around_calls,
        )

    def _running(self, what: str) -> Source:
        self._notice_fork()
        source = self._source
        if source is None:
            raise UsageError(f"{what} needs a hub that is started")
        return source

    def _poll(self, deadline: float) -> int:
        if self._reader is None:
            self._reader = self._open_for_poll()
        reader, delivery = self._reader, self._delivery or self._new_delivery()
        self._delivery = delivery
        handled = 0
        try:
            if not reader.is_open:
                reader.open()
            while True:
                rows = reader.read()
                reason = reader.missed()
                if reason is not None:
                    self._tell("gap", reason=reason)
                if rows:
                    handled += delivery(self._events(rows))
                    continue
                left = deadline - time.monotonic()
                if handled or left <= 0:
                    return handled
                reader.wait(left)
        except Unavailable:
            reader.close()
            raise

    def _open_for_poll(self) -> Reader:
        for listener, _ in self.registry.all():
            _refuse_group(listener)
        self.registry.attach(self)
        self._prepare()
        return self._backend.reader()

    def _prepare(self, deadline: Optional[float] = None) -> None:
        """Check what is listened to against the database, and install what is missing."""
        with self._backend.session(deadline):
            if deadline is not None and time.monotonic() > deadline:
                raise TooLate("connected too late: start() has given up")
            self._upkeep.begin(deadline)
        source = self._source
        if source is not None:
            self._groups.start(source.reader.owner)

    def _events(self, rows: List[LogRow]) -> List[Event]:
        self.metrics.read += len(rows)
        self._groups.wake()
        notes, rows = without_notes(rows)
        if notes:
            self._report(notes)
        rows = self._strangers.left_out(rows)
        return list(map(Event, rows, self._topics.shapes_of(rows)))

    def _report(self, notes: List[LogRow]) -> None:
        """Report what notes in the log say of tables that somebody listens to, without a group."""
        reason = gap_of([row for row in notes if self._listened_to(noted_topic(row))])
        if reason is not None:
            self._tell("gap", reason=reason)

    def _listened_to(self, topic: str) -> bool:
        keys = self._topics.keys(topic)
        return any(
            listener.group is None
            for moment in ("after_truncate", "after_delete")
            for listener in self.registry.listeners(keys, moment)
        )

    def _tell(self, name: str, **details: Any) -> None:
        if name == "connected":
            self.metrics.connects += 1
            self._groups.wake()  # perhaps to another database in the place of the former
        elif name == "gap":
            self.metrics.gaps += 1
            logger.error("events were missed: %s", details["reason"])
        signals.tell(name, self, **details)

    def _clean(self) -> None:
        """Let old log rows go."""
        deleted = self._backend.clean(self._retention, self._group_retention)
        if deleted:
            logger.debug("%d old rows are gone from the log", deleted)

    def _prepared(self) -> bool:
        """Tell whether what is wanted is installed, and from where on we read is known."""
        source = self._source
        return source is not None and source.prepared

    def _expire(self) -> None:
        """Let old dead letters go."""
        if self._dead_letter_retention is not None:
            expired = self._groups.expire(self._dead_letter_retention)
            if expired:
                logger.info("%d old dead letters are discarded", expired)

    def _check_capture(self) -> None:
        with self._backend.session():
            self._upkeep.check()

    # Forks.

    def _notice_fork(self) -> None:
        # uWSGI does not call the hooks that Python has for forks.
        if self._pid != os.getpid():
            self._after_fork()

    def _after_fork(self) -> None:
        """In a child: leave the parent's connection and threads alone, and make our own."""
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._polling = threading.RLock()
        self._backend.after_fork_in_child()
        self._topics.after_fork()
        self._groups.after_fork()
        source, self._source = self._source, None
        reader, self._reader = self._reader, None
        self._dispatcher = self._housekeeper = self._delivery = None
        self.metrics = Metrics()
        self._backend.warnings.clear()
        if reader is not None:
            self._reader = reader.copy()
            reader.abandon()
        if source is not None:
            copy = source.reader.copy()
            source.reader.abandon()
            self._launch(copy)


def _refuse_group(listener: Listener) -> None:
    if listener.group is not None:
        raise UsageError(
            f"{listener.name} listens in the group {listener.group!r}, which needs threads of its"
            " own: start() the hub instead of poll(), or give it a registry without groups"
        )


_hubs: "weakref.WeakSet[Hub]" = weakref.WeakSet()
_held: List[Any] = []  # the registries' locks, while the process forks


def _before_fork() -> None:
    # A registry must not be copied in the middle of a change.
    for registry in {hub.registry for hub in list(_hubs)}:
        registry.lock.acquire()
        _held.append(registry.lock)
    for hub in list(_hubs):
        hub._backend.before_fork()


def _in_parent() -> None:
    for hub in list(_hubs):
        hub._backend.after_fork()
    _release()


def _release() -> None:
    while _held:
        _held.pop().release()


def _in_child() -> None:
    _release()
    for hub in list(_hubs):
        hub._notice_fork()


def _at_exit() -> None:
    for hub in list(_hubs):
        if hub._pid == os.getpid():
            hub.stop(timeout=EXIT_TIMEOUT)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)
atexit.register(_at_exit)
