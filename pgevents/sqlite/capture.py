"""Installing on SQLite: the tables, and a row trigger for each operation."""

import json
import logging
import sqlite3
from typing import Any, Dict, List, Optional, Tuple

from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from ..backend import Relation, Wish, is_served, union_of
from ..tables import Tables
from .catalog import SCHEMA, find_topic, quoted
from .connection import writing
from .values import expression, in_groups, name_literal

logger = logging.getLogger("pgevents")

Wishes = List[Tuple[Relation, Wish]]

_ROWS = {"insert": ("NULL", "NEW"), "update": ("OLD", "NEW"), "delete": ("OLD", "NULL")}


class Capture:
    """What is captured in one file, for one log."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.schema = tables.schema

    def missing(
        self, connection: sqlite3.Connection, service: Optional[str], wishes: Wishes
    ) -> List[str]:
        """Name what is not there, a sentence each."""
        if not self._exists(connection):
            return [f"the log {self.tables.name('log')} is not installed"]
        found = []
        watched = self._watched(connection)
        for relation, wish in wishes:
            known = watched.get(relation.topic, {})
            union = union_of(known.values())
            if not is_served(wish, relation.columns, known, service):
                found.append(f"{relation.topic} is not watched for {', '.join(wish.operations)}")
            elif self._there(connection, relation) != self._triggers(relation, union):
                found.append(f"a trigger of {relation.topic} is missing or outdated")
        return found

    def installed(self, connection: sqlite3.Connection) -> List[Dict[str, Any]]:
        """Return a dict for each watched table."""
        result = []
        watched = self._watched(connection) if self._exists(connection) else {}
        for topic, known in sorted(watched.items()):
            relation = find_topic(connection, topic)
            union = union_of(known.values())
            if relation is None:
                name, state = topic, "gone"
            else:
                there = self._there(connection, relation)
                name = relation.label
                state = "ok" if there == self._triggers(relation, union) else "outdated"
            result.append(
                {"table": name, **union.as_dict(), "services": sorted(known), "state": state}
            )
        return result

    def watched(self, connection: Any, topic: str) -> Dict[str, Wish]:
        """Return what each service wants captured of a table."""
        watched = self._watched(connection) if self._exists(connection) else {}
        return watched.get(topic, {})

    def install(
        self,
        connection: sqlite3.Connection,
        service: str,
        wishes: Wishes,
        deadline: Optional[float] = None,
    ) -> None:
        """Create and replace what is missing; wait for other writers until ``deadline``."""
        if not self.missing(connection, service, wishes) and self._indexed(connection):
            return
        with writing(connection, deadline):
            for statement in self._tables_sql():
                connection.execute(statement)
            for relation, wish in wishes:
                former = self._watched(connection).get(relation.topic, {}).get(service)
                # In union: a web process and a worker of the same service may
                # each know only some of its listeners.
                wish = former | wish if former else wish
                connection.execute(self._watch_sql(service, relation.topic, wish))
                self._apply(connection, relation)
            self._remove_orphans(connection)

    def uninstall(self, connection: sqlite3.Connection, service: str, everything: bool) -> None:
        """Take this service's wishes back; what nobody needs then goes, with ``everything`` all."""
        if not self._exists(connection):
            return
        watch = self.tables.name("watch")
        with writing(connection):
            topics = [
                topic
                for topic, known in self._watched(connection).items()
                if everything or service in known
            ]
            connection.execute(
                f"DELETE FROM {watch} WHERE service = ? OR ?", (service, everything)
            )
            for topic in topics:
                relation = find_topic(connection, topic)
                if relation is not None:
                    self._apply(connection, relation)
            self._remove_orphans(connection)
            # A group's place, and what waits for it, are worth more than a tidy file.
            needed = connection.execute(
                f"SELECT EXISTS (SELECT 1 FROM {watch})"
                f" OR EXISTS (SELECT 1 FROM {self.tables.name('groups')})"
            ).fetchone()[0]
            if everything or not needed:
                for table in self.tables.metadata.sorted_tables:
                    connection.execute(f"DROP TABLE {table.name}")

    def script(self, service: str, wishes: Wishes) -> str:
        """Return as SQL what ``install`` would do on a file without us."""
        parts = ["BEGIN IMMEDIATE"] + self._tables_sql()
        for relation, wish in wishes:
            parts.append(self._watch_sql(service, relation.topic, wish))
            parts += self._triggers(relation, wish).values()
        return ";\n".join([*parts, "COMMIT", ""])

    def _exists(self, connection: sqlite3.Connection) -> bool:
        names = [table.name for table in self.tables.metadata.sorted_tables]
        marks = ", ".join("?" * len(names))
        found = connection.execute(
            f"SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name IN ({marks})", names
        ).fetchone()[0]
        return bool(found == len(names))

    def _indexed(self, connection: sqlite3.Connection) -> bool:
        """Tell whether our indexes are there: release 0.1 made none."""
        found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'index'")
        there = {row[0] for row in found}
        return there.issuperset(
            index.name
            for table in self.tables.metadata.sorted_tables
            for index in self.tables.indexes(table)
        )

    def _tables_sql(self) -> List[str]:
        dialect = SQLiteDialect_pysqlite()
        statements: List[Any] = []
        for table in self.tables.metadata.sorted_tables:
            statements.append(CreateTable(table, if_not_exists=True))
            statements += [CreateIndex(index, if_not_exists=True)
                           for index in self.tables.indexes(table)]
        return [str(statement.compile(dialect=dialect)).strip() for statement in statements]

    def _watched(self, connection: sqlite3.Connection) -> Dict[str, Dict[str, Wish]]:
        """Return topic → service → wish."""
        found: Dict[str, Dict[str, Wish]] = {}
        for topic, service, wish in connection.execute(
            f"SELECT relation, service, wish FROM {self.tables.name('watch')}"
        ):
            found.setdefault(topic, {})[service] = Wish(**json.loads(wish))
        return found

    def _watch_sql(self, service: str, topic: str, wish: Wish) -> str:
        wanted = json.dumps(wish.as_dict(), sort_keys=True)
        values = ", ".join(f"'{name_literal(text)}'" for text in (service, topic, wanted))
        return (
            f"INSERT OR REPLACE INTO {self.tables.name('watch')} (service, relation, wish)"
            f" VALUES ({values})"
        )

    def _apply(self, connection: sqlite3.Connection, relation: Relation) -> None:
        """Make the table's triggers what its watchers want, no more and no less."""
        known = self._watched(connection).get(relation.topic, {})
        wanted = self._triggers(relation, union_of(known.values()))
        there = self._there(connection, relation)
        for name in there:
            if name not in wanted:
                connection.execute(f"DROP TRIGGER {quoted(name)}")
        for name, trigger in wanted.items():
            if there.get(name) != trigger:
                # A table that was renamed may have it.
                connection.execute(f"DROP TRIGGER IF EXISTS {quoted(name)}")
                connection.execute(trigger)

    def _there(self, connection: sqlite3.Connection, relation: Relation) -> Dict[str, str]:
        """Return our triggers on the table: name → definition."""
        names = tuple(self._trigger_name(relation, operation) for operation in _ROWS)
        return dict(
            connection.execute(
                "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ?"
                " AND name IN (?, ?, ?)",
                (relation.name, *names),
            ).fetchall()
        )

    def _trigger_name(self, relation: Relation, operation: str) -> str:
        return f"{self.schema}_{operation}_{relation.name}"

    def _triggers(self, relation: Relation, wish: Wish) -> Dict[str, str]:
        """Return name and definition of each trigger that a wish needs."""
        wish = wish.settled().with_key(relation.key)
        columns = {name: quoted(name) for name in wish.of(relation.columns)}
        kept = columns if wish.old else {name: quoted(name) for name in relation.key}
        settings = self.tables.name("settings")
        log = self.tables.name("log")
        found = {}
        for operation, (old, new) in _ROWS.items():
            if operation not in wish.operations:
                continue
            name = self._trigger_name(relation, operation)
            when = f"(SELECT value FROM {settings} WHERE name = 'capture') IS NOT 'off'"
            if operation == "update":
                same = in_groups(" AND ", [_same(column) for column in columns.values()]) or "1"
                when += f" AND NOT ({same})"
            old_row = "NULL" if old == "NULL" else expression(old, kept)
            new_row = "NULL" if new == "NULL" else expression(new, columns)
            found[name] = (
                f"CREATE TRIGGER {quoted(name)} AFTER {operation.upper()} ON"
                f" {quoted(relation.name)} WHEN {when} BEGIN"
                f" INSERT INTO {log} (topic, operation, old, new, context) VALUES"
                f" ('{name_literal(relation.topic)}', '{operation}', {old_row}, {new_row},"
                f" (SELECT value FROM {settings} WHERE name = 'context')); END"
            )
        return found

    def _remove_orphans(self, connection: sqlite3.Connection) -> None:
        """Forget tables that are gone; take our triggers from tables that nobody watches."""
        watched = self._watched(connection)
        for topic in watched:
            if find_topic(connection, topic) is None:
                connection.execute(
                    f"DELETE FROM {self.tables.name('watch')} WHERE relation = ?", (topic,)
                )
        for name, table, text in connection.execute(
            "SELECT name, tbl_name, sql FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall():
            ours = f" INSERT INTO {self.tables.name('log')} (topic, operation, old, new, context)"
            # A renamed table takes its triggers along, under their old names.
            named = any(
                name == f"{self.schema}_{operation}_{table}" for operation in _ROWS
            )
            if ours in text and not (named and f"{SCHEMA}.{table}" in watched):
                logger.info("taking the trigger %s from %s, which nobody watches", name, table)
                connection.execute(f"DROP TRIGGER {quoted(name)}")


def _same(column: str) -> str:
    # 1 and 1.0 are equal, and not the same; nor are 'a' and 'A', whatever the collation.
    return (
        f"(OLD.{column} IS NEW.{column} COLLATE BINARY"
        f" AND typeof(OLD.{column}) = typeof(NEW.{column}))"
    )
