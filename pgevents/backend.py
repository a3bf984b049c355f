"""What a database must be able to do. ``postgres/`` and ``sqlite/`` each do it."""

import contextlib
import copy
import os
import random
import socket
import threading
from typing import Any, ContextManager, Dict, Iterable, Iterator, List, Optional, Set, Tuple

from sqlalchemy.engine import Engine

from .event import LogRow
from .grouplog import Captured, GroupLog
from .tables import Tables
from .target import OPERATIONS, Target
from .values import Shape
from .warnings import Warnings


class Wish:
    """What a service wants captured of a table.

    ``include`` is None for all columns but ``exclude``; ``old`` tells whether old rows are
    kept whole, or only their keys; None: no opinion. ``open``: no opinion about columns, but
    that ``include`` be among them. What nobody has an opinion about is captured whole:

        open, nothing else             whole
        open | exclude=["card"]        all but card
        whole | exclude=["card"]       whole: somebody said so
    """

    def __init__(
        self,
        operations: Iterable[str] = OPERATIONS,
        include: Optional[Iterable[str]] = None,
        exclude: Iterable[str] = (),
        old: Optional[bool] = True,
        open: bool = False,
    ) -> None:
        self.operations = tuple(o for o in OPERATIONS if o in set(operations))
        if open and include is None:
            include = ()
        excluded = set(exclude)
        # With include, what is left of it says everything.
        self.include = None if include is None else tuple(sorted(set(include) - excluded))
        self.exclude = tuple(sorted(excluded)) if include is None else ()
        self.old = old
        self.open = open

    def __or__(self, other: "Wish") -> "Wish":
        """Return what serves both."""
        excluded = set(self.exclude) & set(other.exclude)
        include: Optional[Set[str]] = None
        if self.include is not None and other.include is not None:
            include = set(self.include) | set(other.include)
        elif self.include is not None:
            excluded = set(other.exclude) - set(self.include)
        elif other.include is not None:
            excluded = set(self.exclude) - set(other.include)
        opinions = [old for old in (self.old, other.old) if old is not None]
        return Wish(
            self.operations + other.operations,
            include,
            excluded,
            any(opinions) if opinions else None,
            self.open and other.open,
        )

    def settled(self) -> "Wish":
        """Return the same with an opinion about everything: this is captured if nobody objects."""
        include = None if self.open else self.include
        return Wish(self.operations, include, self.exclude, self.old is not False)

    def with_key(self, key: Iterable[str]) -> "Wish":
        """Return the same with these columns in any case: an event has to say which row it was."""
        include: Optional[Iterable[str]] = self.include
        if include is not None and not self.open:
            include = {*include, *key}
        return Wish(self.operations, include, set(self.exclude) - set(key), self.old, self.open)

    def of(self, columns: Iterable[str]) -> List[str]:
        """Return those of a table's columns that are captured, if nobody objects."""
        settled = self.settled()
        return [
            name
            for name in columns
            if (settled.include is None or name in settled.include) and name not in self.exclude
        ]

    def insists_on(self, columns: Iterable[str]) -> Set[str]:
        """Return those of a table's columns that have to be captured, whoever objects."""
        return set(self.include or ()) & set(columns) if self.open else set(self.of(columns))

    def serves(self, other: "Wish", columns: Iterable[str]) -> bool:
        """Tell whether all that another wants of a table with these columns is in this."""
        return (
            set(self.operations) >= set(other.operations)
            and set(self.of(columns)) >= other.insists_on(columns)
            and (self.old is not False or not other.old)
        )

    def as_dict(self) -> Dict[str, Any]:
        """Return it as JSON types; ``Wish(**that)`` gives it back."""
        return {
            "operations": list(self.operations),
            "include": None if self.include is None else list(self.include),
            "exclude": list(self.exclude),
            "old": self.old,
            **({"open": True} if self.open else {}),
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Wish) and self.as_dict() == other.as_dict()

    def __repr__(self) -> str:
        return f"Wish({self.as_dict()})"


def union_of(wishes: Iterable[Wish]) -> Wish:
    """Return what is captured to serve them all; nothing, if there are none."""
    union = Wish(operations=(), old=None, open=True)
    for wish in wishes:
        union |= wish
    return union.settled()


def is_served(
    wish: Wish, columns: Iterable[str], known: Dict[str, Wish], service: Optional[str] = None
) -> bool:
    """Tell whether what the services want of a table covers a wish.

    With a ``service`` it must have said so itself; without, it is enough that somebody did.
    """
    if service is None:
        return union_of(known.values()).serves(wish, columns)
    return service in known and known[service] | wish == known[service]


