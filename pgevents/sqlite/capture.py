"""Installing on SQLite: the tables, and a row trigger for each operation."""

import json
import logging
import sqlite3
import time
from typing import Any, Dict, List, Optional, Set, Tuple

from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from ..database.relation import Relation
from ..database.spec import NOTHING, UNINSTALLED, Spec, Specs, is_served, uninstalled, union_of
from ..tables import Tables
from .catalog import SCHEMA, find_topic, quoted
from .connection import writing
from .triggers import OPERATIONS, Triggers
from .values import name_literal

logger = logging.getLogger("pgevents")


PATIENCE = 60.0  # seconds for which a migration that does not come back keeps its tables

_ALTERING = "altering"  # the setting that names them


class Capture:
    """What is captured in one file, for one log."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self._triggers = Triggers(tables)

    def missing(
        self, connection: sqlite3.Connection, service: Optional[str], specs: Specs
    ) -> List[str]:
        """Name what is not there, a sentence each.

        Without a ``service``, what an earlier release has made will do if it captures all.
        """
        gone = self._gone(connection)
        if self.tables.name("log") in gone:
            return [f"the log {self.tables.name('log')} is not installed"]
        if gone:
            return [f"the log's table {', '.join(gone)} is gone"]
        found = []
        watched, altered = self._watched(connection), self._altered(connection)
        for relation, spec in specs:
            known = watched.get(relation.topic, {})
            union = union_of(known.values())
            if relation.topic in altered:
                found.append(f"{relation.topic} is being altered, and has no triggers meanwhile")
            elif not is_served(spec, relation.columns, known, service):
                found.append(f"{relation.topic} is not watched for {', '.join(spec.operations)}")
            elif not self._up_to_date(connection, relation, union) and not (
                service is None and self._former_serves(connection, relation, union)
            ):
                found.append(f"a trigger of {relation.topic} is missing or outdated")
        return found

    def former(self, connection: sqlite3.Connection, specs: Specs) -> List[str]:
        """Return the topics of tables whose triggers an earlier release has made."""
        return [
            relation.topic
            for relation, _ in specs
            if any(map(self._triggers.is_former, self._there(connection, relation).values()))
        ]

    def lacking(self, connection: sqlite3.Connection, specs: Specs) -> List[str]:
        """Name the columns that triggers which are there do not capture: a sentence each."""
        found = []
        watched = {} if self._gone(connection) else self._watched(connection)
        for relation, _ in specs:
            union = union_of(watched.get(relation.topic, {}).values())
            there = self._there(connection, relation)
            columns = {
                column
                for operation in union.operations
                for text in (there.get(self._triggers.name(relation, operation)),)
                if text is not None
                for column in self._triggers.lacking(text, relation, union, operation)
            }
            if columns and not self._up_to_date(connection, relation, union):
                found.append(
                    f"{relation.topic} was altered while no hub ran: what was written since lacks"
                    f" {', '.join(sorted(columns))}"
                )
        return found

    def installed(self, connection: sqlite3.Connection) -> List[Dict[str, Any]]:
        """Return a dict for each watched table."""
        result = []
        for topic, known in sorted(self._watched(connection).items()):
            relation = find_topic(connection, topic)
            union = union_of(known.values())
            if not union.operations:
                continue
            if relation is None:
                name, state = topic, "gone"
            else:
                name = relation.label
                current = not self._gone(connection) and self._current(connection, relation, union)
                state = "ok" if current else "outdated"
            services = sorted(name for name, spec in known.items() if spec != NOTHING)
            result.append({"table": name, **union.as_dict(), "services": services, "state": state})
        return result

    def watched(self, connection: Any, topic: str) -> Dict[str, Spec]:
        """Return what each service wants captured of a table."""
        return self._watched(connection).get(topic, {})

    def uninstalled(self, connection: Any, service: str, specs: Specs) -> List[str]:
        """Return the topics of the tables that a service has uninstalled, and no other serves."""
        return uninstalled(service, specs, self._watched(connection))

    def install(
        self,
        connection: sqlite3.Connection,
        service: str,
        specs: Specs,
        deadline: Optional[float] = None,
        asked: bool = True,
    ) -> None:
        """Create and replace what is missing; wait for other writers until ``deadline``.

        Unless ``asked``, what the service has uninstalled stays so.
        """
        if not self.missing(connection, service, specs) and self._indexed(connection):
            return
        with writing(connection, deadline):
            for statement in self._tables_sql():
                connection.execute(statement)
            altered = self._altered(connection)
            for relation, spec in specs:
                former = self._watched(connection).get(relation.topic, {}).get(service)
                if asked or former != NOTHING:
                    # In union: a web process and a worker of the same service may
                    # each know only some of its listeners.
                    spec = former | spec if former else spec
                    connection.execute(self._watch_sql(service, relation.topic, spec))
                if relation.topic not in altered:
                    # A trigger that names a column which was dropped since would make writes fail.
                    self._apply(connection, find_topic(connection, relation.topic) or relation)
            self._remove_orphans(connection)

    def uninstall(self, connection: sqlite3.Connection, service: str, everything: bool) -> None:
        """Take this service's specs back; what nobody needs then goes, with ``everything`` all."""
        if not self._anything(connection):
            return
        watch = self.tables.name("watch")
        with writing(connection):
            # Somebody may have dropped some of them, and triggers stay that write there.
            for statement in self._tables_sql():
                connection.execute(statement)
            topics = [
                topic
                for topic, known in self._watched(connection).items()
                if everything or service in known
            ]
            connection.execute(
                f"UPDATE {watch} SET wish = ? WHERE service = ? OR ?",
                (UNINSTALLED, service, everything),
            )
            for topic in topics:
                relation = find_topic(connection, topic)
                if relation is not None:
                    self._apply(connection, relation)
            self._remove_orphans(connection)
            # A group's place, and what waits for it, are worth more than a tidy file.
            needed = connection.execute(
                f"SELECT EXISTS (SELECT 1 FROM {watch} WHERE wish <> ?)"
                f" OR EXISTS (SELECT 1 FROM {self.tables.name('groups')})",
                (UNINSTALLED,),
            ).fetchone()[0]
            if everything or not needed:
                for table in self.tables.metadata.sorted_tables:
                    connection.execute(f"DROP TABLE {table.name}")

    # While a table is altered.

    def topics(self, connection: Any) -> Set[str]:
        """Return the topics of all watched tables."""
        return set(self._watched(connection))

    def take(self, connection: Any, topics: List[str]) -> None:
        """Take our triggers from tables that are about to be altered, until ``give_back``."""
        if self._gone(connection):
            return
        for name, table, text in _all_triggers(connection):
            if self._triggers.is_ours(text) and f"{SCHEMA}.{table}" in topics:
                connection.execute(f"DROP TRIGGER {quoted(name)}")
        # Seen by others only if somebody commits before all is back.
        connection.execute(
            f"INSERT OR REPLACE INTO {self.tables.name('settings')} (name, value) VALUES (?, ?)",
            (_ALTERING, json.dumps({"until": time.time() + PATIENCE, "topics": topics})),
        )

    def give_back(self, connection: Any, topics: List[str]) -> None:
        """Make the triggers of those that are still there, for the columns that they have now."""
        if self._gone(connection):
            return
        connection.execute(
            f"DELETE FROM {self.tables.name('settings')} WHERE name = ?", (_ALTERING,)
        )
        for topic in topics:
            relation = find_topic(connection, topic)
            if relation is not None:
                self._apply(connection, relation)

    def _altered(self, connection: Any) -> Set[str]:
        """Return the topics of tables that somebody alters now, in several transactions."""
        row = connection.execute(
            f"SELECT value FROM {self.tables.name('settings')} WHERE name = ?", (_ALTERING,)
        ).fetchone()
        found = {} if row is None else json.loads(row[0])
        return set(found["topics"]) if found and found["until"] > time.time() else set()

    def script(self, service: str, specs: Specs) -> str:
        """Return as SQL what ``install`` would do on a file without us."""
        parts = ["BEGIN IMMEDIATE"] + self._tables_sql()
        views = {}
        for relation, spec in specs:
            views.update(self._triggers.views(relation, spec))
        parts += [statement for pair in views.values() for statement in pair]
        for relation, spec in specs:
            parts.append(self._watch_sql(service, relation.topic, spec))
            parts += self._triggers.of(relation, spec).values()
        return ";\n".join([*parts, "COMMIT", ""])

    def _gone(self, connection: sqlite3.Connection) -> List[str]:
        """Return those of our tables that are not there."""
        there = self._names(connection, "table")
        return [t.name for t in self.tables.metadata.sorted_tables if t.name not in there]

    def _anything(self, connection: sqlite3.Connection) -> bool:
        """Tell whether there is anything of ours."""
        return len(self._gone(connection)) < len(self.tables.metadata.sorted_tables) or any(
            self._triggers.is_ours(text) for _, _, text in _all_triggers(connection)
        )

    def _names(self, connection: sqlite3.Connection, kind: str) -> Set[str]:
        return {
            row[0]
            for row in connection.execute("SELECT name FROM sqlite_master WHERE type = ?", (kind,))
        }

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
            statements += [
                CreateIndex(index, if_not_exists=True) for index in self.tables.indexes(table)
            ]
        return [str(statement.compile(dialect=dialect)).strip() for statement in statements]

    def _watched(self, connection: sqlite3.Connection) -> Dict[str, Dict[str, Spec]]:
        """Return topic → service → spec."""
        found: Dict[str, Dict[str, Spec]] = {}
        if self.tables.name("watch") in self._gone(connection):
            return found
        for topic, service, spec in connection.execute(
            f"SELECT relation, service, wish FROM {self.tables.name('watch')}"
        ):
            found.setdefault(topic, {})[service] = Spec(**json.loads(spec))
        return found

    def _watch_sql(self, service: str, topic: str, spec: Spec) -> str:
        wanted = json.dumps(spec.as_dict(), sort_keys=True)
        values = ", ".join(f"'{name_literal(text)}'" for text in (service, topic, wanted))
        return (
            f"INSERT OR REPLACE INTO {self.tables.name('watch')} (service, relation, wish)"
            f" VALUES ({values})"
        )

    def _up_to_date(self, connection: sqlite3.Connection, relation: Relation, spec: Spec) -> bool:
        """Return whether a table is captured as a spec needs, altered since it was found or not."""
        if self._current(connection, relation, spec):
            return True
        now = find_topic(connection, relation.topic)
        return now is not None and self._current(connection, now, spec)

    def _current(self, connection: sqlite3.Connection, relation: Relation, spec: Spec) -> bool:
        """Tell whether a table's triggers, and the views they write to, are what a spec needs."""
        there, wanted = self._there(connection, relation), self._triggers.of(relation, spec)
        return (
            set(there) == set(wanted)
            and all(self._serves(there[name], text) for name, text in wanted.items())
            and all(
                self._view_there(connection, name) == view
                for name, view in self._triggers.views(relation, spec).items()
            )
        )

    def _serves(self, there: Optional[str], wanted: str) -> bool:
        # A newer pgevents keeps its own; we must not undo it.
        return there is not None and (there == wanted or self._triggers.is_newer(there))

    def _former_serves(
        self, connection: sqlite3.Connection, relation: Relation, spec: Spec
    ) -> bool:
        """Tell whether an earlier release captures, in its way, all that a spec needs.

        A process of it that runs would put its triggers back, again and again.
        """
        there = self._there(connection, relation)
        return any(map(self._triggers.is_former, there.values())) and all(
            name in there and not self._triggers.lacking(there[name], relation, spec, operation)
            for operation in spec.operations
            if operation in OPERATIONS
            for name in (self._triggers.name(relation, operation),)
        )

    def _apply(self, connection: sqlite3.Connection, relation: Relation) -> None:
        """Make the table's triggers what its watchers want, no more and no less."""
        union = union_of(self._watched(connection).get(relation.topic, {}).values())
        if union.operations and self._current(connection, relation, union):
            return
        wanted = self._triggers.of(relation, union)
        there = self._there(connection, relation)
        for name, view in self._triggers.views(relation, union).items():
            if self._view_there(connection, name) != view:
                connection.execute(f"DROP VIEW IF EXISTS {name}")
                for statement in view:
                    connection.execute(statement)
        for name in there:
            if name not in wanted:
                connection.execute(f"DROP TRIGGER {quoted(name)}")
        for name, trigger in wanted.items():
            if not self._serves(there.get(name), trigger):
                # A table that was renamed may have it.
                connection.execute(f"DROP TRIGGER IF EXISTS {quoted(name)}")
                connection.execute(trigger)

    def _there(self, connection: sqlite3.Connection, relation: Relation) -> Dict[str, str]:
        """Return our triggers on the table: name → definition."""
        names = [self._triggers.name(relation, operation) for operation in OPERATIONS]
        return dict(
            connection.execute(
                "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ?"
                " AND name IN (?, ?, ?)",
                (relation.name, *names),
            ).fetchall()
        )

    def _view_there(self, connection: sqlite3.Connection, name: str) -> Tuple[str, ...]:
        """Return the definitions of a view of ours and of its trigger."""
        return tuple(
            row[0]
            for row in connection.execute(
                "SELECT sql FROM sqlite_master WHERE tbl_name = ? AND name = tbl_name"
                " ORDER BY type = 'trigger'",
                (name,),
            )
        )

    def _remove_orphans(self, connection: sqlite3.Connection) -> None:
        """Forget tables that are gone; take our triggers from tables that nobody watches."""
        watched = self._watched(connection)
        for topic in watched:
            if find_topic(connection, topic) is None:
                connection.execute(
                    f"DELETE FROM {self.tables.name('watch')} WHERE relation = ? AND wish <> ?",
                    (topic, UNINSTALLED),
                )
        captured = {
            topic for topic, known in watched.items() if union_of(known.values()).operations
        }
        used: Set[str] = set()
        for name, table, text in _all_triggers(connection):
            # A renamed table takes its triggers along, under their old names.
            named = any(
                name == f"{self.tables.schema}_{operation}_{table}" for operation in OPERATIONS
            )
            if not self._triggers.is_ours(text) or self._triggers.is_view(table):
                continue
            if named and f"{SCHEMA}.{table}" in captured:
                used.update(self._triggers.views_in(text))
            else:
                logger.info("taking the trigger %s from %s, which nobody watches", name, table)
                connection.execute(f"DROP TRIGGER {quoted(name)}")
        for name in self._names(connection, "view"):
            if self._triggers.is_view(name) and name not in used:
                connection.execute(f"DROP VIEW {name}")


def _all_triggers(connection: sqlite3.Connection) -> List[Tuple[str, str, str]]:
    """Return name, table and definition of each trigger of the file."""
    return connection.execute(
        "SELECT name, tbl_name, sql FROM sqlite_master WHERE type = 'trigger'"
    ).fetchall()
