"""Installing on PostgreSQL: the tables, the functions, a trigger for each operation.

    watch row (service, relation, spec) ─┐
    watch row (another service, …)      ─┴─ union ─ triggers of the relation

What is current is found out by reading the catalog alone: then no lock is taken at all.
"""

import contextlib
import json
import logging
import time
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Set,
)

import psycopg2.errors
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2
from sqlalchemy.schema import CreateIndex, CreateTable

from ..capture.plan import (
    CreateTrigger,
    DropNote,
    DropTrigger,
    EnableTrigger,
    Forget,
    InstallLog,
    NoteTruncation,
    Operation,
    Record,
    ReplaceTrigger,
    compare,
    leftovers,
    settle,
)
from ..database.relation import Relation, of_one_topic
from ..database.spec import NOTHING, UNINSTALLED, Spec, Specs
from ..database.there import Note, There
from ..errors import Denied, Unavailable, UsageError
from ..listening.target import Target
from ..retry import Backoff
from ..tables import VERSION, Tables
from . import catalog
from .answers import Answers
from .catalog import Catalog, literal, quoted
from .functions import Functions
from .places import Places
from .rights import Rights
from .script import script
from .session import SAFE_PATH
from .translation import sentence_of
from .triggers import Triggers, as_json, comment_sql, hash_of

logger = logging.getLogger("pgevents")

#: The tables that hubs write.
_HUBS = "retention groups leases dead streams events snapshots delayed ids".split()

#: How long we queue for a table's lock: writers who come meanwhile queue behind us.
LOCK_TIMEOUT = 0.2  # seconds
PATIENCE = 60.0  # seconds in which a table's lock is tried for again and again
COURTESY = 3.0  # seconds that we wait for another role that may be installing

#: What is there of the log. Not by to_regclass(), which asks for rights on the schema.
_STATE = """
SELECT obj_description(n.oid, 'pg_namespace'),
       (SELECT coalesce(array_agg(relname::text), '{}') FROM pg_class
         WHERE relnamespace = n.oid AND relname = ANY (%s)),
       (SELECT encode(tgargs, 'escape') FROM pg_trigger JOIN pg_class c ON c.oid = tgrelid
         WHERE relnamespace = n.oid AND relname = 'log' AND tgname = 'pgevents_ring'),
       (SELECT min(relname::text) FROM pg_class
         WHERE relnamespace = n.oid AND relname = ANY (%s) AND relkind = 'r'
           AND row_security_active(oid)),
       current_user::text,
       EXISTS (SELECT FROM pg_proc WHERE pronamespace = n.oid AND proname LIKE 'capture%%')
  FROM pg_namespace n WHERE nspname = %s
"""


#: Each trigger that calls our functions: the table's schema and name, the function, and what
#: drops the trigger. By an index, however many triggers of others there are.
_CALLERS = """
SELECT n.nspname::text AS schema, c.relname::text AS name, p.oid::regprocedure::text,
       format('DROP TRIGGER %%I ON %%I.%%I', tgname, n.nspname, relname)
  FROM pg_proc p JOIN pg_namespace f ON f.oid = pronamespace AND f.nspname = %s
       JOIN pg_depend d ON refclassid = 'pg_proc'::regclass AND refobjid = p.oid
            AND classid = 'pg_trigger'::regclass
       JOIN pg_trigger t ON t.oid = objid JOIN pg_class c ON c.oid = tgrelid
       JOIN pg_namespace n ON n.oid = relnamespace
 WHERE tgparentid = 0 AND proname LIKE 'capture%%' AND relkind IN ('r', 'p') ORDER BY 1, 2, 4
"""


class State(NamedTuple):
    """What is there of the log: nothing, unless the fields say so."""

    mark: Optional[str] = None  # the schema's comment
    tables: List[str] = []
    bell: Optional[str] = None  # "on" or "off", as its trigger has it
    hidden: Optional[str] = None  # a table whose rows row-level security hides from us
    user: str = ""
    functions: bool = False

    @property
    def installed(self) -> bool:
        """Tell whether the schema's owner has installed our log in it, whatever became of it."""
        return (self.mark or "").startswith("pgevents ")


