"""Installing on PostgreSQL: the tables, the functions, a trigger for each operation.

    watch row (service, relation, spec) ─┐
    watch row (another service, …)      ─┴─ union ─ triggers of the relation

A trigger's definition is remembered, as a hash, in its COMMENT (an idea of
django-pgtrigger's). What is current is found out by reading the catalog alone:
then no lock is taken at all.
"""

import contextlib
import hashlib
import json
import logging
import time
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import psycopg2.errors
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2
from sqlalchemy.schema import CreateIndex, CreateTable

from ..database.relation import Relation, of_one_topic
from ..database.spec import NOTHING, UNINSTALLED, Spec, Specs, is_served, uninstalled, union_of
from ..errors import Denied, Unavailable, UsageError
from ..retry import Backoff
from ..tables import VERSION, Tables
from .catalog import captured_as, find_topic, literal, quoted
from .functions import Functions
from .partitions import Trigger, Truncations
from .places import Places
from .rights import Rights
from .script import script
from .session import SAFE_PATH
from .translation import sentence_of

logger = logging.getLogger("pgevents")

#: How long we queue for a table's lock: writers who come meanwhile queue behind us.
LOCK_TIMEOUT = 0.2  # seconds
PATIENCE = 60.0  # seconds in which a table's lock is tried for again and again
COURTESY = 3.0  # seconds that we wait for another role that may be installing

_TRANSITION = {
    "insert": "REFERENCING NEW TABLE AS new_rows",
    "update": "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows",
    "delete": "REFERENCING OLD TABLE AS old_rows",
}


