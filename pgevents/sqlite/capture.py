"""Installing on SQLite: the tables, and a row trigger for each operation."""

import json
import logging
import sqlite3
import time
from typing import Any, Iterable, List, Mapping, Optional

from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from ..capture.plan import (
    AwaitMigration,
    CreateTrigger,
    CreateView,
    DropTrigger,
    DropView,
    Forget,
    InstallLog,
    Operation,
    Record,
    ReplaceTrigger,
    compare,
    leftovers,
    settle,
)
from ..database.spec import UNINSTALLED, Spec, Specs
from ..database.there import Found, There
from ..listening.target import Target
from ..tables import Tables
from .catalog import SCHEMA, Schema, quoted
from .connection import writing
from .triggers import Triggers
from .values import name_literal

logger = logging.getLogger("pgevents")


PATIENCE = 60.0  # seconds for which a migration that does not come back keeps its tables

_ALTERING = "altering"  # the setting that names them


class Capture:
    """What is captured in one file, for one log."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.rules = Triggers(tables)

    def look(
        self,
        connection: Any,
        targets: Optional[Mapping[str, Target]] = None,
        topics: Iterable[str] = (),
    ) -> There:
        """Return what is there: of these targets and topics, and all that is captured."""
        schema = Schema(connection)
        there = There(self.rules)
        gone = [t.name for t in self.tables.metadata.sorted_tables if t.name not in schema.tables]
        if self.tables.name("log") in gone:
            there.log = f"the log {self.tables.name('log')} is not installed"
        elif gone:
            there.log = f"the log's table {', '.join(gone)} is gone"
        there.more = schema
        for key, target in (targets or {}).items():
            there.found(key, schema.find(target, self.tables))
        self._read_ours(connection, there, gone)
        for topic in {*there.specs, *topics}:
            relation = schema.find_topic(topic)
            if relation is not None:
                there.tables[topic] = relation
        for name, (table, text) in schema.triggers.items():
            if self.rules.is_view(table):
                there.views[table] = (*there.views.get(table, ()), text)
            elif self.rules.is_on(table, name, text):
                topic = f"{SCHEMA}.{table}"
                there.triggers.setdefault((SCHEMA, table), {})[name] = Found(text)
                relation = there.tables.get(topic) or schema.find_topic(topic)
                if relation is not None:
                    there.tables[topic] = relation
        for name, text in schema.views.items():
            if self.rules.is_view(name):
                there.views[name] = (text, *there.views.get(name, ()))
        return there

    def _read_ours(self, connection: Any, there: There, gone: List[str]) -> None:
        watch, settings = self.tables.name("watch"), self.tables.name("settings")
        parts = []
        if watch not in gone:
            parts.append(f"SELECT relation, service, wish FROM {watch}")
        if settings not in gone:
            parts.append(f"SELECT NULL, NULL, value FROM {settings} WHERE name = '{_ALTERING}'")
        for topic, service, value in connection.execute(" UNION ALL ".join(parts)) if parts else ():
            found = json.loads(value)
            if topic is not None:
                there.specs.setdefault(topic, {})[service] = Spec(**found)
            elif found["until"] > time.time():
                there.altered = set(found["topics"])

    def former(self, there: There) -> List[str]:
        """Return the topics whose triggers an earlier release has made, of those asked for."""
        asked = {relation.topic: relation for relation in there.meant().values()}
        return [
            topic
            for topic, relation in sorted(asked.items())
            if any(
                self.rules.is_former(found.mark or "")
                for found in there.triggers.get(relation.place, {}).values()
            )
        ]

    def install(
        self,
        connection: sqlite3.Connection,
        service: str,
        specs: Specs,
        there: There,
        deadline: Optional[float] = None,
        asked: bool = True,
    ) -> bool:
        """Create and replace what is missing; wait for other writers until ``deadline``.

        Unless ``asked``, what the service has uninstalled stays so.
        """
        if not compare(there, specs, service) and self._indexed(there):
            return False
        with writing(connection, deadline):
            for statement in self._tables_sql():
                connection.execute(statement)
            # Others may have installed meanwhile.
            there = self.look(connection, topics=[relation.topic for relation, _ in specs])
            for operation in compare(there, there.again(specs), service, asked):
                self._apply(connection, operation)
            self._take_leftovers(connection)
        return True

    def uninstall(self, connection: sqlite3.Connection, service: str, everything: bool) -> None:
        """Take this service's specs back; what nobody needs then goes, with ``everything`` all."""
        there = self.look(connection)
        ours = {table.name for table in self.tables.metadata.sorted_tables}
        if not there.triggers and ours.isdisjoint(there.more.tables):
            return
        watch = self.tables.name("watch")
        with writing(connection):
            # Somebody may have dropped some of them, and triggers stay that write there.
            for statement in self._tables_sql():
                connection.execute(statement)
            there = self.look(connection)
            connection.execute(
                f"UPDATE {watch} SET wish = ? WHERE service = ? OR ?",
                (UNINSTALLED, service, everything),
            )
            for topic, known in there.specs.items():
                if topic in there.tables and (everything or service in known):
                    staying = {} if everything else {k: v for k, v in known.items() if k != service}
                    for operation in settle(there, there.tables[topic], staying):
                        self._apply(connection, operation)
            self._take_leftovers(connection)
            # A group's place, what waits for it, and streams are worth more than a tidy file.
            needed = connection.execute(
                f"SELECT EXISTS (SELECT 1 FROM {watch} WHERE wish <> ?)"
                f" OR EXISTS (SELECT 1 FROM {self.tables.name('groups')})"
                f" OR EXISTS (SELECT 1 FROM {self.tables.name('streams')})"
                f" OR EXISTS (SELECT 1 FROM {self.tables.name('delayed')})",
                (UNINSTALLED,),
            ).fetchone()[0]
            if everything or not needed:
                for table in self.tables.metadata.sorted_tables:
                    connection.execute(f"DROP TABLE {table.name}")

    # While a table is altered.

    def take(self, connection: Any, targets: List[Target]) -> List[str]:
        """Take our triggers from tables that are about to be altered, until ``give_back``.

        Without targets, from all that are captured. Return the topics.
        """
        there = self.look(connection, {target.key: target for target in targets})
        topics = [there.find(target).topic for target in targets] or sorted(there.specs)
        if there.log is not None:
            return topics
        for topic in topics:
            for name in there.triggers.get((SCHEMA, topic[len(SCHEMA) + 1 :]), {}):
                connection.execute(f"DROP TRIGGER {quoted(name)}")
        # Seen by others only if somebody commits before all is back.
        connection.execute(
            f"INSERT OR REPLACE INTO {self.tables.name('settings')} (name, value) VALUES (?, ?)",
            (_ALTERING, json.dumps({"until": time.time() + PATIENCE, "topics": topics})),
        )
        return topics

    def give_back(self, connection: Any, topics: List[str]) -> None:
        """Make the triggers of those that are still there, for the columns that they have now."""
        there = self.look(connection)
        if there.log is not None:
            return
        connection.execute(
            f"DELETE FROM {self.tables.name('settings')} WHERE name = ?", (_ALTERING,)
        )
        for topic in topics:
            if topic in there.tables:
                known = there.specs.get(topic, {})
                for operation in settle(there, there.tables[topic], known):
                    self._apply(connection, operation)

    # Operations.

    def script(self, service: str, specs: Specs) -> str:
        """Return as SQL what ``install`` would do on a file without us."""
        statements = ["BEGIN IMMEDIATE", *self._tables_sql()]
        for operation in compare(There(self.rules), specs, service):
            statements += [one for one in self._sql(operation) if not one.startswith("DROP ")]
        return ";\n".join([*statements, "COMMIT", ""])

    def _apply(self, connection: Any, operation: Operation) -> None:
        for statement in self._sql(operation):
            connection.execute(statement)

    def _sql(self, operation: Operation) -> List[str]:
        """Return an operation as SQL."""
        if isinstance(operation, Record):
            return [self._record_sql(operation)]
        if isinstance(operation, CreateView):
            return [f"DROP VIEW IF EXISTS {operation.view.name}", *operation.view.sql]
        if isinstance(operation, (CreateTrigger, ReplaceTrigger)):
            # A table that was renamed may have it.
            name = quoted(operation.trigger.name)
            return [f"DROP TRIGGER IF EXISTS {name}", operation.trigger.sql]
        if isinstance(operation, DropTrigger):
            return [f"DROP TRIGGER IF EXISTS {quoted(operation.name)}"]
        if isinstance(operation, DropView):
            return [f"DROP VIEW {operation.name}"]
        if isinstance(operation, Forget):
            gone = f"relation = '{name_literal(operation.topic)}' AND wish <> '{UNINSTALLED}'"
            return [f"DELETE FROM {self.tables.name('watch')} WHERE {gone}"]
        assert isinstance(operation, (InstallLog, AwaitMigration)), operation
        return []

    def _record_sql(self, record: Record) -> str:
        wanted = json.dumps(record.total.as_dict(), sort_keys=True)
        values = (str(record.service), record.relation.topic, wanted)
        listed = ", ".join(f"'{name_literal(text)}'" for text in values)
        return (
            f"INSERT OR REPLACE INTO {self.tables.name('watch')} (service, relation, wish)"
            f" VALUES ({listed})"
        )

    def _take_leftovers(self, connection: Any) -> None:
        for operation in leftovers(self.look(connection)):
            if isinstance(operation, DropTrigger):
                topic = operation.relation.topic
                logger.info(
                    "taking the trigger %s from %s, which nobody watches", operation.name, topic
                )
            self._apply(connection, operation)

    def _indexed(self, there: There) -> bool:
        """Tell whether our indexes are there: release 0.1 made none."""
        return all(
            index.name in there.more.indexes
            for table in self.tables.metadata.sorted_tables
            for index in self.tables.indexes(table)
        )

    def _tables_sql(self) -> List[str]:
        dialect = SQLiteDialect_pysqlite()
        statements: List[Any] = []
        for table in self.tables.metadata.sorted_tables:
            statements.append(CreateTable(table, if_not_exists=True))
            statements += [
                CreateIndex(index, if_not_exists=True) for index in self.tables.indexes(table)
            ]
        return [str(statement.compile(dialect=dialect)).strip() for statement in statements]
