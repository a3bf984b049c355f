"""PostgreSQL, as a hub sees it."""

import contextlib
import time
import weakref
from typing import Any, ContextManager, Dict, Iterable, Iterator, List, Optional

from sqlalchemy import text
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2
from sqlalchemy.engine import Connection, Dialect, Engine
from sqlalchemy.exc import SQLAlchemyError

from ..database.backend import Backend
from ..database.grouplog import GroupLog
from ..database.outbox import Outbox
from ..database.reader import Reader
from ..database.relation import Relation
from ..database.spec import Specs
from ..database.store import EventStore
from ..database.there import There
from ..database.writers import refuse_autocommit, require_transaction
from ..errors import DatabaseError, UsageError
from ..events.logrow import TRANSACTION
from ..events.values import Shape, parse_exactly
from ..listening.target import Target
from ..tables import Tables
from . import catalog, retention
from .address import WHERE, Address, is_same
from .alterations import missed_between
from .capture import Capture, one_view
from .connection import connect, engine
from .grouplog import PostgresGroupLog
from .log import LogReader
from .outbox import PostgresOutbox
from .snapshot import is_before
from .store import PostgresStore
from .translation import translated
from .values import decoders, kinds

#: SQLAlchemy's, for what does not depend on the server.
_DIALECT: Dialect = PGDialect_psycopg2()  # type: ignore[no-untyped-call]

ASK_AGAIN = 60.0  # seconds until a writer's database is compared again, after ours did not answer


