"""The hub: what an application starts, asks and stops. Its modules do the work."""

import contextlib
from typing import (
    Any,
    Callable,
    ContextManager,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    Optional,
    TypeVar,
    Union,
)

from sqlalchemy.engine import URL, Engine

from . import checks
from .backends import address_of, backend_for
from .channels.message import Message
from .channels.native import MOMENT as NATIVE
from .channels.native import NativeListener, native_channel, native_payload
from .channels.outgoing import Outgoing
from .channels.receiver import ChannelListener
from .channels.subscription import MOMENT, Subscription
from .database.outbox import NO_NOTIFY
from .database.writers import connection_of, context_text
from .delivery.around import Factory
from .delivery.dispatcher import QUEUE_SIZE
from .errors import UsageError
from .groups.box import Box
from .groups.group import Group
from .life import START_TIMEOUT, Life
from .listening.registry import Registry
from .listening.registry import default as default_registry
from .listening.target import as_target
from .parts import Parts
from .payloads.enrichers import Enricher
from .payloads.text import Codec
from .retry import Retry
from .settings import BEHIND_AFTER, DEDUPE_WINDOW, GROUP_RETENTION, RETENTION, Settings, require
from .status import Status
from .streams.streams import Streams

Function = TypeVar("Function", bound=Callable[..., Any])