class Capture:
    """What is captured in one database, for one log."""

    def __init__(self, tables: Tables, bell: Optional[bool] = None) -> None:
        self.tables = tables
        self.schema = tables.schema
        self.bell = bell
        self._truncations = Truncations(tables.schema)
        self.rights = Rights(tables)
        self.places = Places(tables)
        self._functions_sql = script("functions.sql", self.schema)
        self._functions = Functions(tables.schema, self._functions_sql)
        self._rights_sql = script("rights.sql", self.schema)

    # Finding out.

    def missing(self, cursor: Any, service: Optional[str], specs: Specs) -> List[str]:
        """Name what is not there, a sentence each.

        With a ``service`` its own specs must be written down, too; without,
        it is enough that somebody's cover them.
        """
        found = self._missing(cursor, service, specs)
        if self._current(cursor):
            found += self._untold(cursor, specs)
        return found

    def _missing(self, cursor: Any, service: Optional[str], specs: Specs) -> List[str]:
        self._refuse_hidden(cursor)
        if not self._current(cursor):
            return [f"the log {self.tables.name('log')} is not installed, or outdated"]
        lacking = self._not_captured(cursor, service, specs)
        return self.rights.broken(cursor) or self._changed(cursor) + lacking

    def _not_captured(self, cursor: Any, service: Optional[str], specs: Specs) -> List[str]:
        found = []
        watched = self._watched(cursor)
        for relation, spec in specs:
            known = watched.get(relation.topic, {})
            union = union_of(known.values())
            if not is_served(spec, relation.columns, known, service):
                found.append(f"{relation.topic} is not watched for {', '.join(spec.operations)}")
            elif not self._up_to_date(cursor, relation, union):
                found.append(f"a trigger of {relation.topic} is missing, disabled or outdated")
        return found

    def unheard(self, cursor: Any, specs: Specs) -> List[str]:
        """Name of what is missing that by which changes are not captured, a sentence each.

        Triggers for each row, of a table that was detached, do until they are replaced; a
        partition that is new was not truncated yet.
        """
        by_row = [(_by_row(relation), spec) for relation, spec in specs]
        deaf = set(self._missing(cursor, None, by_row))
        return [sentence for sentence in self._missing(cursor, None, specs) if sentence in deaf]

    def _untold(self, cursor: Any, specs: Specs) -> List[str]:
        """Name the partitions whose truncation nobody would notice, a sentence each."""
        tables = {relation.topic: relation for relation, _ in specs}
        return [
            f"nobody would notice that {tables[topic].more['partitions'][oid]}, a partition of"
            f" {topic}, is truncated"
            for topic in tables
            for oid, _ in self._unnoted(cursor, tables[topic])
        ]

    def installed(self, cursor: Any) -> List[Dict[str, Any]]:
        """Return a dict for each watched table: table, operations, services, triggers in order."""
        if not self._exists(cursor):
            return []
        broken = bool(self.rights.broken(cursor))
        log_current = self._current(cursor) and not self._changed(cursor)
        result = []
        for topic, known in sorted(self._watched(cursor).items()):
            relation = find_topic(cursor, topic, self.schema)
            union = union_of(known.values())
            if not union.operations:
                continue
            current = (
                log_current
                and relation is not None
                and self._up_to_date(cursor, relation, union)
                and not self._unnoted(cursor, relation)
            )
            state = "gone" if relation is None else "ok" if current else "outdated"
            result.append(
                {
                    "table": topic if relation is None else relation.label,
                    **union.as_dict(),
                    "services": sorted(name for name, spec in known.items() if spec != NOTHING),
                    "state": "denied" if broken and state != "gone" else state,
                }
            )
        return result

    def watched(self, cursor: Any, topic: str) -> Dict[str, Spec]:
        """Return what each service wants captured of a table."""
        watched = self._watched(cursor) if self._exists(cursor) else {}
        return watched.get(topic, {})

    def uninstalled(self, cursor: Any, service: str, specs: Specs) -> List[str]:
        """Return the topics of the tables that a service has uninstalled, and no other serves."""
        return uninstalled(service, specs, self._watched(cursor) if self._exists(cursor) else {})

    # Changing.

    def install(
        self,
        connection: Any,
        service: str,
        specs: Specs,
        deadline: Optional[float] = None,
        owner: Optional[str] = None,
        asked: bool = True,
    ) -> None:
        """Create and replace what is missing, until ``deadline`` if there is one.

        With ``owner`` the functions run with that role's rights, which is made if it is not
        there. Unless ``asked``, what the service has uninstalled stays so. Raises Denied
        without the rights, or where somebody else has put something in our place;
        Unavailable without a lock.
        """
        with connection.cursor() as cursor, self.advised(cursor, "may not install"):
            oids = [relation.oid for relation, _ in specs]
            self.rights.refuse_strangers(cursor, self._marked(cursor), oids)
            if self._sound(cursor, owner) and not self.missing(cursor, service, specs):
                return
            with self._in_turn(cursor, deadline):
                self._install_log(cursor, deadline, owner, oids)
                for relation, spec in specs:
                    if self._not_captured(cursor, service, [(relation, spec)]):
                        self._refuse_twin(cursor, relation)
                        self.rights.lent(cursor, relation.topic, relation.oid)
                        self._retry(
                            cursor,
                            relation.topic,
                            lambda: self._watch(cursor, service, relation, spec, asked),
                            deadline,
                        )
                    self._note_truncations(cursor, relation, deadline)
                self._remove_orphans(cursor, deadline)

    def uninstall(self, connection: Any, service: str, everything: bool) -> None:
        """Take this service's specs back; what nobody needs then goes, with ``everything`` all."""
        with connection.cursor() as cursor:
            if not self._anything(cursor):
                return
            with self._in_turn(cursor):
                if not self._complete(cursor):
                    for statement in self._tables_sql():
                        cursor.execute(statement)
                for topic, known in self._watched(cursor).items():
                    if everything or service in known:
                        leaving = list(known) if everything else [service]
                        self._retry(cursor, topic, lambda: self._unwatch(cursor, leaving, topic))
                self._remove_orphans(cursor)
                self._retry(
                    cursor, self.tables.name("log"), lambda: self._drop_log(cursor, everything)
                )

    def script(
        self,
        service: str,
        specs: Specs,
        role: Optional[str] = None,
        owner: Optional[str] = None,
    ) -> str:
        """Return as SQL what ``install`` would do on a database without us."""
        # Whoever runs it may have others' look-alikes of PostgreSQL's own functions on his path.
        parts = ["BEGIN;", f"SET LOCAL search_path = {SAFE_PATH};"]
        parts += [self.rights.guard_sql(), self.rights.fresh_sql()]
        parts.append(f"CREATE SCHEMA IF NOT EXISTS {self.schema};")
        parts += [statement + ";" for statement in self._tables_sql()]
        parts.append(self._functions_sql.strip())
        parts.append(self.rights.sql(self._rights_sql, owner).strip())
        # Once more: somebody may have come between.
        parts += [self.rights.guard_sql(), *self._log_sql()]
        for relation, spec in specs:
            parts.append(self._watch_sql(service, relation.topic, spec))
            parts += [trigger + ";" for _, trigger in self._triggers(relation, spec)]
            parts += [
                _comment_sql(name, relation, trigger) + ";"
                for name, trigger in self._triggers(relation, spec)
            ]
            parts += [trigger + ";" for trigger in self._notes(relation, spec).values()]
        if role is not None:
            parts.append(self._grants(role))
        return "\n".join([*parts, "COMMIT;", ""])

    # The log itself.

    def _exists(self, cursor: Any) -> bool:
        cursor.execute("SELECT to_regclass(%s) IS NOT NULL", (self.tables.name("watch"),))
        return bool(cursor.fetchone()[0])

    def _anything(self, cursor: Any) -> bool:
        """Tell whether anything of ours is there: functions outlive tables that were dropped."""
        cursor.execute(
            "SELECT EXISTS (SELECT FROM pg_proc WHERE pronamespace = to_regnamespace(%s)"
            " AND proname LIKE 'capture%%')",
            (self.schema,),
        )
        return bool(cursor.fetchone()[0]) or self._exists(cursor)

    def _complete(self, cursor: Any) -> bool:
        """Tell whether all tables are there: somebody may have dropped one."""
        names = [table.fullname for table in self.tables.metadata.sorted_tables]
        cursor.execute(
            "SELECT bool_and(to_regclass(name) IS NOT NULL) FROM unnest(%s) name", (names,)
        )
        return bool(cursor.fetchone()[0])

    def _mark(self) -> str:
        """What the schema's comment says when all is current."""
        text = self._functions_sql + self._rights_sql + "".join(self._tables_sql())
        return f"pgevents {VERSION} {_hash(text)}"

    def _current(self, cursor: Any) -> bool:
        if not self._complete(cursor):
            return False
        cursor.execute(
            "SELECT obj_description(to_regnamespace(%s), 'pg_namespace'),"
            " (SELECT encode(tgargs, 'escape') FROM pg_trigger"
            "   WHERE tgrelid = to_regclass(%s) AND tgname = 'pgevents_ring')",
            (self.schema, self.tables.name("log")),
        )
        mark, bell = cursor.fetchone()
        words = (mark or "").split()
        if len(words) < 3 or words[0] != "pgevents" or not words[1].isdigit() or bell is None:
            return False
        if self.bell is not None and bell.startswith("on") != self.bell:
            return False
        # A newer pgevents keeps its own; we must not undo it.
        return int(words[1]) > VERSION or mark == self._mark()

    def _changed(self, cursor: Any) -> List[str]:
        """Name the functions that are not as they were made, unless a newer pgevents made them."""
        cursor.execute(
            "SELECT obj_description(to_regnamespace(%s), 'pg_namespace')", (self.schema,)
        )
        return self._functions.changed(cursor) if cursor.fetchone()[0] == self._mark() else []

    def _marked(self, cursor: Any) -> bool:
        """Tell whether the schema's owner has installed our log in it, whatever became of it."""
        cursor.execute(
            "SELECT obj_description(oid, 'pg_namespace') LIKE 'pgevents %%' FROM pg_namespace"
            " WHERE nspname = %s",
            (self.schema,),
        )
        row = cursor.fetchone()
        return row is not None and bool(row[0])

    def _sound(self, cursor: Any, owner: Optional[str]) -> bool:
        """Tell whether the log is current, and so are the rights on it, as far as we may see."""
        if not self._current(cursor) or self._changed(cursor) or self.rights.broken(cursor):
            return False
        if owner is not None and self.rights.runner(cursor) != owner:
            return False
        return not self.rights.may_heal(cursor) or not (
            self.rights.loose(cursor) or self.rights.foreign(cursor)
        )

    def _install_log(
        self,
        cursor: Any,
        deadline: Optional[float],
        owner: Optional[str],
        oids: List[Optional[int]],
    ) -> None:
        if self._sound(cursor, owner):
            return
        log = self.tables.name("log")
        # All who write to watched tables hold a lock on an older log.
        self._retry(cursor, log, lambda: self._create_log(cursor, owner, oids), deadline)
        logger.info("installed the log %s", log)

    def _create_log(self, cursor: Any, owner: Optional[str], oids: List[Optional[int]]) -> None:
        if self._sound(cursor, owner):
            return  # another process came first
        self.places.refuse_taken(cursor)
        installed = self._marked(cursor)
        cursor.execute(self.rights.fresh_sql())
        cursor.execute("SELECT to_regnamespace(%s) IS NULL", (self.schema,))
        if cursor.fetchone()[0]:
            cursor.execute(f"CREATE SCHEMA {self.schema}")
        for statement in [*self._tables_sql(), self._functions_sql]:
            cursor.execute(statement)
        # Once more: somebody may have come between.
        self.rights.refuse_strangers(cursor, installed, oids)
        cursor.execute(self.rights.sql(self._rights_sql, owner))
        for statement in self._log_sql():
            cursor.execute(statement)

    def _tables_sql(self) -> List[str]:
        dialect = PGDialect_psycopg2()  # type: ignore[no-untyped-call]
        statements: List[Any] = []
        for table in self.tables.metadata.sorted_tables:
            statements.append(CreateTable(table, if_not_exists=True))
            statements += [
                CreateIndex(index, if_not_exists=True) for index in self.tables.indexes(table)
            ]
        return [str(statement.compile(dialect=dialect)).strip() for statement in statements]

    def _log_sql(self) -> List[str]:
        log = self.tables.name("log")
        bell = "on" if self.bell in (None, True) else "off"
        return [
            f"CREATE OR REPLACE TRIGGER pgevents_ring AFTER INSERT ON {log}"
            f" FOR EACH STATEMENT EXECUTE FUNCTION {self.schema}.ring('{bell}');",
            f"COMMENT ON SCHEMA {self.schema} IS '{self._mark()}';",
        ]

    def _drop_log(self, cursor: Any, everything: bool) -> None:
        """Drop the log, but not, unless ``everything`` goes, what somebody still needs."""
        # A group's place, and what waits for it, are worth more than a tidy schema.
        cursor.execute(
            f"SELECT EXISTS (SELECT FROM {self.tables.name('watch')} WHERE wish <> %s)"
            f" OR EXISTS (SELECT FROM {self.tables.name('groups')})",
            (UNINSTALLED,),
        )
        if cursor.fetchone()[0] and not everything:
            return
        cursor.execute(
            "SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = to_regnamespace(%s)"
            " AND proname = ANY (%s)",
            (self.schema, self._functions.names),
        )
        functions = [row[0] for row in cursor.fetchall()]
        tables = [table.fullname for table in self.tables.metadata.sorted_tables]
        cursor.execute(
            "; ".join(
                ["DROP TABLE " + ", ".join(tables)]
                + ["DROP FUNCTION " + function for function in functions]
                + [f"COMMENT ON SCHEMA {self.schema} IS NULL", "SAVEPOINT emptied"]
            )
        )
        try:
            cursor.execute(f"DROP SCHEMA {self.schema}")
        except psycopg2.errors.DependentObjectsStillExist:  # somebody else's things
            cursor.execute("ROLLBACK TO emptied")

    def _grants(self, role: str) -> str:
        name = quoted(role)
        log, watch = self.tables.name("log"), self.tables.name("watch")
        ours = ", ".join(
            self.tables.name(table) for table in ("retention", "groups", "leases", "dead")
        )
        # A group's backfill inserts; heal() updates what a restored dump brought.
        return (
            f"GRANT USAGE ON SCHEMA {self.schema} TO {name};\n"
            f"GRANT SELECT, INSERT, UPDATE (xid), DELETE ON {log} TO {name};\n"
            f"GRANT SELECT ON {watch} TO {name};\n"
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON {ours} TO {name};\n"
            f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {self.schema} TO {name};\n"
            f"{self.rights.grants_sql(role)}"
        )

    # The tables that are watched.

    def _watched(self, cursor: Any) -> Dict[str, Dict[str, Spec]]:
        """Return topic → service → spec."""
        cursor.execute(f"SELECT relation, service, wish FROM {self.tables.name('watch')}")
        found: Dict[str, Dict[str, Spec]] = {}
        for topic, service, spec in cursor.fetchall():
            found.setdefault(topic, {})[service] = Spec(**json.loads(spec))
        return found

    def _watch(
        self, cursor: Any, service: str, relation: Relation, spec: Spec, asked: bool
    ) -> None:
        """Write the spec down, in union with the service's former one, and make the triggers."""
        former = self._watched(cursor).get(relation.topic, {}).get(service)
        if asked or former != NOTHING:
            # In union: a web process and a worker of the same service may each
            # know only some of its listeners.
            spec = former | spec if former else spec
            cursor.execute(self._watch_sql(service, relation.topic, spec))
        self._apply(cursor, relation)

    def _unwatch(self, cursor: Any, services: List[str], topic: str) -> None:
        """Take the specs of services back, and with them what nobody else wants."""
        cursor.execute(
            f"UPDATE {self.tables.name('watch')} SET wish = %s"
            " WHERE relation = %s AND service = ANY (%s)",
            (UNINSTALLED, topic, services),
        )
        relation = find_topic(cursor, topic, self.schema)
        if relation is not None:
            self._apply(cursor, relation)

    def _watch_sql(self, service: str, topic: str, spec: Spec) -> str:
        wanted = _json(spec.as_dict())
        values = ", ".join(literal(text) for text in (service, topic, wanted))
        return (
            f"INSERT INTO {self.tables.name('watch')} (service, relation, wish) VALUES ({values})"
            " ON CONFLICT (service, relation) DO UPDATE SET wish = excluded.wish;"
        )

    def _apply(self, cursor: Any, relation: Relation) -> None:
        """Make the table's triggers what its watchers want, no more and no less."""
        known = self._watched(cursor).get(relation.topic, {})
        wanted = dict(self._triggers(relation, union_of(known.values())))
        there = self._there(cursor, relation)
        for name in there:
            if name not in wanted:
                cursor.execute(f"DROP TRIGGER IF EXISTS {name} ON {_quoted(relation)}")
        for name, trigger in wanted.items():
            mark, fires = there.get(name, (None, None))
            alter = f"ALTER TABLE {_quoted(relation)} ENABLE"
            if mark != _trigger_mark(trigger):
                cursor.execute(trigger)
                cursor.execute(_comment_sql(name, relation, trigger))
                if fires == "A":  # one that was replaced fires as usual
                    cursor.execute(f"{alter} ALWAYS TRIGGER {name}")
            elif fires == "D":
                cursor.execute(f"{alter} TRIGGER {name}")

    def _up_to_date(self, cursor: Any, relation: Relation, spec: Spec) -> bool:
        wanted = {n: _trigger_mark(t) for n, t in self._triggers(relation, spec)}
        there = self._there(cursor, relation)
        return wanted == {name: mark for name, (mark, fires) in there.items() if fires != "D"}

    def _there(self, cursor: Any, relation: Relation) -> Dict[str, Tuple[Optional[str], str]]:
        """Return our triggers on the table: name → comment, and when they fire.

        "O": for everybody who writes. "A": also for what replication applies.
        "D": not for everybody; disabled, for replication alone, or on a partition.
        """
        cursor.execute(
            "SELECT tgname, obj_description(t.oid, 'pg_trigger'), CASE WHEN EXISTS ("
            "   WITH RECURSIVE copies (oid) AS (SELECT t.oid UNION"
            "       SELECT objid FROM copies JOIN pg_depend ON refobjid = copies.oid"
            "       AND refclassid = 'pg_trigger'::regclass AND classid = 'pg_trigger'::regclass)"
            "   SELECT FROM copies JOIN pg_trigger USING (oid) WHERE tgenabled IN ('D', 'R'))"
            " THEN 'D' ELSE t.tgenabled::text END"
            " FROM pg_trigger t JOIN pg_proc p ON p.oid = tgfoid"
            " WHERE tgrelid = %s AND tgparentid = 0"
            " AND p.pronamespace = to_regnamespace(%s) AND proname LIKE 'capture%%'",
            (relation.oid, self.schema),
        )
        return {name: (comment, fires) for name, comment, fires in cursor.fetchall()}

    def _triggers(self, relation: Relation, spec: Spec) -> List[Tuple[str, str]]:
        """Return name and definition of each trigger that a spec needs."""
        spec = spec.settled().with_key(relation.key)
        limited = spec.include is not None or bool(spec.exclude)
        columns = {"include": spec.include, "exclude": spec.exclude} if limited else {}
        careful = {"careful": True} if relation.more["risky"] else {}
        new = _json({**columns, **careful})
        # With the keys alone, an event still says which row it was.
        old = new if spec.old else _json({"keys": True, **careful})
        quick = new == old == "{}"
        found = []
        for operation in spec.operations:
            name = f"{self.schema}_{operation}"
            head = f"CREATE OR REPLACE TRIGGER {name} AFTER {operation.upper()}"
            on = f"ON {_quoted(relation)}"
            if operation == "truncate":
                tail = f"FOR EACH STATEMENT EXECUTE FUNCTION {self.schema}.capture_truncate()"
                found.append((name, f"{head} {on} {tail}"))
            elif relation.more["by_row"]:
                # Partitions get copies of it, under its name, beside their own.
                name += "_" + _hash(relation.topic)[:8]
                head = f"CREATE OR REPLACE TRIGGER {name} AFTER {operation.upper()}"
                arguments = ", ".join(literal(text) for text in (new, old, relation.topic))
                tail = f"FOR EACH ROW EXECUTE FUNCTION {self.schema}.capture_row({arguments})"
                found.append((name, f"{head} {on} {tail}"))
            else:
                arguments = "" if quick else f"{literal(new)}, {literal(old)}"
                tail = (
                    f"{_TRANSITION[operation]} FOR EACH STATEMENT"
                    f" EXECUTE FUNCTION {self.schema}.capture_{operation}({arguments})"
                )
                found.append((name, f"{head} {on} {tail}"))
        return found

    # Their partitions.

    def _notes(self, relation: Relation, spec: Spec) -> Dict[Trigger, str]:
        """Return the triggers that note when a partition is truncated."""
        name = f"{self.schema}_truncate_{_hash(relation.topic)[:8]}"
        return self._truncations.wanted(relation, spec, name, literal(relation.topic))

    def _unnoted(self, cursor: Any, relation: Relation) -> Dict[Trigger, str]:
        """Return those that are not there."""
        if not relation.more["partitions"]:
            return {}
        union = union_of(self._watched(cursor).get(relation.topic, {}).values())
        wanted = self._notes(relation, union)
        there = self._truncations.there(cursor, [oid for oid, _ in wanted])
        return {key: trigger for key, trigger in wanted.items() if key not in there}

    def _note_truncations(self, cursor: Any, relation: Relation, deadline: Optional[float]) -> None:
        """Make those that are not there, each in a transaction of its own."""
        for (oid, _), trigger in self._unnoted(cursor, relation).items():
            partition = relation.more["partitions"][oid]
            with _tolerant(f"nobody will notice that {partition} is truncated"):
                self._retry(cursor, str(partition), lambda: cursor.execute(trigger), deadline)

    def _remove_notes(self, cursor: Any, deadline: Optional[float]) -> None:
        """Take the triggers from partitions that were detached, or whose table nobody watches."""
        there = self._truncations.all(cursor)
        watched = self._watched(cursor) if there else {}
        for topic, known in watched.items():
            relation = find_topic(cursor, topic, self.schema)
            if relation is not None:
                for key in self._notes(relation, union_of(known.values())):
                    there.pop(key, None)
        for (_, name), table in there.items():
            drop = f"DROP TRIGGER IF EXISTS {name} ON {table}"
            with _tolerant(f"the trigger {name} stays on {table}"):
                self._retry(cursor, table, lambda: cursor.execute(drop), deadline)

    def _remove_orphans(self, cursor: Any, deadline: Optional[float] = None) -> None:
        """Forget tables that are gone; take our triggers from tables that nobody watches."""
        watch = self.tables.name("watch")
        cursor.execute(
            f"DELETE FROM {watch} w WHERE wish <> %s AND NOT EXISTS (SELECT FROM pg_class c"
            " JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname || '.' || c.relname = w.relation AND c.relkind IN ('r', 'p'))",
            (UNINSTALLED,),
        )
        for topic in sorted({topic for topic, _, _ in self._orphans(cursor)}):
            relation = find_topic(cursor, topic, self.schema)
            if relation is not None:
                logger.info("taking the triggers from %s, which nobody watches", topic)
                with _tolerant(f"a trigger of ours stays on {topic}, which nobody watches"):
                    self._retry(cursor, topic, lambda: self._apply(cursor, relation), deadline)
        self._remove_notes(cursor, deadline)

    def _refuse_twin(self, cursor: Any, relation: Relation) -> None:
        """Raise UsageError where another table that is captured has the relation's topic."""
        if relation.topic.count(".") < 2:
            return
        names = captured_as(cursor, self.schema, relation.topic).get(relation.topic, [])
        if names and _quoted(relation) not in names:
            raise UsageError(of_one_topic(relation.topic, [*names, _quoted(relation)]))

    def twins(self, cursor: Any) -> List[str]:
        """Name the captured tables that have one topic: their owners may have renamed them."""
        return [
            of_one_topic(topic, names)
            for topic, names in captured_as(cursor, self.schema).items()
            if len(names) > 1
        ]

    def _orphans(self, cursor: Any) -> List[Tuple[str, str, str]]:
        """Return topic, function and DROP statement of each trigger where nobody watches."""
        cursor.execute(
            "SELECT n.nspname || '.' || c.relname, p.oid::regprocedure::text,"
            " format('DROP TRIGGER %%I ON %%I.%%I', tgname, nspname, relname) FROM pg_proc p"
            # By an index, however many triggers of others there are.
            " JOIN pg_depend d ON refclassid = 'pg_proc'::regclass AND refobjid = p.oid"
            " AND classid = 'pg_trigger'::regclass"
            " JOIN pg_trigger t ON t.oid = objid JOIN pg_class c ON c.oid = t.tgrelid"
            " JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE t.tgparentid = 0 AND p.pronamespace = to_regnamespace(%s)"
            " AND p.proname LIKE 'capture%%'"
            " AND n.nspname || '.' || c.relname NOT IN"
            f" (SELECT relation FROM {self.tables.name('watch')} WHERE wish <> %s) ORDER BY 1, 3",
            (self.schema, UNINSTALLED),
        )
        return [(topic, function, cure) for topic, function, cure in cursor.fetchall()]

    # Rights.

    def forgers(self, cursor: Any) -> List[str]:
        """Name each trigger that writes to the log for a table that nobody watches.

        Somebody may have made it while he had EXECUTE, which no trigger is asked for again.
        """
        if not self._complete(cursor):
            return []
        return [
            f"a trigger on {topic}, which nobody watches, calls {function} and so writes to the"
            f" log: let the table's owner, or a superuser, run {cure}"
            for topic, function, cure in self._orphans(cursor)
        ]

    def _refuse_hidden(self, cursor: Any) -> None:
        """Raise Denied where row-level security hides rows of our tables: we would miss them."""
        ours = [table.name for table in self.tables.metadata.sorted_tables]
        cursor.execute(
            "SELECT c.relname, current_user FROM pg_class c"
            " WHERE c.relnamespace = to_regnamespace(%s) AND c.relname = ANY (%s)"
            " AND c.relkind = 'r' AND row_security_active(c.oid)",
            (self.schema, ours),
        )
        for name, user in cursor.fetchall():
            raise Denied(
                f"row-level security hides rows of {self.schema}.{name} from the role {user!r}."
                f" Let its owner run ALTER TABLE {self.schema}.{name} DISABLE ROW LEVEL SECURITY"
                " (or NO FORCE, for the owner himself)"
            )

    @contextlib.contextmanager
    def advised(self, cursor: Any, sentence: str) -> Iterator[None]:
        """Where a right is missing, raise Denied and say who can help."""
        try:
            yield
        except psycopg2.errors.InsufficientPrivilege as error:
            advice = (
                "Let the tables' owner install (`pgevents sql` prints the statements) and use"
                " Hub(…, install=False)"
            )
            # Not to_regclass(): it asks for the very right that may be missing.
            cursor.execute(
                "SELECT pg_get_userbyid(nspowner), current_user FROM pg_namespace"
                " WHERE nspname = %s AND NOT pg_has_role(nspowner, 'USAGE')",
                (self.schema,),
            )
            for owner, user in cursor.fetchall():
                advice = (
                    f"the log {self.schema} belongs to {owner}, who has to run what"
                    f" `pgevents sql URL TABLE --role {user}` prints; then use"
                    " Hub(…, install=False)"
                )
            advice = "; ".join(self.rights.broken(cursor)) or advice
            raise Denied(f"{sentence}: {sentence_of(error)}. {advice}") from error

    # Locks.

    @contextlib.contextmanager
    def _in_turn(self, cursor: Any, deadline: Optional[float] = None) -> Iterator[None]:
        """Let the others who install finish, so that not all queue for a table's lock at once.

        Any role can hold this lock: who might not install at all is not waited for
        for long. What must not happen at the same time is kept apart by `_lock`.
        """
        key = f"hashtextextended({literal('pgevents install ' + self.schema)}, 0)"
        begun = time.monotonic()
        mine = False
        for pause in Backoff(0.02, 0.2):
            cursor.execute(f"SELECT pg_try_advisory_lock({key})")
            mine = bool(cursor.fetchone()[0])
            if mine or self._waited_enough(cursor, key, begun, deadline):
                break
            time.sleep(pause)
        try:
            yield
        finally:
            if mine:
                with contextlib.suppress(psycopg2.Error):
                    cursor.execute(f"SELECT pg_advisory_unlock({key})")

    def _waited_enough(
        self, cursor: Any, key: str, begun: float, deadline: Optional[float]
    ) -> bool:
        """Tell whether a stranger holds this lock for too long. Raises Unavailable if one of us."""
        cursor.execute(
            "SELECT l.pid, a.usename, pg_has_role(a.usesysid, current_user, 'USAGE')"
            f" FROM (SELECT {key} AS key) k, pg_locks l JOIN pg_stat_activity a USING (pid)"
            " WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted"
            " AND l.classid = ((key >> 32) & 4294967295)::oid"
            " AND l.objid = (key & 4294967295)::oid"
            " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            " LIMIT 1"
        )
        pid, role, ours = cursor.fetchone() or (None, None, True)
        now = time.monotonic()
        give_up = begun + PATIENCE if deadline is None else deadline
        if ours:
            if now < give_up:
                return False
            raise Unavailable(
                f"another process has been installing {self.schema} all the time"
                f" (session {pid} of role {role!r}): it waits for a table's lock itself, perhaps"
            )
        if now < min(begun + COURTESY, (begun + give_up) / 2):
            return False
        logger.warning(
            "session %s of role %r holds the lock of those who install %s: going on without it",
            pid,
            role,
            self.schema,
        )
        return True

    def _lock(self, cursor: Any) -> None:
        """Let nobody else install until the transaction ends; readers and writers may go on.

        Where there is no log yet, the catalog's own indexes let one transaction create it.
        """
        if self._exists(cursor):
            cursor.execute(f"LOCK TABLE {self.tables.name('watch')} IN SHARE ROW EXCLUSIVE MODE")

    def _retry(
        self,
        cursor: Any,
        table: str,
        change: Callable[[], Any],
        deadline: Optional[float] = None,
    ) -> None:
        """Change a table in a transaction of its own, trying for its lock in short turns."""
        begun = time.monotonic()
        give_up = begun + PATIENCE if deadline is None else min(begun + PATIENCE, deadline)
        for pause in Backoff(0.05, 2.0):
            try:
                with self.advised(cursor, f"may not change {table}"), _transaction(cursor):
                    cursor.execute(f"SET LOCAL lock_timeout = '{int(LOCK_TIMEOUT * 1000)}ms'")
                    self._lock(cursor)
                    change()
                return
            except _MEANWHILE as error:
                now = time.monotonic()
                # The last turn has to be over when we give up.
                pause = min(pause, give_up - LOCK_TIMEOUT - now)
                if pause <= 0:
                    raise Unavailable(
                        f"no lock on {table} for {now - begun:.1f} s to install triggers:"
                        " a transaction that wrote to it has been open all the time"
                    ) from error
                logger.info("%s is in use, trying again in %.1f s", table, pause)
                time.sleep(pause)


