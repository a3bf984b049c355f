"""What an application has as ``hub.streams``: it appends, loads, subscribes."""

import contextlib
from typing import Any, Callable, Iterable, Iterator, List, Mapping, Optional, TypeVar, Union

from sqlalchemy import MetaData
from sqlalchemy.engine import Connection

from .. import checks
from ..database.backend import Backend
from ..database.grouplog import GroupLog
from ..database.store import KeptState
from ..database.writers import require_commit
from ..errors import UsageError
from ..events.logrow import LogRow
from ..listening.registry import Registry
from ..payloads.enrichers import Enrichers
from .codec import Change
from .history import History
from .listeners import Listeners, told
from .names import LAST_VERSION, category_name, stream_key, tenant_name
from .names import version as checked_version
from .reading import Reading
from .selection import Selection
from .stored import Stored, key_of
from .subscription import MOMENT, StreamSubscription
from .types import Types, Upcaster
from .writing import Appender

Function = TypeVar("Function", bound=Callable[..., Any])
Kind = TypeVar("Kind", bound=type)

PAGE = 500  # events that are read together


class StreamParts:
    """What the streams of one hub are made of, whatever the tenant.

    ``log()`` is the log as groups use it, on a pool of our own.
    """

    def __init__(
        self,
        backend: Backend,
        registry: Registry,
        types: Types,
        enrichers: Enrichers,
        log: Callable[[], GroupLog],
    ) -> None:
        self.backend = backend
        self.registry = registry
        self.types = types
        self.log = log
        self.store = backend.store()
        self.enrichers = enrichers
        self.listeners = Listeners()
        self.appender = Appender(backend, self.store, types, self.enrichers, self.listeners, log)
        self.page = PAGE
        self.category = ""

    def stored(self, row: LogRow) -> Stored:
        """Return the event of a row."""
        return Stored(row, self.types)