class Capture:
    """What is captured in one database, for one log."""

    def __init__(self, tables: Tables, bell: Optional[bool] = None) -> None:
        self.tables = tables
        self.schema = tables.schema
        self.bell = bell
        self.rules = Triggers(tables.schema)
        self.rights = Rights(tables)
        self.places = Places(tables)
        self._functions_sql = script("functions.sql", self.schema)
        self._functions = Functions(tables.schema, self._functions_sql)
        self._rights_sql = script("rights.sql", self.schema)
        self._known_mark: Optional[str] = None

    # Finding out.

    def look(
        self,
        cursor: Any,
        targets: Optional[Mapping[str, Target]] = None,
        topics: Iterable[str] = (),
        everything: bool = False,
    ) -> There:
        """Return what is there: of these targets and topics, or of ``everything``."""
        rights, places = self.rights, self.places
        answers = Answers(
            cursor,
            [
                self._state,
                self._functions.changed,
                self._callers,
                places.taken,
                places.lacking,
                rights.broken,
                rights.loose,
                rights.foreign,
                rights.writers,
                rights.strangers,
                rights.runner,
                rights.may_heal,
            ],
        )
        state = self._state(answers)
        there = There(self.rules)
        there.more = answers
        if not self._current(state):
            there.log = f"the log {self.tables.name('log')} is not installed, or outdated"
        there.hidden = self._hidden(state)
        there.denied = rights.broken(answers)
        there.changed = self._changed(answers)
        self._look_at_tables(cursor, there, state, targets or {}, topics, everything)
        return there

    def _look_at_tables(
        self,
        cursor: Any,
        there: There,
        state: State,
        targets: Mapping[str, Target],
        topics: Iterable[str],
        everything: bool = False,
    ) -> None:
        wanted = set(topics)
        if "watch" in state.tables:
            if not everything:  # else the specs tell what to look for
                cursor = self._asked_together(cursor, targets, wanted)
            self._read_specs(cursor, there)
        if everything:
            wanted |= {*there.specs}
        found = Catalog(cursor, self.schema, targets, wanted, strays=everything)
        for key, meant in found.meant.items():
            there.found(key, meant)
        self._take_found(there, found)

    def _asked_together(
        self, cursor: Any, targets: Mapping[str, Target], topics: Set[str]
    ) -> Answers:
        """Return a cursor that has the answers for ``_read_specs`` and ``Catalog``."""

        def ask_for_tables(asked: Any) -> None:
            catalog.ask_for_tables(asked, self.schema, targets, topics)

        return Answers(cursor, [self._ask_for_specs, ask_for_tables])

    def _take_found(self, there: There, found: Catalog) -> None:
        there.tables, there.triggers, there.notes = found.tables, found.triggers, found.notes

    def _look_at_one(self, cursor: Any, topic: str) -> There:
        """Return what is there of one table, now that nobody else may change it."""
        there = There(self.rules)
        self._read_specs(cursor, there, " WHERE relation = %s", (topic,))
        self._take_found(there, Catalog(cursor, self.schema, {}, [topic]))
        return there

    def _read_specs(
        self, cursor: Any, there: There, where: str = "", values: Sequence[Any] = ()
    ) -> None:
        self._ask_for_specs(cursor, where, values)
        for topic, service, spec in cursor.fetchall():
            there.specs.setdefault(topic, {})[service] = Spec(**json.loads(spec))

    def _ask_for_specs(self, cursor: Any, where: str = "", values: Sequence[Any] = ()) -> None:
        watch = self.tables.name("watch")
        cursor.execute(f"SELECT relation, service, wish FROM {watch}{where}", values)

    # Changing.

    def install(
        self,
        connection: Any,
        service: str,
        specs: Specs,
        there: There,
        deadline: Optional[float] = None,
        owner: Optional[str] = None,
        asked: bool = True,
    ) -> bool:
        """Create and replace what is missing, until ``deadline`` if there is one.

        Tell whether anything was. ``there`` was found a moment ago. With ``owner`` the
        functions run with that role's rights, which is made if it is not there. Unless
        ``asked``, what the service has uninstalled stays so. Raises Denied without the rights,
        or where somebody else has put something in our place; Unavailable without a lock.
        """
        with connection.cursor() as cursor, self.advised(cursor, "may not install"):
            oids = [relation.oid for relation, _ in specs]
            answers = there.more.on(cursor)
            self.rights.refuse_strangers(answers, self._state(answers).installed, oids)
            if self._sound(answers, owner) and not compare(there, specs, service, asked):
                return False
            with self._in_turn(cursor, deadline):
                self._install_log(cursor, deadline, owner, oids)
                # Others may have installed meanwhile.
                there = self.look(cursor, topics=[relation.topic for relation, _ in specs])
                lent = self.rights.lent(cursor, oids)
                for relation, spec in there.again(specs):
                    operations = compare(there, [(relation, spec)], service, asked)
                    notes = [one for one in operations if isinstance(one, NoteTruncation)]
                    if len(operations) > len(notes):
                        self._refuse_twin(cursor, relation)
                        if relation.oid in lent:
                            logger.warning("%s %s", relation.topic, lent[relation.oid])
                        change = self._capture_one(cursor, service, relation, spec, asked)
                        self._retry(cursor, relation.topic, change, deadline)
                    for note in notes:
                        self._apply_to_partition(cursor, note, deadline)
                self._take_leftovers(cursor, deadline)
            return True

    def uninstall(self, connection: Any, service: str, everything: bool) -> None:
        """Take this service's specs back; what nobody needs then goes, with ``everything`` all."""
        with connection.cursor() as cursor:
            state = self._state(cursor)
            if not state.functions and "watch" not in state.tables:
                return
            with self._in_turn(cursor):
                if not self._complete(state):
                    for statement in self._tables_sql():
                        cursor.execute(statement)
                for topic, known in self.look(cursor).specs.items():
                    if everything or service in known:
                        leaving = list(known) if everything else [service]
                        self._retry(cursor, topic, lambda: self._unwatch(cursor, leaving, topic))
                self._take_leftovers(cursor)
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
        for operation in compare(There(self.rules), specs, service):
            parts += [statement + ";" for statement in self._sql(operation)]
        if role is not None:
            parts.append(self._grants(role))
        return "\n".join([*parts, "COMMIT;", ""])

    # The log itself.

    def _state(self, cursor: Any) -> State:
        names = [table.name for table in self.tables.metadata.sorted_tables]
        cursor.execute(_STATE, (names, names, self.schema))
        row = cursor.fetchone()
        return State() if row is None else State(*row)

    def _complete(self, state: State) -> bool:
        """Tell whether all tables are there: somebody may have dropped one."""
        return {table.name for table in self.tables.metadata.sorted_tables} <= {*state.tables}

    def _mark(self) -> str:
        """What the schema's comment says when all is current."""
        if self._known_mark is None:
            text = self._functions_sql + self._rights_sql + "".join(self._tables_sql())
            self._known_mark = f"pgevents {VERSION} {hash_of(text)}"
        return self._known_mark

    def _current(self, state: State) -> bool:
        words = (state.mark or "").split()
        if not self._complete(state) or state.bell is None:
            return False
        if len(words) < 3 or words[0] != "pgevents" or not words[1].isdigit():
            return False
        if self.bell is not None and state.bell.startswith("on") != self.bell:
            return False
        # A newer pgevents keeps its own; we must not undo it.
        return int(words[1]) > VERSION or state.mark == self._mark()

    def _changed(self, cursor: Any) -> List[str]:
        """Name the functions that are not as they were made, unless a newer pgevents made them."""
        changed = self._functions.changed(cursor)
        return changed if self._state(cursor).mark == self._mark() else []

    def _sound(self, cursor: Any, owner: Optional[str]) -> bool:
        """Tell whether the log is current, and so are the rights on it, as far as we may see."""
        if not self._current(self._state(cursor)):
            return False
        if self._changed(cursor) or self.rights.broken(cursor):
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
        installed = self._state(cursor).installed
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
        bell = "on" if self.bell in (None, True) else "off"
        return [
            *(
                f"CREATE OR REPLACE TRIGGER pgevents_ring AFTER INSERT ON {self.tables.name(table)}"
                f" FOR EACH STATEMENT EXECUTE FUNCTION {self.schema}.{function}('{bell}');"
                for table, function in (
                    ("log", "ring"),
                    ("events", "ring_streams"),
                    ("delayed", "ring_streams"),
                )
            ),
            f"COMMENT ON SCHEMA {self.schema} IS '{self._mark()}';",
        ]

    def _drop_log(self, cursor: Any, everything: bool) -> None:
        """Drop the log, but not, unless ``everything`` goes, what somebody still needs."""
        # A group's place, what waits for it, and streams are worth more than a tidy schema.
        cursor.execute(
            f"SELECT EXISTS (SELECT FROM {self.tables.name('watch')} WHERE wish <> %s)"
            f" OR EXISTS (SELECT FROM {self.tables.name('groups')})"
            f" OR EXISTS (SELECT FROM {self.tables.name('streams')})"
            f" OR EXISTS (SELECT FROM {self.tables.name('delayed')})",
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
        ours = ", ".join(self.tables.name(table) for table in _HUBS)
        # A group's backfill inserts; heal() updates what a restored dump brought.
        return (
            f"GRANT USAGE ON SCHEMA {self.schema} TO {name};\n"
            f"GRANT SELECT, INSERT, UPDATE (xid), DELETE ON {log} TO {name};\n"
            f"GRANT SELECT ON {watch} TO {name};\n"
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON {ours} TO {name};\n"
            f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {self.schema} TO {name};\n"
            f"{self.rights.grants_sql(role)}"
        )

    # The tables that are captured.

    def _capture_one(
        self, cursor: Any, service: str, relation: Relation, spec: Spec, asked: bool
    ) -> Callable[[], None]:
        """Return what records a spec and makes the triggers, when nobody else does."""

        def change() -> None:
            there = self._look_at_one(cursor, relation.topic)
            specs = there.again([(relation, spec)])
            self._apply(cursor, compare(there, specs, service, asked))

        return change

    def _unwatch(self, cursor: Any, services: List[str], topic: str) -> None:
        """Take the specs of services back, and with them what nobody else wants."""
        cursor.execute(
            f"UPDATE {self.tables.name('watch')} SET wish = %s"
            " WHERE relation = %s AND service = ANY (%s)",
            (UNINSTALLED, topic, services),
        )
        self._settle(cursor, topic)

    def _settle(self, cursor: Any, topic: str) -> None:
        """Make a table's triggers what its services want, no more and no less."""
        there = self._look_at_one(cursor, topic)
        if topic in there.tables:
            known = there.specs.get(topic, {})
            self._apply(cursor, settle(there, there.tables[topic], known))

    def _take_leftovers(self, cursor: Any, deadline: Optional[float] = None) -> None:
        """Forget tables that are gone; take our triggers from tables that nobody watches."""
        there = self.look(cursor, everything=True)
        there.notes = self._all_notes(cursor)
        settled = set()
        for operation in leftovers(there):
            if isinstance(operation, DropNote):
                self._apply_to_partition(cursor, operation, deadline)
            elif isinstance(operation, DropTrigger):
                topic = operation.relation.topic
                if topic not in settled:
                    logger.info("taking the triggers from %s, which nobody watches", topic)
                    with _tolerant(f"a trigger of ours stays on {topic}, which nobody watches"):
                        self._retry(cursor, topic, lambda: self._settle(cursor, topic), deadline)
                settled.add(topic)
            else:
                self._apply(cursor, [operation])

    def _all_notes(self, cursor: Any) -> Dict[Any, Note]:
        cursor.execute(
            "SELECT tgrelid::int8, tgname, nspname, relname FROM pg_proc p"
            " JOIN pg_depend d ON refclassid = 'pg_proc'::regclass AND refobjid = p.oid"
            " AND classid = 'pg_trigger'::regclass"
            " JOIN pg_trigger t ON t.oid = objid JOIN pg_class c ON c.oid = tgrelid"
            " JOIN pg_namespace n ON n.oid = relnamespace"
            " WHERE pronamespace = to_regnamespace(%s) AND proname = 'partition_truncated'",
            (self.schema,),
        )
        found = [Note(oid, name, quoted(*table)) for oid, name, *table in cursor.fetchall()]
        return {(note.partition, note.name): note for note in found}

    # Operations.

    def _apply(self, cursor: Any, operations: List[Operation]) -> None:
        """Do it in one trip; but notes have transactions of their own."""
        statements = [
            statement
            for operation in operations
            if not isinstance(operation, NoteTruncation)
            for statement in self._sql(operation)
        ]
        if statements:
            cursor.execute("; ".join(statements))

    def _apply_to_partition(
        self, cursor: Any, operation: Operation, deadline: Optional[float]
    ) -> None:
        """Make or drop a trigger on a partition, which may have another owner."""
        note, (statement,) = operation.note, self._sql(operation)
        if isinstance(operation, DropNote):
            table, what = note.table, f"the trigger {note.name} stays on {note.table}"
        else:
            table = str(operation.relation.more["partitions"][note.partition])
            what = f"nobody will notice that {table} is truncated"
        with _tolerant(what):
            self._retry(cursor, table, lambda: cursor.execute(statement), deadline)

    def _sql(self, operation: Operation) -> List[str]:
        """Return an operation as SQL."""
        if isinstance(operation, Record):
            return [self._record_sql(operation)]
        if isinstance(operation, Forget):
            return [
                f"DELETE FROM {self.tables.name('watch')} WHERE relation ="
                f" {literal(operation.topic)} AND wish <> {literal(UNINSTALLED)}"
            ]
        if isinstance(operation, NoteTruncation):
            return [operation.note.sql]
        if isinstance(operation, DropNote):
            return [f"DROP TRIGGER IF EXISTS {operation.note.name} ON {operation.note.table}"]
        assert not isinstance(operation, InstallLog), "it takes more than statements"
        table = quoted(operation.relation.schema, operation.relation.name)
        enable = f"ALTER TABLE {table} ENABLE"
        if isinstance(operation, DropTrigger):
            return [f"DROP TRIGGER IF EXISTS {operation.name} ON {table}"]
        if isinstance(operation, EnableTrigger):
            return [f"{enable} TRIGGER {operation.name}"]
        assert isinstance(operation, (CreateTrigger, ReplaceTrigger)), operation
        trigger = operation.trigger
        statements = [trigger.sql, comment_sql(operation.relation, trigger)]
        if isinstance(operation, ReplaceTrigger) and operation.always:
            # One that was replaced fires as usual.
            statements.append(f"{enable} ALWAYS TRIGGER {trigger.name}")
        return statements

    def _record_sql(self, record: Record) -> str:
        wanted = as_json(record.total.as_dict())
        given = (str(record.service), record.relation.topic, wanted)
        return (
            f"INSERT INTO {self.tables.name('watch')} (service, relation, wish)"
            f" VALUES ({', '.join(map(literal, given))})"
            " ON CONFLICT (service, relation) DO UPDATE SET wish = excluded.wish"
        )

    # Rights.

    def forgers(self, there: There) -> List[str]:
        """Name each trigger that writes to the log for a table that nobody watches.

        Somebody may have made it while he had EXECUTE, which no trigger is asked for again.
        """
        if not self._complete(self._state(there.more)):
            return []
        return [
            f"a trigger on {topic}, which nobody watches, calls {function} and so writes to the"
            f" log: let the table's owner, or a superuser, run {cure}"
            for schema, name, function, cure in self._callers(there.more)
            for topic in (f"{schema}.{name}",)
            if set(there.specs.get(topic, {}).values()) <= {NOTHING}
        ]

    def twins(self, there: There) -> List[str]:
        """Name the captured tables that have one topic: their owners may have renamed them."""
        return [
            of_one_topic(topic, sorted(names))
            for topic, names in sorted(self._captured_as(there.more).items())
            if len(names) > 1
        ]

    def _refuse_twin(self, cursor: Any, relation: Relation) -> None:
        """Raise UsageError where another table that is captured has the relation's topic."""
        name = quoted(relation.schema, relation.name)
        if relation.topic.count(".") > 1:
            names = self._captured_as(cursor).get(relation.topic, {name})
            if name not in names:
                raise UsageError(of_one_topic(relation.topic, [*sorted(names), name]))

    def _captured_as(self, cursor: Any) -> Dict[str, Set[str]]:
        """Return topic → the names of the captured tables that bear it."""
        found: Dict[str, Set[str]] = {}
        for schema, name, *_ in self._callers(cursor):
            found.setdefault(f"{schema}.{name}", set()).add(quoted(schema, name))
        return found

    def _callers(self, cursor: Any) -> List[Any]:
        cursor.execute(_CALLERS, (self.schema,))
        return list(cursor.fetchall())

    def _hidden(self, state: State) -> Optional[Denied]:
        """Return what to raise where row-level security hides rows of our tables from us."""
        if state.hidden is None:
            return None
        name = f"{self.schema}.{state.hidden}"
        return Denied(
            f"row-level security hides rows of {name} from the role {state.user!r}."
            f" Let its owner run ALTER TABLE {name} DISABLE ROW LEVEL SECURITY"
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
        if "watch" in self._state(cursor).tables:
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