#: What says that another process is at it, or was a moment ago.
_MEANWHILE = (
    psycopg2.errors.LockNotAvailable,
    psycopg2.errors.DeadlockDetected,
    psycopg2.errors.UniqueViolation,  # both create the same
    psycopg2.errors.DuplicateSchema,
    psycopg2.errors.DuplicateTable,
)


@contextlib.contextmanager
def _tolerant(what: str) -> Iterator[None]:
    """Within the block, log that a right is missing, and go on: a partition may have an owner."""
    try:
        yield
    except Denied as error:
        logger.warning("%s: %s", what, error)


@contextlib.contextmanager
def one_view(cursor: Any) -> Iterator[None]:
    """Within the block, see the database as it is now: others may be installing."""
    with _transaction(cursor, "ISOLATION LEVEL REPEATABLE READ, READ ONLY"):
        yield


@contextlib.contextmanager
def _transaction(cursor: Any, mode: str = "") -> Iterator[None]:
    cursor.execute(f"BEGIN {mode}")
    try:
        yield
    except BaseException:
        cursor.execute("ROLLBACK")
        raise
    cursor.execute("COMMIT")


def _by_row(relation: Relation) -> Relation:
    more = {**relation.more, "by_row": True}
    return Relation(
        relation.schema, relation.name, relation.columns, relation.key, relation.oid, **more
    )


def _quoted(relation: Relation) -> str:
    return quoted(relation.schema, relation.name)


def _json(value: Any) -> str:
    # Letters as they are: not every database's encoding can read \u00e9.
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _trigger_mark(trigger: str) -> str:
    return f"pgevents {_hash(trigger)}"


def _comment_sql(name: str, relation: Relation, trigger: str) -> str:
    return f"COMMENT ON TRIGGER {name} ON {_quoted(relation)} IS '{_trigger_mark(trigger)}'"