class Streams:
    """The streams of one hub, or those of one tenant: see ``for_tenant()``.

    A stream has a category and an id, a text or a UUID: what belongs to "orders" and "17" is not
    what belongs to "invoices" and "17". Without a category it is "". The hub need not be
    started, but for subscriptions. Errors are ``PgEventsError``; those of the application's own
    connections are as its driver raises them.
    """

    def __init__(self, parts: StreamParts, tenant: Optional[str] = None) -> None:
        self._parts = parts
        self.tenant = tenant

    def for_tenant(self, tenant: Optional[str]) -> "Streams":
        """Return the streams of one tenant, which sees no others; None: of none."""
        return Streams(self._parts, tenant_name(tenant))

    def configure(
        self,
        *,
        category: Optional[str] = None,
        page_size: Optional[int] = None,
        depth: Optional[int] = None,
        encode: Optional[Change] = None,
        decode: Optional[Change] = None,
    ) -> None:
        """Set what is not given to each call; what is None stays as it is. Raises UsageError.

        ``category``: that of streams for which none is given. ``page_size``: events that are
        read together. ``depth``: appends that one append may cause, each by an in_transaction
        listener of the one before. ``encode(data, about)`` gets the data of an event as JSON
        types and returns what is stored in its place, ``decode(data, about)`` undoes that;
        ``about`` has ``stream``, ``category``, ``tenant`` and ``type``. None as its result is
        the data of an event whose key is gone.
        """
        parts = self._parts
        for name, fn in (("encode", encode), ("decode", decode)):
            if fn is not None and not callable(fn):
                raise UsageError(f"{name}={fn!r}: give a function")
        page_size = parts.page if page_size is None else checks.whole("page_size", page_size)
        depth = parts.listeners.depth if depth is None else checks.whole("depth", depth)
        category = parts.category if category is None else category_name(category) or ""
        parts.page, parts.listeners.depth, parts.category = page_size, depth, category
        parts.types.encode = encode or parts.types.encode
        parts.types.decode = decode or parts.types.decode

    # Types.

    def event(self, name: str, version: int = 1) -> Callable[[Kind], Kind]:
        """Let objects of the decorated class be events of this type, in this version.

        It is a dataclass, an attrs class or a pydantic model. Raises UsageError.
        """

        def register(kind: Kind) -> Kind:
            self._parts.types.register(name, version, kind)
            return kind

        return register

    def upcaster(self, name: str, version: int) -> Callable[[Function], Function]:
        """Let the decorated ``fn(data, metadata)`` make the next version of older data, a dict."""

        def register(fn: Function) -> Function:
            upcaster: Upcaster = fn
            self._parts.types.upcaster(name, version, upcaster)
            return fn

        return register

    # Streams.

    def append(
        self,
        stream: Any,
        *events: Any,
        category: Optional[str] = None,
        expected_version: Optional[int] = None,
        bind: Any = None,
        metadata: Optional[Mapping[str, Any]] = None,
    ) -> List[Stored]:
        """Append events to a stream, all or none; return them as they are stored, in order.

        Each is an object of a registered class, or a dict with its type's name under "type".
        With ``expected_version`` raises ConcurrencyError, and writes nothing, where the stream
        is at another version; ``NO_STREAM`` (0): nothing was ever appended. With None it is
        appended to whatever there is.

        With ``bind``, the Session, scoped_session or Connection that writes, the events belong
        to that transaction; without, they are committed when this returns. ``metadata``: a dict
        beside the data of each. Raises UsageError, before the database is asked, for what would
        come back as something else; NotInstalled without a log.
        """
        key = stream_key(stream, self._category(category), self.tenant)
        if expected_version is not None:
            checked_version("expected_version", expected_version)
        return self._parts.appender.append(key, events, expected_version, bind, metadata)

    def load(
        self,
        stream: Any,
        category: Optional[str] = None,
        after: int = 0,
        upto: Optional[int] = None,
        snapshot: bool = False,
        bind: Any = None,
    ) -> History:
        """Return the events of a stream behind version ``after``, up to ``upto`` and with it.

        They are read by the page, while they are iterated over. With ``snapshot`` they begin
        behind the stream's snapshot, if it has one, whose state is ``.state``. A stream that is
        not there has no events, and the version 0. ``bind`` is as in ``append()``: what
        its transaction has appended is there, too.
        """
        key = stream_key(stream, self._category(category), self.tenant)
        last = LAST_VERSION if upto is None else checked_version("upto", upto)
        checked_version("after", after)
        store, types, size = self._parts.store, self._parts.types, self._parts.page

        def pages(after: int, upto: int) -> List[Stored]:
            with self._reading(bind) as connection:
                rows = store.page(connection, key, after, upto, size)
            return [Stored(row, types) for row in rows]

        with self._reading(bind) as connection:
            last = min(last, store.version(connection, key))
            kept = store.snapshot(connection, key, last) if snapshot else None
        if kept is None:
            return History(pages, after, last)
        state = types.read_state(kept.type, kept.state)
        return History(pages, max(after, kept.version), last, state)

    def snapshot(
        self,
        stream: Any,
        state: Any,
        version: int,
        category: Optional[str] = None,
        bind: Any = None,
    ) -> None:
        """Keep what was made of a stream's events up to a version, for ``load(snapshot=True)``.

        ``state``: what a message's payload may be, or an object of a registered class. It takes
        the place of an earlier one; one of a later version stays. Raises UsageError for a
        version that the stream has not reached.
        """
        key = stream_key(stream, self._category(category), self.tenant)
        checked_version("version", version, 1)
        name, text = self._parts.types.state(state)
        store = self._parts.store

        def keep(connection: Connection) -> None:
            there = store.version(connection, key)
            if there < version:
                raise UsageError(f"version={version}: the stream is at version {there}")
            store.keep(connection, key, KeptState(version, name, text))

        self._write(keep, bind)

    def delete(self, stream: Any, category: Optional[str] = None, bind: Any = None) -> int:
        """Delete a stream's events, its snapshot and its dead letters; return how many events.

        Its versions are not used again: what is appended later goes on behind them, and
        ``load()`` still tells the version. So no projection takes new events for old ones.
        """
        key = stream_key(stream, self._category(category), self.tenant)
        return int(self._write(lambda own: self._parts.store.delete(own, key), bind))

    def redact(self, event: Stored, replacement: Any, bind: Any = None) -> None:
        """Put other data in the place of an event's: an object of its class, or a dict.

        Its dead letters go, and its stream's snapshot if it was made of the event. The event's
        metadata stay. Raises UsageError for an event that is not there.
        """
        if not isinstance(event, Stored):
            raise UsageError(f"redact {event!r:.60}: give an event that load() or read() gave")
        key, types = key_of(event), self._parts.types
        if isinstance(replacement, Mapping) and "type" not in replacement:
            replacement = {"type": event.type, **replacement}
        written = types.written(replacement, key, None)
        if written.type != event.type:
            raise UsageError(f"an event of the type {event.type!r} cannot become {written.type!r}")

        def put(connection: Connection) -> bool:
            given = written.data, written.type_version
            return self._parts.store.redact(connection, event.position, key, *given)

        if not self._write(put, bind):
            raise UsageError(f"redact {event!r}: it is not there")

    def names(self, category: Optional[str] = None, limit: int = 1000) -> List[Any]:
        """Return the first streams, each as its key and its version; of one tenant, if this is."""
        having = {"tenant": self.tenant, "category": category_name(category)}
        with self._reading(None) as connection:
            return self._parts.store.names(connection, checks.whole("limit", limit), **having)

    # Listeners and subscriptions.

    def subscribe(
        self,
        category: Union[None, str, Iterable[str]] = None,
        types: Optional[Iterable[Any]] = None,
        tenant: Optional[str] = None,
        group: Optional[str] = None,
        batch: bool = False,
        transactional: bool = False,
    ) -> Callable[[Function], Function]:
        """Call the decorated function with each event, in one of all processes of the group.

        ``category``, one or several, ``types``, classes or names, and ``tenant`` say which;
        None: all. ``for_tenant("a").subscribe(…)`` is for that tenant. The group reads the
        streams' own table, from its beginning unless ``hub.group(…, start="now")`` says
        otherwise, also after ``rewind("beginning")``: nothing is ever cleaned there. It is
        ordered. ``batch`` and ``transactional`` are as in ``listen()``. Raises UsageError.
        """
        selected = self._selected(category, types, tenant)

        def register(fn: Function) -> Function:
            subscription = StreamSubscription(fn, selected, group, batch, transactional)
            self._parts.registry.add(subscription, (MOMENT,))
            return fn

        return register

    def unsubscribe(self, fn: Callable[..., Any]) -> None:
        """Take back each ``subscribe()`` of a function. Raises UsageError if there is none."""
        if not self._parts.registry.leave((MOMENT,), lambda listener: bool(listener.fn == fn)):
            raise UsageError(f"{fn!r} is subscribed to no stream")

    def in_transaction(
        self, *types: Any, category: Optional[str] = None
    ) -> Callable[[Function], Function]:
        """Call the decorated ``fn(event, connection)`` within each append in this process.

        ``types`` are classes, of which subclasses count too, or types' names; none: all. It is
        called once for an event, in the order of registration, before ``append()`` returns.
        What it raises comes out of ``append()``, whose transaction is to be rolled back. What it
        appends with ``bind=connection`` is told when all are told of this one, up to a depth:
        see ``configure()``.
        """
        return self._tell(self._parts.listeners.within, types, category)

    def after_commit(
        self, *types: Any, category: Optional[str] = None
    ) -> Callable[[Function], Function]:
        """Call the decorated ``fn(event)`` when an append in this process is committed.

        What is rolled back, with its transaction or with a savepoint, is not told. It runs in
        the thread that commits, before ``commit()`` returns; what it raises is logged. It must
        not use the session that commits. A process that dies between the commit and the call
        tells nobody: what must happen is for ``subscribe()``.
        """
        return self._tell(self._parts.listeners.after, types, category)

    def read(
        self,
        after: Optional[str] = None,
        category: Union[None, str, Iterable[str]] = None,
        types: Optional[Iterable[Any]] = None,
        tenant: Optional[str] = None,
    ) -> Reading:
        """Return the events behind a cursor, for a loop of your own; without, from the beginning.

        The iterator ends where nothing is left; its ``.cursor`` is a text to go on from, behind
        the event that it gave last. Late commits are not missed. Which events come is said as
        in ``subscribe()``.
        """
        topics = [one.topic for one in self._selected(category, types, tenant)]
        parts = self._parts
        return Reading(lambda: parts.log().streams(), parts.stored, after, topics, parts.page)

    # Tables.

    @property
    def metadata(self) -> MetaData:
        """The tables of streams, in a MetaData of their own: for Alembic, for queries."""
        return self.configure_models(MetaData())

    def configure_models(self, base: Any) -> MetaData:
        """Put the tables of streams into a declarative base's metadata, or a MetaData; return it.

        So Alembic compares them with those in the database.
        """
        metadata = getattr(base, "metadata", base)
        if not isinstance(metadata, MetaData):
            raise UsageError(f"{base!r:.60} has no metadata: give a declarative base or a MetaData")
        tables = self._parts.backend.tables
        for table in (tables.streams, tables.events, tables.snapshots):
            if table.key not in metadata.tables:
                table.to_metadata(metadata)
        return metadata

    # Inside.

    def _category(self, given: Optional[str]) -> Optional[str]:
        return self._parts.category if given is None else given

    def _selected(
        self,
        category: Union[None, str, Iterable[str]],
        types: Optional[Iterable[Any]],
        tenant: Optional[str],
    ) -> List[Selection]:
        tenant = self.tenant if tenant is None else tenant_name(tenant)
        if tenant is not None and self.tenant not in (None, tenant):
            raise UsageError(f"tenant={tenant!r}: these are the streams of {self.tenant!r}")
        if isinstance(types, (str, type)):
            raise UsageError(f"types={types!r}: give a list")
        categories = [category] if category is None or isinstance(category, str) else list(category)
        names = [None] if types is None else [self._parts.types.name_of(one) for one in types]
        if not categories or not names:
            raise UsageError("subscribe to what? Give a category and types, or leave them out")
        return [Selection(tenant, category_name(one), name) for one in categories for name in names]

    def _tell(
        self, where: List[Any], types: Any, category: Optional[str]
    ) -> Callable[[Function], Function]:
        category_name(category)

        def register(fn: Function) -> Function:
            where.append(told(fn, types, category))
            return fn

        return register

    @contextlib.contextmanager
    def _reading(self, bind: Any) -> Iterator[Connection]:
        if bind is not None:
            yield self._parts.appender.connection(bind)
            return
        with self._parts.log().reading() as connection:
            yield connection

    def _write(self, write: Callable[[Connection], Any], bind: Any) -> Any:
        if bind is None:
            return self._parts.log().write(write)
        connection = self._parts.appender.connection(bind)
        require_commit(connection)
        return write(connection)