class PostgreSQL(Backend):
    """A database on a PostgreSQL server, 14 or newer.

    ``bell`` is None to leave the installed choice, which is on at first.
    ``poll_interval`` (seconds) counts where the bell is off.
    """

    dialect = "postgresql"

    def __init__(
        self,
        bind: Any,
        schema: str = "pgevents",
        bell: Optional[bool] = None,
        poll_interval: float = 0.05,
    ) -> None:
        super().__init__(bind)
        self.tables = Tables("postgresql", schema)
        self._address = Address(bind)
        self._capture = Capture(self.tables, bell)
        self._housekeeping = retention.Housekeeping(self.tables, self.warnings)
        self._poll_interval = poll_interval
        self._dialect: Optional[Dialect] = None
        #: Of pools that writers use: do they lead here? Each is asked once.
        self._behind: "weakref.WeakKeyDictionary[Any, bool]" = weakref.WeakKeyDictionary()
        self._ask_after = 0.0
        if isinstance(bind, Engine):
            self._behind[bind.pool] = True

    @contextlib.contextmanager
    def connection(self) -> Iterator[Any]:
        with super().connection() as connection, connection.cursor() as cursor:
            with self._capture.advised(cursor, "may not use the log"):
                yield connection

    def look(
        self,
        targets: Iterable[Target] = (),
        topics: Iterable[str] = (),
        everything: bool = False,
        types: bool = False,
    ) -> There:
        named = {target.key: self.named(target) for target in targets}
        with self._cursor() as cursor, one_view(cursor):
            there = self._capture.look(cursor, named, topics, everything)
            for key, relation in there.meant().items():
                if self.tables.owns(relation.schema, relation.name):
                    there.found(key, UsageError(f"{key!r} is a table of pgevents itself"))
            if types and there.meant():
                catalog.learn_types(cursor, there.meant().values())
        if not topics and not everything:  # what a hub wants, which may be channels alone
            self._warn(there)
        return there

    def find_topic(self, topic: str) -> Optional[Relation]:
        with self._cursor() as cursor:
            found = catalog.Catalog(cursor, self.tables.schema, {}, [topic])
            relation = found.tables.get(topic)
            if relation is not None:
                catalog.learn_types(cursor, [relation])
            return relation

    def shape(self, relation: Relation, target: Optional[Target]) -> Shape:
        if "types" not in relation.more:
            with self._cursor() as cursor:
                catalog.learn_types(cursor, [relation])
        types = relation.more["types"]
        mark, altered_by = relation.more["mark"], relation.more["altered_by"]
        self.marks[relation.topic] = mark
        table = target.table if target else None
        # Asked for only where a class or a Table declares types.
        known = _DIALECT if table is None else self._known_dialect()
        return Shape(
            relation.schema,
            relation.name,
            tuple(types),
            relation.key,
            decoders(types, table, known),
            parse_exactly,
            target.entity if target else None,
            model=target.model if target is not None else None,
            declared=table is not None,
            read_by=lambda other: decoders(types, other, self._dialect or known),
            kinds=lambda: kinds(types, table, known),
            mark=mark,
            precedes=lambda row: row[TRANSACTION] is not None
            and is_before(int(row[TRANSACTION]), altered_by),
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
        with self.connection() as connection:
            return self._capture.install(connection, service, specs, there, deadline, owner, asked)

    def install_sql(
        self,
        service: str,
        specs: Specs,
        role: Optional[str] = None,
        owner: Optional[str] = None,
    ) -> str:
        return self._capture.script(service, specs, role, owner)

    def _warn(self, there: There) -> None:
        """Warn of rights that somebody should not have, and of indexes that are not there."""
        answers, rights = there.more, self._capture.rights
        loose = "; ".join(rights.loose(answers))
        advice = "pgevents install, run by the log's owner, puts that right"
        self.warnings.set("rights", f"{loose}. {advice}" if loose else None)
        self.warnings.set("strangers", "; ".join(rights.foreign(answers)) or None)
        self.warnings.set("denied", "; ".join(rights.broken(answers)) or None)
        self.warnings.set("writers", "; ".join(rights.writers(answers)) or None)
        self.warnings.set("forgers", "; ".join(self._capture.forgers(there)) or None)
        self.warnings.set("twins", "; ".join(self._capture.twins(there)) or None)
        places = self._capture.places.taken(answers) + self._capture.places.lacking(answers)
        self.warnings.set("places", "; ".join(places) or None)

    def missed_between(self, former: Relation, now: Relation) -> List[str]:
        return missed_between(former, now)

    def uninstall(self, service: str, everything: bool) -> None:
        with self.connection() as connection:
            self._capture.uninstall(connection, service, everything)

    def heal(self) -> int:
        with self.connection() as connection:
            return retention.heal(connection, self.tables)

    def clean(self, older: float, groups: float) -> int:
        with self.connection() as connection:
            return self._housekeeping.clean(connection, older, groups)

    def reader(self) -> Reader:
        return LogReader(self._address, self.tables, self._poll_interval, self.warnings, self.marks)

    def group_log(self) -> GroupLog:
        return PostgresGroupLog(self._address, self.tables, self.marks)

    def outbox(self) -> Outbox:
        return PostgresOutbox(self.tables)

    def store(self) -> EventStore:
        return PostgresStore(self.tables)

    def looks_the_same(self, engine: Any) -> bool:
        return self._address.is_of(engine)

    def is_behind(self, connection: Any) -> bool:
        pool = connection.engine.pool
        if pool not in self._behind:
            if time.monotonic() < self._ask_after:
                return True  # a writer can do without our connection
            theirs = connection.execute(text(WHERE)).first()
            try:
                with self._cursor() as cursor:
                    cursor.execute(WHERE)
                    self._behind[pool] = is_same(theirs, cursor.fetchone())
            except DatabaseError:
                self._ask_after = time.monotonic() + ASK_AGAIN
                return True
        return self._behind[pool]

    @contextlib.contextmanager
    def settings(self, connection: Any, values: Dict[str, str]) -> Iterator[None]:
        """Set ``pgevents.<name>`` for the transaction, and what it was at the end of the block."""
        before = {name: _set(connection, name, value) for name, value in values.items()}
        transaction: Any = require_transaction(connection)
        _require_kept(connection, values)
        try:
            yield
        except BaseException:
            # Somebody may catch it and commit; where a statement failed nobody
            # can, and the setting goes with the rollback.
            with contextlib.suppress(SQLAlchemyError):
                _restore(connection, transaction, before)
            raise
        _restore(connection, transaction, before)

    def dispose(self) -> None:
        pass  # every connection is closed by who opened it

    def _known_dialect(self) -> Dialect:
        """Return SQLAlchemy's dialect, after it has learned about the server."""
        if self._dialect is None:
            ours = engine(self._address)
            with translated(), ours.connect():
                self._dialect = ours.dialect
        return self._dialect

    def _connect(self) -> Any:
        return connect(self._address)

    def _translated(self) -> ContextManager[None]:
        return translated()

    @contextlib.contextmanager
    def _cursor(self) -> Iterator[Any]:
        with self.connection() as connection, connection.cursor() as cursor:
            yield cursor


def _set(connection: Connection, name: str, value: str) -> str:
    """Set a setting until the transaction ends; return what it was."""
    setting = f"pgevents.{name}"
    row = connection.execute(
        text(
            "SELECT coalesce(pg_catalog.current_setting(:name, true), ''),"
            " pg_catalog.set_config(:name, :value, true)"
        ),
        {"name": setting, "value": value},
    ).first()
    assert row is not None
    return str(row[0])


def _require_kept(connection: Connection, values: Dict[str, str]) -> None:
    """Raise UsageError where what was set is gone already: there is no transaction."""
    raw: Any = connection.connection
    # psycopg2, psycopg and pg8000 all call it so; somebody may have sent BEGIN by hand.
    if getattr(raw, "autocommit", False):
        setting, value = next(iter(values.items()))
        found = connection.execute(
            text("SELECT pg_catalog.current_setting(:name, true)"), {"name": f"pgevents.{setting}"}
        ).scalar()
        if found != value:
            refuse_autocommit()


def _restore(connection: Connection, transaction: Any, before: Dict[str, str]) -> None:
    if transaction.is_active and connection.get_transaction() is transaction:
        for name, value in before.items():
            _set(connection, name, value)