class Hub:
    """Calls the listeners in this process when rows of one database change.

    ``bind`` is a URL or an Engine, PostgreSQL or SQLite. ``registry`` holds the
    listeners; without it, they are those of ``pgevents.listens_for``.

    ``schema`` names the log. ``service`` names the application to which the
    capture options belong; a service leaves those of others alone. With
    ``install=False`` the hub needs no right to create anything, and raises
    NotInstalled where something is missing.

    ``workers``: how many listeners run at once; above 1, the events of one
    row keep their order. ``queue_size``: events waiting for a listener before
    the reader stops reading. ``retention``: seconds that the log is kept;
    ``group_retention``: seconds that it is kept for a group that is behind;
    ``dead_letter_retention``: seconds that dead letters are kept, None for ever.
    ``retry``: how often a listener that raises is called. ``bell``: False
    where transactions are prepared (two-phase commit); None leaves what is
    installed. ``poll_interval``: seconds between two reads where there is no bell.
    ``behind_after``: seconds of a full queue before ``fallen_behind``.
    ``encoder`` makes JSON types of the payloads that are published, ``decoder`` payloads of
    JSON; ``max_payload``: bytes of JSON that a payload may have. ``dedupe_window``: seconds in
    which a message whose ``id`` its publisher gave is published once.

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
        encoder: Optional[Codec] = None,
        decoder: Optional[Codec] = None,
        max_payload: Optional[int] = None,
        dedupe_window: float = DEDUPE_WINDOW,
    ) -> None:
        require("registry", registry, Registry)
        require("bell", bell, bool)
        poll_interval = checks.seconds("poll_interval", poll_interval, 0.001)
        settings = Settings(
            service=service,
            install=install,
            workers=workers,
            queue_size=queue_size,
            retention=retention,
            group_retention=group_retention,
            dead_letter_retention=dead_letter_retention,
            retry=retry,
            behind_after=behind_after,
            encoder=encoder,
            decoder=decoder,
            max_payload=max_payload,
            dedupe_window=dedupe_window,
        )
        self.registry = default_registry if registry is None else registry
        self._backend = backend_for(bind, schema, bell, poll_interval)
        self._address = address_of(bind)
        self._parts = parts = Parts(self, self._backend, self.registry, settings)
        self.metrics = parts.metrics
        self._upkeep = parts.upkeep
        self._groups = parts.groups
        #: Streams of events: see ``Streams``.
        self.streams = Streams(parts.streams)
        self._life = Life(parts)
        self._status = Status(parts, self._life)
        # The registry's four verbs, here too.
        self.listens_for = self.registry.listens_for
        self.listen = self.registry.listen
        self.remove = self.registry.remove
        self.contains = self.registry.contains

    # Life.

    def start(self, wait: bool = True, timeout: float = START_TIMEOUT) -> "Hub":
        """Install what is missing, listen, and call the listeners from now on.

        Returns when the hub listens: the listeners receive what is committed afterwards.
        With ``wait=False`` it returns at once and goes on trying in the background,
        even if the database cannot be reached yet. If the hub runs, nothing changes. If a
        listener still runs that ``stop()`` has not waited for, the others are called when it
        has returned.

        Raises UsageError for an unknown table or column, NotInstalled, Denied (an unknown
        database, too), Unsupported; and when ``timeout`` seconds are over Unavailable, which
        names the reason, such as refused connections. Then nothing runs.
        """
        checks.seconds("timeout", timeout)
        self._life.start(wait, timeout)
        return self

    def stop(self, timeout: float = 10.0) -> int:
        """Stop reading, let the listeners finish what was taken, and end the threads.

        What was committed a moment ago may not have been read: call ``drain()``
        before. Returns how many events were left when ``timeout`` seconds were over;
        a warning in the log says this, too. Safe twice, before ``start()``, and from
        inside a listener: then the rest is finished after it returns.
        """
        checks.seconds("timeout", timeout)
        return self._life.stop(timeout)

    def __enter__(self) -> "Hub":
        return self.start()

    def __exit__(self, *_: Any) -> None:
        self.stop()

    def wait_ready(self, timeout: float = START_TIMEOUT) -> bool:
        """Wait until the hub listens; return whether it does."""
        checks.seconds("timeout", timeout)
        return self._life.wait_ready(timeout)

    def drain(self, timeout: float = 10.0) -> bool:
        """Wait until all that is committed now was handled; return whether it was in time.

        Of the groups, those count that run here and are not paused. An event that
        failed and waits for its next attempt is not handled yet. Raises UsageError
        inside a listener.
        """
        checks.seconds("timeout", timeout)
        return self._life.drain(timeout)

    def poll(self, timeout: float = 0.0) -> int:
        """Handle what is there in the caller's own thread; return how many events that were.

        Waits ``timeout`` seconds for the first. For programs without
        background threads: the first call connects, and the next ones deliver
        what is committed from then on. Threads that poll take turns;
        one whose turn does not come within ``timeout`` has handled nothing.
        Raises UsageError when the hub is started, or somebody listens in a
        group; Unavailable when the connection is lost: a later call connects
        again and misses nothing.
        """
        checks.seconds("timeout", timeout)
        return self._life.poll(timeout)

    # What is captured.

    def watch(
        self,
        target: Any,
        *moments: str,
        include: Optional[Iterable[Any]] = None,
        exclude: Optional[Iterable[Any]] = None,
        old: bool = True,
    ) -> None:
        """Set the capture options of a table; it is captured even if nobody listens.

        Without ``moments``, all are captured. ``include``: only these columns and the
        key; ``exclude``: all but these; neither: all. Columns are names or mapped
        attributes. ``old=False``: of old rows, keep only the key, so
        ``event.changed`` and ``columns=`` cannot work.
        To be called before ``start()``. Where the options of several services, or of
        several calls, differ, their union is captured. The options of a service stay
        until ``uninstall()``. Where more is captured than this service asks for, a
        warning in the log says so. A table that has listeners and no options of its own
        is captured as other services set it, or else whole; in any case with the columns
        that the listeners name. Raises UsageError; in ``start()``, for columns that do
        not exist, and for those of the key in ``exclude``.
        """
        self._upkeep.specs.watch(target, moments, include, exclude, old)

    def install(
        self,
        sql_only: bool = False,
        role: Optional[str] = None,
        owner: Optional[str] = None,
    ) -> str:
        """Install the log, and triggers on all tables with capture options or listeners.

        Safe to call again, and in several processes at once; what is current
        is not changed. With ``sql_only`` nothing is changed: the SQL is
        returned, for a database's owner to run; ``role`` adds the rights that
        a hub of that role needs. ``owner`` is a role with whose rights the
        triggers run, instead of yours; it is created, without login, where
        it does not exist. Returns the SQL, or an empty text. Raises Denied
        where somebody else has made an object that has the name of one of ours.
        """
        self._life.notice_fork()
        with self._backend.session():
            if sql_only:
                return self._upkeep.install_sql(role, owner)
            self._upkeep.install(owner)
        return ""

    def uninstall(self, everything: bool = False) -> None:
        """Remove the capture options of this service, and triggers that nobody needs now.

        If no other service is left, the log is dropped, too; but not while the
        database has groups: after ``install()`` they go on where they were.
        ``everything`` removes other services' captures, the groups with what
        waits for them and their dead letters, and the log. Raises UsageError
        while the hub runs. Hubs that run in other processes leave it so, and warn, until
        somebody installs again; but one that finds no log makes it again: stop it before.
        """
        self._life.notice_fork()
        if self._life.source is not None:
            raise UsageError("stop the hub first: it would miss what is committed from now on")
        self._backend.uninstall(self._parts.settings.service, everything)

    def installed(self) -> List[Dict[str, Any]]:
        """Return what is captured for all services: a dict for each table.

        ``table``, ``operations``, ``include``, ``exclude``, ``old``,
        ``services``, and ``state``: "ok", "outdated", "gone", or "denied":
        writes to it fail, as the triggers may not write to the log.
        """
        self._life.notice_fork()
        return self._upkeep.installed()

    def group(self, name: str, **options: Any) -> Group:
        """Return a group of listeners, to look after it; with options, set how it works.

        Options, to be given before ``start()``: ``ordered`` (True: one batch
        at a time in all processes, an event that fails is tried again in its
        place; False: many at once); ``batch_size``, events claimed together;
        ``lease``, seconds until another process takes over from one that is
        silent; ``max_attempts``; ``backoff``, the first and the longest wait
        in seconds; ``start``, where a new group begins: "now", the
        "beginning" of what is kept, or with a "backfill" of the rows there are;
        ``keep_rows``: False lets its dead letters keep the key alone.

        What the group listens to, and whether it is ordered, is stored in the
        database. The process that started last decides. Those that define the group
        otherwise stand by, and log a warning. Raises UsageError.
        """
        return self._groups.group(name, **options)

    def groups(self) -> List[Group]:
        """Return all groups in the database. Raises NotInstalled where there is no log."""
        return self._groups.all()

    # Messages.

    def publish(
        self,
        channel: str,
        payload: Any,
        bind: Any = None,
        key: Optional[str] = None,
        metadata: Optional[Mapping[str, Any]] = None,
        id: Optional[str] = None,
        delay: Optional[float] = None,
        expires: Optional[float] = None,
    ) -> str:
        """Publish a message for those who subscribe to ``channel``; return its id.

        With ``bind``, the Session, scoped_session or Connection that writes, the message
        belongs to that transaction: it is received after the commit, or never. Without, it is
        committed when this returns. The hub need not be started.

        ``payload``: JSON types, Decimal, dates and times, UUIDs, bytes, tuples; dataclasses,
        attrs and pydantic objects; or what the hub's ``encoder`` takes. It comes back exactly.
        ``key``: messages of one key belong together. ``metadata``: a dict beside the payload.
        ``id``: yours in place of a new one; a channel's message of that id is published once
        within ``dedupe_window``. A second publisher of it waits until the first one's transaction
        ends. ``delay``: seconds after which it is received, by the database's clock; a hub that
        is started has to move it. Raises UsageError, before the database is asked,
        for a payload that would come back as something else; NotInstalled without a log.
        """
        message = Outgoing(channel, payload, key, metadata, id, delay, expires)
        return self._parts.publisher.publish(message, bind)

    def publish_many(self, messages: Iterable[Any], bind: Any = None) -> List[str]:
        """Publish messages, all or none, in one statement; return their ids, in order.

        Each is ``(channel, payload)``, ``(channel, payload, metadata)`` or an ``Outgoing``.
        The rest is as with ``publish()``.
        """
        return self._parts.publisher.publish_many(messages, bind)

    def subscribe(
        self,
        *channels: str,
        group: Optional[str] = None,
        type: Optional[type] = None,
        batch: bool = False,
        transactional: bool = False,
    ) -> Callable[[Function], Function]:
        """Call the decorated function with each message of these channels.

        ``"orders.*"`` stands for all channels whose name begins with ``orders.``, ``"*"`` for
        all. Without ``group`` each process receives what is committed while its hub runs;
        with it, one of all processes receives each message, also what was committed while
        none ran. Such a group is unordered, unless ``hub.group()`` says otherwise.

        ``type``: a dataclass, an attrs class or a pydantic model, of which the payload is
        made; one that does not fit is a failure of the call. ``batch`` and ``transactional``
        are as in ``listen()``. Raises UsageError.
        """

        def register(fn: Function) -> Function:
            subscription = Subscription(fn, channels, group, type, batch, transactional)
            self.registry.add(subscription, (MOMENT,))
            return fn

        return register

    def unsubscribe(self, fn: Callable[..., Any]) -> None:
        """Take back each ``subscribe()`` of a function. Raises UsageError if there is none."""
        if not self.registry.leave((MOMENT,), lambda listener: bool(listener.fn == fn)):
            raise UsageError(f"{fn!r} is subscribed to no channel")

    def messages(
        self,
        *channels: str,
        group: str,
        batch_size: int = 20,
        timeout: Optional[float] = None,
        renew: bool = True,
    ) -> Box:
        """Return a group's messages of these channels, for a loop of your own::

            with hub.messages("jobs.*", group="workers") as box:
                for message in box:
                    work(message.payload)
                    message.ack()

        Each waits for ``ack()`` or ``nack()``; see ``Received``. ``batch_size`` messages are
        taken together. ``timeout``: seconds to wait for the next one until the loop ends; None:
        until the hub stops. ``renew=False``: a message that is not acted upon within the group's
        ``lease`` goes to somebody else, though this process lives; else while the box is open
        nobody else gets it. The hub has to be started. The group is as ``subscribe(group=)``
        makes it, and unordered. Raises UsageError.
        """
        return self._life.box(
            group, channels, batch_size, timeout, renew, self._parts.publisher.connection_of
        )

    def listen_to(self, channel: str, fn: Callable[[Message], Any]) -> ChannelListener:
        """Call ``fn(message)`` for each message of a channel until ``stop()`` of what is returned.

        ``channel`` may be a pattern. What is returned has ``ready``, ``error`` and ``stop()``,
        which returns when no call runs any more.
        """
        listener = ChannelListener(fn, self.unsubscribe, lambda: self._life.connected)
        self.subscribe(channel)(listener)
        return listener

    def enrich(self, fn: Enricher) -> Enricher:
        """Add the dict that ``fn()`` returns to the metadata of what is written from now on.

        That is each message that is published, and each event that is appended to a stream.
        What a caller gives explicitly comes first. The write raises UsageError where two
        functions give one name different values. Returns the function.
        """
        self._parts.streams.enrichers.add(fn)
        return fn

    # Notifications of PostgreSQL's own.

    def notify(self, channel: str, text: str = "", bind: Any = None) -> None:
        """Send a notification of PostgreSQL, as NOTIFY does, to those who listen now.

        ``text`` has 7,999 bytes at the most. With ``bind``, a Session, scoped_session or
        Connection, it is sent with that transaction's commit; without, at once. Nothing is
        stored: ``publish()`` is for what must not be lost. Raises UsageError; on SQLite, too.
        """
        self._refuse_native()
        self._parts.publisher.notify(native_channel(channel), native_payload(text), bind)

    def on_notify(self, channel: str) -> Callable[[Function], Function]:
        """Call the decorated function with each ``Notification`` of a channel of PostgreSQL.

        While the hub is started and connected it receives what is sent from now on; a hub that
        is polled, what is sent after its next ``poll()``. After a lost connection the signal
        ``gap`` reports that some may be missing. Raises UsageError; on SQLite, too.
        """
        self._refuse_native()

        def register(fn: Function) -> Function:
            self.registry.add(NativeListener(fn, channel), (NATIVE,))
            return fn

        return register

    def off_notify(self, fn: Callable[..., Any]) -> None:
        """Take back each ``on_notify()`` of a function. Raises UsageError if there is none."""
        if not self.registry.leave((NATIVE,), lambda listener: bool(listener.fn == fn)):
            raise UsageError(f"{fn!r} listens to no channel of PostgreSQL")

    def _refuse_native(self) -> None:
        if self._backend.dialect != "postgresql":
            raise UsageError(NO_NOTIFY)

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
        outside. Returns the factory. To be called at any time; used from the next call on.
        Raises UsageError.
        """
        self._parts.around.add(factory)
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
        return self._around_writes(bind, {"context": context_text(values)})

    def suppressed(self, bind: Any) -> ContextManager[None]:
        """Within the block, capture nothing of what ``bind`` writes.

        It ends with the block or the transaction, whichever comes first.
        """
        return self._around_writes(bind, {"capture": "off"})

    def altering(self, bind: Any, /, *targets: Any) -> ContextManager[None]:
        """Within the block, alter these tables, or any, with ``bind``, even while hubs run.

        For migrations on SQLite, where a trigger prevents DROP COLUMN, and is dropped with
        a table that is created again. ``bind`` is the Session or Connection of the
        migration, or sqlite3's own. In its transaction the triggers are dropped, and at the
        end of the block created for the columns that there are then: nothing is missed, and
        running hubs report nothing. On PostgreSQL there is nothing to do. Raises UsageError
        for a table that does not exist.
        """
        return self._backend.altering(bind, [as_target(target) for target in targets])

    # Looking at it.

    def status(self) -> Dict[str, Any]:
        """Return what the hub does now, as a plain dict.

        ``state`` is "stopped", "connecting", "listening" or "failed" (a
        thread has ended); ``error`` what keeps it from listening;
        ``warnings`` what works, but not as it should: one sentence for each.
        """
        self._life.notice_fork()
        return self._status.as_dict()

    def __repr__(self) -> str:
        return f"<Hub {self._address} {self._status.state}>"

    @contextlib.contextmanager
    def _around_writes(self, bind: Any, values: Dict[str, str]) -> Iterator[None]:
        targets = [one.target for one, _ in self.registry.all() if one.target is not None]
        connection = connection_of(bind, self._backend, targets)
        with self._backend.settings(connection, values):
            yield