class Relation:
    """A table that was found in the database.

    ``schema`` and ``name`` as the database has them; ``topic`` is what its
    log rows bear; ``columns`` in order; ``key`` the primary key's. Another
    ``oid`` under the same name is a table made anew; None: nobody can tell.
    """

    def __init__(
        self,
        schema: str,
        name: str,
        columns: Tuple[str, ...],
        key: Tuple[str, ...],
        oid: Optional[int] = None,
        **more: Any,
    ) -> None:
        self.schema = schema
        self.name = name
        self.topic = f"{schema}.{name}"
        self.columns = columns
        self.key = key
        self.oid = oid
        self.more = more  # what only its own backend understands

    @property
    def label(self) -> str:
        """Its name as a listener, or the command, has to give it."""
        return Target(self.schema, self.name).key


class Reader:
    """Reads a log behind a cursor. One thread at a time uses it, but for ``wake``.

    The cursor is kept when the connection is lost: ``open()`` makes a new one
    and goes on where it was.
    """

    @property
    def is_open(self) -> bool:
        """Tell whether there is a connection that is not known to be lost."""
        raise NotImplementedError

    #: Who we are, for the leases of groups: host, process and a number.
    owner: str

    #: Until when (``time.monotonic()``) the next ``open()`` may wait for a lock of the database.
    deadline: Optional[float] = None

    def open(self) -> None:
        """Connect; the first time, begin with what is committed from now on.

        Raises a DatabaseError.
        """
        raise NotImplementedError

    def read(self) -> List[LogRow]:
        """Return what is new, in order, at most a page; an empty list when there is nothing.

        Raises Unavailable when the connection is lost; then nothing was read.
        """
        raise NotImplementedError

    def skim(self) -> bool:
        """Move past what is new without returning it; tell whether there was anything."""
        return bool(self.read())

    @property
    def place(self) -> Any:
        """Where it is in the log, for ``go_back(place)``."""
        raise NotImplementedError

    def go_back(self, place: Any) -> None:
        """Read on from where it was."""
        raise NotImplementedError

    @property
    def behind(self) -> bool:
        """Tell whether the last ``read()`` left something that was committed before it."""
        raise NotImplementedError

    def wait(self, timeout: float) -> None:
        """Sleep until there may be something to read, for ``timeout`` seconds at most."""
        raise NotImplementedError

    def breathe(self) -> None:
        """Take in what the server sends while nobody reads. Raises Unavailable."""

    def wake(self) -> None:
        """End ``wait()``, or the next one. From any thread."""
        raise NotImplementedError

    def interrupt(self) -> None:
        """Make whatever the reader does raise Unavailable soon. From any thread; for good."""
        raise NotImplementedError

    def altered(self) -> bool:
        """Tell, once, that tables may have been altered since the last call."""
        return False

    def missed(self) -> Optional[str]:
        """Tell, once, that events were cleaned away before they were read; else None."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the connection; ``open()`` makes another. Safe twice."""
        raise NotImplementedError

    def end(self) -> None:
        """Close the connection for good."""
        self.close()

    def abandon(self) -> None:
        """In a forked child: forget the parent's connection without disturbing it."""
        raise NotImplementedError

    def copy(self) -> "Reader":
        """Return a reader of its own that goes on from the same place."""
        raise NotImplementedError


def _translate_map(bind: Any) -> Dict[Optional[str], Optional[str]]:
    """Return which schemas an Engine writes other names for, in all that it executes."""
    if not isinstance(bind, Engine):
        return {}
    return dict(bind.get_execution_options().get("schema_translate_map") or {})


def new_owner() -> str:
    """Return a name for a reader, which no other has."""
    return f"{socket.gethostname()}:{os.getpid()}:{random.randrange(1000, 2**31)}"


