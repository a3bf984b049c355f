"""SQLite, as a hub sees it."""

import contextlib
import sqlite3
import time
import weakref
from typing import Any, ContextManager, Dict, Iterable, Iterator, List, Optional

from sqlalchemy import event, text
from sqlalchemy.engine import Connection, Engine

from ..database.backend import Backend
from ..database.grouplog import GroupLog
from ..database.outbox import Outbox
from ..database.reader import Reader
from ..database.relation import Relation
from ..database.spec import Specs
from ..database.store import EventStore
from ..database.there import There
from ..database.writers import connection_of, refuse_autocommit, require_transaction
from ..errors import UsageError
from ..events.logrow import POSITION
from ..events.values import Shape
from ..listening.target import Target
from ..tables import Tables
from ..threads import Gate
from . import catalog, numbers, retention
from .altering import altering
from .capture import Capture
from .connection import BUSY, autocommits, connect, one_view, path_of, same_file, translated
from .grouplog import SqliteGroupLog
from .log import LogReader
from .marks import Marks
from .outbox import SqliteOutbox
from .store import SqliteStore
from .values import decoders, decoders_by_name, kinds, parse


class SQLite(Backend):
    """A database in a file."""

    dialect = "sqlite"

    def __init__(self, bind: Any, schema: str = "pgevents") -> None:
        super().__init__(bind)
        self.tables = Tables("sqlite", schema)
        self._path = path_of(bind)
        self.gate = self._gate = Gate()
        self._capture = Capture(self.tables)
        self._marks = Marks()
        self.marks = self._marks.known
        self._readers: "weakref.WeakSet[LogReader]" = weakref.WeakSet()
        if isinstance(bind, Engine):
            event.listen(bind, "commit", self._poke)

    def look(
        self,
        targets: Iterable[Target] = (),
        topics: Iterable[str] = (),
        everything: bool = False,
        types: bool = False,
    ) -> There:
        named = {target.key: self.named(target) for target in targets}
        with self.connection() as connection, one_view(connection):
            return self._capture.look(connection, named, topics)

    def find_topic(self, topic: str) -> Optional[Relation]:
        with self.connection() as connection:
            return catalog.Schema(connection).find_topic(topic)

    def shape(self, relation: Relation, target: Optional[Target]) -> Shape:
        mark = self.marks[relation.topic] = relation.more["mark"]
        last_before = self._marks.last_before(relation.topic)
        table = target.table if target is not None else None
        return Shape(
            relation.schema,
            relation.name,
            relation.columns,
            relation.key,
            decoders_by_name(relation.more["types"]) if table is None else decoders(table),
            parse,
            target.entity if target is not None else None,
            model=target.model if target is not None else None,
            declared=table is not None,
            read_by=decoders,
            kinds=lambda: kinds(relation.columns, table),
            mark=mark,
            precedes=lambda row: row[POSITION] <= last_before,
        )

    def install(
        self,
        service: str,
        specs: Specs,
        there: There,
        deadline: Optional[float] = None,
        owner: Optional[str] = None,
        asked: bool = True,
    ) -> bool:
        _refuse_roles(owner=owner)
        with self.connection() as connection:
            changed = self._capture.install(connection, service, specs, there, deadline, asked)
            numbers.heal(connection, self.tables, deadline)
        return changed

    def install_sql(
        self,
        service: str,
        specs: Specs,
        role: Optional[str] = None,
        owner: Optional[str] = None,
    ) -> str:
        _refuse_roles(role=role, owner=owner)
        return self._capture.script(service, specs)

    def uninstall(self, service: str, everything: bool) -> None:
        with self.connection() as connection:
            self._capture.uninstall(connection, service, everything)

    def clean(self, older: float, groups: float) -> int:
        with self.connection() as connection:
            return retention.clean(connection, self.tables, older, groups)

    def reader(self) -> Reader:
        reader = LogReader(self._path, self.tables, self, self._marks)
        self._readers.add(reader)
        return reader

    def group_log(self) -> GroupLog:
        return SqliteGroupLog(self._path, self.tables, self._gate, self.warnings, self._marks)

    def outbox(self) -> Outbox:
        return SqliteOutbox(self.tables)

    def store(self) -> EventStore:
        return SqliteStore(self.tables)

    def looks_the_same(self, engine: Any) -> bool:
        try:
            return same_file(path_of(engine), self._path)
        except UsageError:  # in memory
            return False

    def is_behind(self, connection: Any) -> bool:
        databases = connection.exec_driver_sql("PRAGMA database_list").fetchall()
        return any(name == "main" and same_file(file, self._path) for _, name, file in databases)

    @contextlib.contextmanager
    def settings(self, connection: Any, values: Dict[str, str]) -> Iterator[None]:
        """Keep rows in the settings table within the block, never beyond the transaction.

        Nobody else sees them: they are not committed, and SQLite has one
        writer at a time.
        """
        settings = _Settings(connection, self.tables.name("settings"))
        before = {name: settings.get(name) for name in values}
        # Before anything is written: it would be committed, and be everybody's.
        require_transaction(connection)
        raw: Any = connection.connection
        if autocommits(raw) and not raw.in_transaction:
            refuse_autocommit()
        for name, value in values.items():
            settings.put(name, value)
        event.listen(connection, "commit", settings.clear)
        event.listen(connection, "rollback", settings.forget)
        try:
            yield
        finally:
            event.remove(connection, "commit", settings.clear)
            event.remove(connection, "rollback", settings.forget)
            # After an exception, too: somebody may catch it and commit.
            for name, former in before.items():
                settings.restore(name, former)

    @contextlib.contextmanager
    def altering(self, bind: Any, targets: List[Target]) -> Iterator[None]:
        if not isinstance(bind, sqlite3.Connection):
            bind = connection_of(bind, self, targets)
        with altering(self._capture, bind, targets):
            yield

    # SQLite's locks are the process's, and a child does not inherit them; but it
    # inherits what the library believes of them. So no connection may be in use
    # when the process forks, and the child closes those it finds.

    def before_fork(self) -> None:
        self._gate.close()

    def after_fork(self) -> None:
        self._gate.open()

    def after_fork_in_child(self) -> None:
        self.gate = self._gate = Gate()

    def dispose(self) -> None:
        pass  # every connection is closed by who opened it

    def _poke(self, _: Connection) -> None:
        for reader in list(self._readers):
            reader.poke()

    def warn_of(self, there: There) -> None:
        topics = self._capture.former(there)
        sentence = (
            f"the triggers of {', '.join(topics)} are those of release 0.1: they capture the same,"
            " but slow each new connection; stop its processes, then restart a hub of this release"
        )
        self.warnings.set("former triggers", sentence if topics else None)

    def _connect(self) -> sqlite3.Connection:
        deadline = getattr(self._shared, "deadline", None)
        if deadline is None:
            return connect(self._path)
        return connect(self._path, max(0.0, min(BUSY, deadline - time.monotonic())))

    def _translated(self) -> ContextManager[None]:
        return translated()


