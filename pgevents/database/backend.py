"""What a database must be able to do. ``postgres/`` and ``sqlite/`` each do it."""

import contextlib
import copy
import threading
from typing import Any, ContextManager, Dict, Iterable, Iterator, List, Optional

from sqlalchemy.engine import Engine

from ..events.values import Shape
from ..listening.target import Target
from ..tables import Tables
from ..warnings import Warnings
from .grouplog import Captured, GroupLog
from .outbox import Outbox
from .reader import Reader
from .relation import Relation
from .spec import Specs
from .store import EventStore
from .there import There


def _translate_map(bind: Any) -> Dict[Optional[str], Optional[str]]:
    """Return which schemas an Engine writes other names for, in all that it executes."""
    if not isinstance(bind, Engine):
        return {}
    return dict(bind.get_execution_options().get("schema_translate_map") or {})


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

    def look(
        self,
        targets: Iterable[Target] = (),
        topics: Iterable[str] = (),
        everything: bool = False,
        types: bool = False,
    ) -> There:
        """Return what is there, at one moment: of these targets and topics, or of ``everything``.

        That is all that is captured. However many these are, it takes a few statements. With
        ``types``, ``shape()`` need not ask once more for each table that a target means.
        """
        raise NotImplementedError

    def warn_of(self, there: There) -> None:
        """Warn of what works, but not as it should, once all is done that can be done."""

    def find_topic(self, topic: str) -> Optional[Relation]:
        """Look a table up by its topic; None if it is gone."""
        raise NotImplementedError

    def shape(self, relation: Relation, target: Optional[Target]) -> Shape:
        """Return how the rows of a table are read; ``target`` may know its mapped types."""
        raise NotImplementedError

    def install(
        self,
        service: str,
        specs: Specs,
        there: There,
        deadline: Optional[float] = None,
        owner: Optional[str] = None,
        asked: bool = True,
    ) -> bool:
        """Create what is missing, replace what is outdated, and touch nothing that is current.

        ``there`` was found a moment ago. Tell whether anything was changed.
        ``owner`` is a role that is to own what runs in the writers' transactions.
        Unless somebody has ``asked`` for it, what the service has uninstalled stays so.
        Raises Unavailable, which names it, when a lock has not come until
        ``deadline`` (``time.monotonic()``).
        """
        raise NotImplementedError

    def install_sql(
        self,
        service: str,
        specs: Specs,
        role: Optional[str] = None,
        owner: Optional[str] = None,
    ) -> str:
        """Return as SQL what ``install`` would do on a fresh database.

        With ``role`` also the rights that a hub of that role needs.
        """
        raise NotImplementedError

    def missed_between(self, former: Relation, now: Relation) -> List[str]:
        """Return what was not captured while a table became another: a sentence for each reason."""
        return [] if former.oid == now.oid else [f"{now.topic} was created again"]

    def uninstall(self, service: str, everything: bool) -> None:
        """Remove what no other service wants; with ``everything`` all.

        The log goes with the last service, unless there are groups. Where it stays, a mark
        says what was uninstalled.
        """
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

    def captured(self, topics: Iterable[str]) -> List[Captured]:
        """Return those of these tables that are there, and the columns that are captured."""
        there = self.look(topics=topics)
        return [
            Captured(relation, there.spec(topic).with_key(relation.key).of(relation.columns))
            for topic in topics
            for relation in (there.tables.get(topic),)
            if relation is not None
        ]

    def group_log(self) -> GroupLog:
        """Return the log as groups read it."""
        raise NotImplementedError

    def outbox(self) -> Outbox:
        """Return what publishes messages."""
        raise NotImplementedError

    def store(self) -> EventStore:
        """Return the streams of events."""
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