class Backend:
    """One database, as a hub sees it. Its methods may be called from any thread."""

    tables: Tables

    #: "postgresql" or "sqlite"
    dialect: str

    def __init__(self, bind: Any = None) -> None:
        self._shared = threading.local()
        self._schemas = _translate_map(bind)
        #: Topic → the mark of its table's shape, as those who read the log found it last.
        self.marks: Dict[str, Any] = {}
        #: Of the hub: what works, but not as it should. For all that belongs to the backend.
        self.warnings = Warnings()
        #: Around whatever must not be under way when the process forks.
        self.gate: ContextManager[Any] = contextlib.nullcontext()

    @contextlib.contextmanager
    def session(self, deadline: Optional[float] = None) -> Iterator[None]:
        """Within the block, let this thread's calls share one connection.

        They wait for a lock of the whole database until ``deadline`` (``time.monotonic()``).
        """
        self._shared.deadline = deadline
        try:
            with self.connection() as connection:
                outer = getattr(self._shared, "connection", None)
                self._shared.connection = connection
                try:
                    yield
                finally:
                    self._shared.connection = outer
        finally:
            self._shared.deadline = None

    @contextlib.contextmanager
    def connection(self) -> Iterator[Any]:
        """Give a connection of the driver's for the block, with its errors translated."""
        shared = getattr(self._shared, "connection", None)
        with self.gate:
            connection = self._connect() if shared is None else shared
            try:
                with self._translated():
                    yield connection
            finally:
                if shared is None:
                    connection.close()

    def _connect(self) -> Any:
        """Open a connection that commits each statement. Raises a DatabaseError."""
        raise NotImplementedError

    def _translated(self) -> ContextManager[None]:
        """Within the block, turn the driver's errors into ours."""
        raise NotImplementedError

    def named(self, target: Target) -> Target:
        """Return a target as the Engine's ``schema_translate_map`` has it."""
        if target.schema not in self._schemas:
            return target
        named = copy.copy(target)
        named.schema = self._schemas[target.schema]
        return named

    def find(self, target: Target) -> Relation:
        """Look a table up. Raises UsageError, with the nearest names, if there is none."""
        raise NotImplementedError

    def find_topic(self, topic: str) -> Optional[Relation]:
        """Look a table up by its topic; None if it is gone."""
        raise NotImplementedError

    def shape(self, relation: Relation, target: Optional[Target]) -> Shape:
        """Return how the rows of a table are read; ``target`` may know its mapped types."""
        raise NotImplementedError

    def install(
        self,
        service: str,
        wishes: List[Tuple[Relation, Wish]],
        deadline: Optional[float] = None,
        owner: Optional[str] = None,
    ) -> None:
        """Create what is missing, replace what is outdated, and touch nothing that is current.

        ``owner`` is a role that is to own what runs in the writers' transactions.
        Raises Unavailable, which names it, when a lock has not come until
        ``deadline`` (``time.monotonic()``).
        """
        raise NotImplementedError

    def install_sql(
        self,
        service: str,
        wishes: List[Tuple[Relation, Wish]],
        role: Optional[str] = None,
        owner: Optional[str] = None,
    ) -> str:
        """Return as SQL what ``install`` would do on a fresh database.

        With ``role`` also the rights that a hub of that role needs.
        """
        raise NotImplementedError

    def missing(self, service: Optional[str], wishes: List[Tuple[Relation, Wish]]) -> List[str]:
        """Name what is not installed, or outdated: a sentence each. Empty if all is well.

        With a ``service``, its own wishes must be written down, too.
        """
        raise NotImplementedError

    def unheard(self, wishes: List[Tuple[Relation, Wish]]) -> List[str]:
        """Name of what is missing that by which changes are not captured: a sentence each."""
        return self.missing(None, wishes)

    def missed_between(self, former: Relation, now: Relation) -> List[str]:
        """Say what was not captured while a table became another: a sentence for each reason."""
        return [] if former.oid == now.oid else [f"{now.topic} was made anew"]

    def lacking(self, wishes: List[Tuple[Relation, Wish]]) -> List[str]:
        """Name the columns that triggers which are there do not capture: a sentence each."""
        return []  # where a trigger names no column

    def uninstall(self, service: str, everything: bool) -> None:
        """Remove what no other service wants; with ``everything`` all.

        The log goes with the last service, unless there are groups.
        """
        raise NotImplementedError

    def installed(self) -> List[Dict[str, Any]]:
        """Return what is captured: a dict for each table."""
        raise NotImplementedError

    def heal(self) -> int:
        """Make rows that a restored dump brought count as read; return how many."""
        return 0

    def clean(self, older: float, groups: float) -> int:
        """Delete the log rows that were committed ``older`` seconds ago; return how many.

        What a group still needs stays for ``groups`` seconds.
        Does nothing if another process does it now.
        """
        raise NotImplementedError

    def reader(self) -> Reader:
        """Return a reader of the log, not opened yet."""
        raise NotImplementedError

    def watched(self, topic: str) -> Dict[str, Wish]:
        """Return what each service wants captured of a table."""
        raise NotImplementedError

    def wish(self, topic: str) -> Wish:
        """Return what is captured of a table for all services; no operations: nothing."""
        return union_of(self.watched(topic).values())

    def captured(self, topic: str) -> Optional[Captured]:
        """Return a table and the columns of it that are captured; None if it is gone."""
        raise NotImplementedError

    def group_log(self) -> GroupLog:
        """Return the log as groups read it."""
        raise NotImplementedError

    def looks_the_same(self, engine: Any) -> bool:
        """Tell whether an Engine's address is ours; another one may lead here as well."""
        raise NotImplementedError

    def is_behind(self, connection: Any) -> bool:
        """Tell whether an application's Connection leads to this database."""
        raise NotImplementedError

    def settings(self, connection: Any, values: Dict[str, str]) -> ContextManager[None]:
        """Within the block, set ``context`` or ``capture`` for a Connection's transaction."""
        raise NotImplementedError

    def altering(self, bind: Any, targets: List[Target]) -> ContextManager[None]:
        """Within the block, which alters these tables with ``bind``, do not stand in its way."""
        return contextlib.nullcontext()

    def before_fork(self) -> None:
        """The process is about to fork: bring to rest what must not be cut in two."""

    def after_fork(self) -> None:
        """It has forked; called in the parent."""

    def after_fork_in_child(self) -> None:
        """It has forked; called in the child."""

    def dispose(self) -> None:
        """Close what is kept open."""
        raise NotImplementedError