class _Settings:
    """Rows of the settings table that must be gone before anybody else sees them."""

    def __init__(self, connection: Connection, table: str) -> None:
        self._connection = connection
        self._table = table
        self._over = False  # the transaction has ended

    def get(self, name: str) -> Optional[str]:
        """Return a setting, or None."""
        row = self._connection.execute(
            text(f"SELECT value FROM {self._table} WHERE name = :name"), {"name": name}
        ).first()
        return None if row is None else str(row[0])

    def put(self, name: str, value: str) -> None:
        """Write a setting."""
        self._connection.execute(
            text(f"INSERT OR REPLACE INTO {self._table} (name, value) VALUES (:name, :value)"),
            {"name": name, "value": value},
        )

    def restore(self, name: str, former: Optional[str]) -> None:
        """Write back what ``get`` returned, unless the transaction is over."""
        if self._over:
            return
        if former is not None:
            self.put(name, former)
            return
        self._connection.execute(
            text(f"DELETE FROM {self._table} WHERE name = :name"), {"name": name}
        )

    def clear(self, connection: Connection) -> None:
        """Called before a commit: nothing of it may be committed."""
        self._over = True
        connection.exec_driver_sql(f"DELETE FROM {self._table}")

    def forget(self, _: Connection) -> None:
        """Called at a rollback, which takes the rows along."""
        self._over = True


def _refuse_roles(**given: Optional[str]) -> None:
    for name, role in given.items():
        if role is not None:
            raise UsageError(f"{name}={role!r}: SQLite has no roles")
