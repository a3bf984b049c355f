"""Who owns what is ours in the database, and who may use it.

    schema, tables       who installs
    functions            the same; those that run with their owner's rights may have a role of
                         their own (``owner=``): it may write the log, and nothing else. Who
                         could become that role could change these functions, so it has no
                         login and no members but the schema's owner and his
    INSERT on the log    who was given it by what ``pgevents sql --role`` prints
    EXECUTE              the functions' owner alone, but for what they and a backfill call, and
                         for what publishes messages: the log's owner grants that to anybody

A role is trusted by another that it may become, that may become it, and by all if it is a
superuser. What belongs to anybody else in our place was put there by a stranger, perhaps,
whose triggers, rules and defaults would run with the rights of whoever uses it. On a table of
ours TRIGGER may be granted, and a trigger has no owner, so there is none but our own.
"""

from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from sqlalchemy import DefaultClause

from ..errors import Denied
from ..tables import Tables
from .catalog import literal, quoted

#: The functions of functions.sql that are triggers …
TRIGGERS = [
    "capture_insert",
    "capture_update",
    "capture_delete",
    "capture_row",
    "capture_truncate",
    "partition_truncated",
    "ring",
    "ring_streams",
]
#: … and those that they call, and some of them a backfill, too.
HELPERS = ["native", "columns", "types_sql", "careful", "rare", "row_sql", "small_sql", "cut"]
#: What publishes messages: an install keeps the roles' grants, but none to everybody.
PUBLISHING = ["publish", "publish_many"]


class Stranger(NamedTuple):
    """Something in our place that may run a stranger's code."""

    kind: str  # schema, table, function, trigger, or code: a function that a table of ours calls
    sentence: str
    owner: Optional[str]  # not of a trigger
    cure: str  # a statement: it takes the code away, or gives the thing to the schema's owner

    @property
    def runs(self) -> bool:
        """Tell whether it runs when somebody uses our table: an owner alone runs nothing."""
        return self.kind in ("trigger", "code")

    def __str__(self) -> str:
        return f"{self.sentence}: run {self.cure}" if self.runs else self.sentence


#: {judge}: the role that trusts or does not. pg_has_role() says of a superuser that it is
#: a member of everything, so what a role may become is asked of pg_auth_members.
_STRANGERS = """
WITH RECURSIVE judge AS (
    SELECT {judge} AS oid
), above (oid) AS (
    SELECT roleid FROM pg_auth_members JOIN judge ON member = judge.oid
     UNION
    SELECT roleid FROM above JOIN pg_auth_members ON member = above.oid
), tables AS (
    SELECT c.oid, format('%I.%I', '{schema}'::text, relname) AS name, relname, relowner
      FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
     WHERE nspname = '{schema}' AND relname = ANY ('{{{tables}}}')
), code (classid, objid, name, cure) AS (
    SELECT 'pg_trigger'::regclass, t.oid, name,
           format('DROP TRIGGER %I ON %s', tgname, name)
      FROM tables JOIN pg_trigger t ON tgrelid = tables.oid
     UNION ALL
    SELECT 'pg_rewrite'::regclass, r.oid, name,
           format('DROP RULE %I ON %s', rulename, name)
      FROM tables JOIN pg_rewrite r ON ev_class = tables.oid
     UNION ALL
    SELECT 'pg_policy'::regclass, p.oid, name,
           format('DROP POLICY %I ON %s', polname, name)
      FROM tables JOIN pg_policy p ON polrelid = tables.oid
     UNION ALL
    SELECT 'pg_constraint'::regclass, c.oid, name,
           format('ALTER TABLE %s DROP CONSTRAINT %I', name, conname)
      FROM tables JOIN pg_constraint c ON conrelid = tables.oid
     UNION ALL
    SELECT 'pg_class'::regclass, indexrelid, name,
           format('DROP INDEX %s', indexrelid::regclass)
      FROM tables JOIN pg_index ON indrelid = tables.oid
     UNION ALL
    SELECT 'pg_attrdef'::regclass, d.oid, name,
           format('ALTER TABLE %s ALTER COLUMN %I %s', name, a.attname,
                  coalesce('SET DEFAULT ' || o.expression, 'DROP DEFAULT'))
      FROM tables JOIN pg_attrdef d ON adrelid = tables.oid
           JOIN pg_attribute a ON attrelid = adrelid AND attnum = adnum
           LEFT JOIN (VALUES {defaults}) o (relname, attname, expression)
               ON o.relname = tables.relname AND o.attname = a.attname
), ours (kind, what, owner, cure) AS (
    SELECT 'schema', format('schema %I', nspname), nspowner,
           format('ALTER SCHEMA %I OWNER TO ', nspname)
      FROM pg_namespace WHERE nspname = '{schema}'
     UNION ALL
    SELECT 'table', format('table %s', name), relowner,
           format('ALTER TABLE %s OWNER TO ', name)
      FROM tables
     UNION ALL
    SELECT 'function', format('function %s', p.oid::regprocedure), proowner,
           format('ALTER FUNCTION %s OWNER TO ', p.oid::regprocedure)
      FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace
     WHERE nspname = '{schema}' AND proname = ANY ('{{{functions}}}')
     UNION ALL
    SELECT 'code', format('function %s, which a trigger, rule, policy or default of the table'
                          ' %s calls,', p.oid::regprocedure, name),
           proowner, cure
      FROM code JOIN pg_depend uses ON uses.classid = code.classid AND uses.objid = code.objid
               AND uses.refclassid = 'pg_proc'::regclass
           JOIN pg_proc p ON p.oid = uses.refobjid
)
SELECT kind, format('the %s belongs to %I', what, pg_get_userbyid(owner)) AS sentence,
       pg_get_userbyid(owner)::text AS owner,
       CASE WHEN kind = 'code' THEN cure
            ELSE cure || quote_ident(pg_get_userbyid(judge.oid)) END AS cure
  FROM ours, judge
 WHERE NOT pg_has_role(owner, judge.oid, 'MEMBER') AND owner NOT IN (SELECT oid FROM above)
 UNION
SELECT 'trigger', format('the trigger %I on the table %s is not one of ours', tgname, name),
       NULL, cure
  FROM tables JOIN code USING (name)
       JOIN pg_trigger t ON classid = 'pg_trigger'::regclass AND t.oid = objid
 WHERE NOT tgisinternal
   -- 4: after each INSERT statement. Who has TRIGGER may give ours a condition, too.
   AND NOT (tgname = 'pgevents_ring' AND tgtype = 4 AND tgqual IS NULL
            AND EXISTS (SELECT FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace
                         WHERE p.oid = tgfoid AND nspname = '{schema}'
                          AND (relname, proname)
                              IN (('log', 'ring'), ('events', 'ring_streams'),
                                  ('delayed', 'ring_streams'))))
"""

_ME = "(SELECT r.oid FROM pg_roles r WHERE rolname = current_user)"
_SCHEMA_OWNER = "(SELECT nspowner FROM pg_namespace WHERE nspname = '{schema}')"

#: Who may do what nobody but the owner should.
_LOOSE = """
SELECT grantee, format('execute %s', function) FROM (
    SELECT p.oid::regprocedure AS function, (aclexplode(
               coalesce(proacl, acldefault('f', proowner)))).grantee, proowner, proname
      FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace
     WHERE nspname = '{schema}' AND proname = ANY ('{{{functions}}}')) f
 WHERE grantee <> proowner AND (grantee = 0 OR proname = ANY ('{{{triggers}}}'))
 UNION
SELECT grantee, format('%s on %I.%I', lower(privilege_type), '{schema}'::text, relname) FROM (
    SELECT relname, relowner, (aclexplode(relacl)).*
      FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
     WHERE nspname = '{schema}' AND relname = ANY ('{{{tables}}}')) t
 WHERE grantee <> relowner AND privilege_type NOT IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
 UNION
SELECT grantee, format('create in the schema %I', nspname) FROM (
    SELECT nspname, nspowner, (aclexplode(nspacl)).*
      FROM pg_namespace WHERE nspname = '{schema}') s
 WHERE grantee <> nspowner AND privilege_type = 'CREATE'
"""

#: Who may write to the log otherwise than by what ``_grants`` of capture.py prints.
_WRITERS = """
SELECT DISTINCT grantee, lower(privilege_type) FROM (
    SELECT c.oid, relowner, (aclexplode(relacl)).*
      FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
     WHERE nspname = '{schema}' AND relname = 'log') l
 WHERE grantee <> relowner
   AND (privilege_type = 'UPDATE' OR privilege_type = 'INSERT' AND NOT EXISTS (
        SELECT FROM pg_attribute, aclexplode(attacl) a WHERE attrelid = l.oid
                AND attname = 'xid' AND a.privilege_type = 'UPDATE' AND a.grantee = l.grantee))
   AND grantee NOT IN (SELECT proowner FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace
                        WHERE nspname = '{schema}' AND proname = 'capture_insert')
"""

#: The owners of functions that may not do what these do, and the log's owner.
_BROKEN = """
SELECT DISTINCT pg_get_userbyid(p.proowner)::text, pg_get_userbyid(c.relowner)::text
  FROM pg_namespace n
       JOIN pg_class c ON c.relnamespace = n.oid AND relname = 'log'
       JOIN pg_proc p ON p.pronamespace = n.oid AND p.proname = ANY ('{{{triggers}}}')
       JOIN pg_proc h ON h.pronamespace = n.oid AND h.proname = ANY ('{{{helpers}}}')
 WHERE nspname = '{schema}' AND p.prosecdef
   AND NOT (has_schema_privilege(p.proowner, n.oid, 'USAGE')
            AND has_table_privilege(p.proowner, c.oid, 'INSERT')
            AND has_table_privilege(p.proowner, c.oid, 'SELECT')
            AND has_function_privilege(p.proowner, h.oid, 'EXECUTE'))
"""

#: A table's owner and the one whose rights its triggers have, where these are two: a superuser's
#: rights, or those of somebody with a login. A role that is there for this lends nothing.
_LENT = """
SELECT c.oid::int8, pg_get_userbyid(c.relowner)::text, r.rolname::text, r.rolsuper
  FROM pg_class c, pg_proc p JOIN pg_namespace n ON n.oid = pronamespace
       JOIN pg_roles r ON r.oid = proowner
 WHERE c.oid = ANY (%s::oid[]) AND nspname = '{schema}' AND proname = 'capture_insert'
   AND NOT pg_has_role(c.relowner, r.oid, 'MEMBER') AND (rolsuper OR rolcanlogin)
"""

#: What lets somebody become the role {runner}, but for the role {keeper} and its members.
_OPEN = """
SELECT format('the role %1$I must not have %2$s, since it owns the functions: run ALTER ROLE'
              ' %1$I NO%2$s', rolname, attribute) AS sentence
  FROM pg_roles r, LATERAL (VALUES
       ('LOGIN', rolcanlogin), ('SUPERUSER', rolsuper), ('CREATEROLE', rolcreaterole),
       ('BYPASSRLS', rolbypassrls), ('REPLICATION', rolreplication)) a (attribute, has)
 WHERE r.oid = {runner} AND has
 UNION
SELECT format('%1$I must not be a member of %2$I, which owns the functions: run REVOKE %2$I'
              ' FROM %1$I', pg_get_userbyid(member), pg_get_userbyid(roleid))
  FROM pg_auth_members
 WHERE roleid = {runner} AND NOT pg_has_role(member, {keeper}, 'MEMBER')
"""

#: The same of the role that was made for the functions: rights.sql knows it by the same marks.
_RUNNER_OPEN = """
SELECT sentence FROM (
    SELECT DISTINCT proowner AS runner, nspowner AS keeper
      FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace
           JOIN pg_auth_members ON roleid = proowner AND member = nspowner
     WHERE nspname = '{schema}' AND proname = ANY ('{{{functions}}}')
       AND NOT pg_has_role(proowner, nspowner, 'MEMBER')) f, LATERAL ({open}) o
 ORDER BY 1
"""

_GUARD = """
DO $guard$
DECLARE
    strangers text := (SELECT string_agg(
        sentence || CASE WHEN kind IN ('trigger', 'code') THEN ': run ' || cure ELSE '' END, '; ')
        FROM ({strangers}) s);
BEGIN
    IF strangers IS NOT NULL THEN
        RAISE insufficient_privilege USING MESSAGE = strangers, HINT = '{hint}';
    END IF;
END
$guard$;"""

_ADVICE = (
    "Whoever made it would run code with your rights. Drop it, or, if you know its owner, install"
    " as that role or as a member of it"
)


class Rights:
    """The rights on one log."""

    def __init__(self, tables: Tables) -> None:
        self.schema = tables.schema
        names = [table.name for table in tables.metadata.sorted_tables]
        self._names = {
            "schema": self.schema,
            "tables": ",".join(names),
            "functions": ",".join(TRIGGERS + HELPERS + PUBLISHING),
            "triggers": ",".join(TRIGGERS),
            "helpers": ",".join(HELPERS),
            "publishing": ",".join(PUBLISHING),
            "defaults": ", ".join(_defaults(tables)),
        }

    def refuse_strangers(
        self, cursor: Any, installed: bool, captured: Sequence[Optional[int]]
    ) -> None:
        """Raise Denied where something in our place may be of somebody we do not trust.

        Who owns the tables that are ``captured``, too, may run code with our rights anyway,
        when we write to them. What belongs to somebody else in a log that is ``installed``
        was ours, and was given away: rights.sql takes it back.
        """
        strangers = self.strangers(cursor)
        for stranger in strangers:
            if stranger.owner is not None and stranger.kind == "schema":
                if not self._owned_by_schemas_owner(cursor, captured):
                    raise Denied(self._foreign(stranger.owner))
                strangers = self._strangers(cursor, _SCHEMA_OWNER.format(**self._names))
                break
        if installed:
            strangers = [stranger for stranger in strangers if stranger.runs]
        if strangers:
            raise Denied(f"{'; '.join(map(str, strangers))}. {_ADVICE}")

    def _owned_by_schemas_owner(self, cursor: Any, tables: Sequence[Optional[int]]) -> bool:
        """Tell whether these tables are those of the schema's owner; a superuser trusts nobody."""
        cursor.execute(
            "SELECT bool_and(pg_has_role(nspowner, relowner, 'MEMBER') AND NOT EXISTS ("
            "           SELECT FROM pg_roles WHERE rolname = current_user AND rolsuper))"
            "  FROM pg_namespace, pg_class c WHERE nspname = %s AND c.oid = ANY (%s::oid[])",
            (self.schema, list(tables)),
        )
        return bool(cursor.fetchone()[0])

    def _foreign(self, owner: str) -> str:
        return (
            f"the log {self.schema} belongs to {owner}, who would run code with your rights. Let"
            f" {owner} run what `pgevents sql URL TABLE --role …` prints for you, and use Hub(…,"
            f" install=False), or become a member of {owner}; if you do not know {owner}, drop"
            " the schema"
        )

    def guard_sql(self) -> str:
        """Return SQL that raises where ``refuse_strangers`` would."""
        strangers = _STRANGERS.format(judge=_ME, **self._names)
        return _GUARD.format(strangers=strangers, hint=_ADVICE).strip()

    def fresh_sql(self) -> str:
        """Return SQL that notes which tables and functions are not there yet: see rights.sql."""
        names = f"{self._names['tables']},{self._names['publishing']}"
        return (
            "DO $$ BEGIN PERFORM set_config('pgevents.fresh', ARRAY(SELECT t FROM unnest("
            f"'{{{names}}}'::text[]) t WHERE NOT EXISTS (SELECT FROM pg_namespace n"
            " JOIN (SELECT relnamespace, relname FROM pg_class UNION ALL"
            " SELECT pronamespace, proname FROM pg_proc) c ON n.oid = c.relnamespace"
            f" WHERE nspname = '{self.schema}' AND relname = t))::text, true); END $$;"
        )

    def sql(self, text: str, owner: Optional[str] = None) -> str:
        """Return what rights.sql says, for the functions to run with the rights of ``owner``."""
        for name in ("tables", "functions", "helpers", "publishing"):
            text = text.replace(f":{name}", f"{{{self._names[name]}}}")
        text = text.replace(":open", _OPEN.format(runner="runner", keeper="keeper").strip())
        return text.replace(":owner", "NULL::text" if owner is None else literal(owner))

    def runner(self, cursor: Any) -> Optional[str]:
        """Return the role with whose rights the functions run; None where there are none."""
        cursor.execute(
            "SELECT pg_get_userbyid(proowner)::text FROM pg_proc p JOIN pg_namespace n"
            " ON n.oid = pronamespace WHERE nspname = %s AND proname = 'capture_insert'",
            (self.schema,),
        )
        row = cursor.fetchone()
        return None if row is None else str(row[0])

    def may_heal(self, cursor: Any) -> bool:
        """Tell whether we may change the rights on what is ours."""
        cursor.execute(
            "SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = %s",
            (self.schema,),
        )
        row = cursor.fetchone()
        return row is not None and bool(row[0])

    def loose(self, cursor: Any) -> List[str]:
        """Tell who has rights that each install by the log's owner revokes, a sentence each."""
        cursor.execute(
            "SELECT CASE WHEN grantee = 0 THEN 'everybody' ELSE pg_get_userbyid(grantee)::text"
            f" END, what FROM ({_LOOSE.format(**self._names)}) l (grantee, what) ORDER BY 2, 1"
        )
        return [f"{role} may {what}" for role, what in cursor.fetchall()]

    def foreign(self, cursor: Any) -> List[str]:
        """Tell what installs refuse, or may not change, and the statement that helps."""
        found = [
            (
                str(stranger)
                if stranger.runs
                else f"{stranger}, not to the schema's owner: run {stranger.cure}"
            )
            for stranger in self._strangers(cursor, _SCHEMA_OWNER.format(**self._names))
        ]
        cursor.execute(
            _RUNNER_OPEN.format(
                open=_OPEN.format(runner="f.runner", keeper="f.keeper"), **self._names
            )
        )
        return found + [sentence for sentence, in cursor.fetchall()]

    def writers(self, cursor: Any) -> List[str]:
        """Tell who may write to the log without having it from us, a sentence each."""
        cursor.execute(
            "SELECT CASE WHEN grantee = 0 THEN 'everybody' ELSE pg_get_userbyid(grantee)::text"
            " END, CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE"
            " quote_ident(pg_get_userbyid(grantee)) END, what"
            f" FROM ({_WRITERS.format(**self._names)}) l (grantee, what) ORDER BY 1, 2"
        )
        return [
            f"{role} may {what} on {self.schema}.log, which `pgevents sql --role` has not granted,"
            f" and so may forge events: run REVOKE {what.upper()} ON {self.schema}.log FROM {name}"
            for role, name, what in cursor.fetchall()
        ]

    def broken(self, cursor: Any) -> List[str]:
        """Tell why each write to a captured table fails, if it does, a sentence each."""
        cursor.execute(_BROKEN.format(**self._names))
        return [
            f"the triggers run as {role}, who may not write to {self.schema}.log, which belongs to"
            f" {owner}: each write to a captured table fails. Let {owner} run GRANT SELECT, INSERT"
            f" ON {self.schema}.log TO {quoted(role)}, or give the tables back to {role}"
            for role, owner in cursor.fetchall()
        ]

    def lent(self, cursor: Any, oids: Sequence[Optional[int]]) -> Dict[int, str]:
        """Return of which tables the triggers have rights that their owners have not, and why."""
        cursor.execute(_LENT.format(**self._names), (list(oids),))
        return {
            oid: f"belongs to {owner}, and its triggers run with the rights of"
            f" {role}{', a superuser' if superuser else ''}. Install with owner=, a role that may"
            " write the log and nothing else, to lend nothing more"
            for oid, owner, role, superuser in cursor.fetchall()
        }

    def grants_sql(self, role: str) -> str:
        """Return what a hub of this role needs of the functions: a backfill calls them."""
        helpers = ", ".join(
            f"{self.schema}.{name}"
            for name in (
                "native(oid)",
                "columns(oid, json, json)",
                "careful(record)",
                "row_sql(oid, json, json)",
                "row_sql(oid, json)",
                "publish(text, json, text, json, text, float8, float8)",
                "publish_many(text[], text[], text[], text[], float8[], float8[])",
            )
        )
        return f"GRANT EXECUTE ON FUNCTION {helpers} TO {quoted(role)};"

    def strangers(self, cursor: Any) -> List[Stranger]:
        """Return what we do not trust in our place."""
        return self._strangers(cursor, _ME)

    def _strangers(self, cursor: Any, judge: str) -> List[Stranger]:
        cursor.execute(_STRANGERS.format(judge=judge, **self._names) + " ORDER BY 1, 2")
        return [Stranger(*row) for row in cursor.fetchall()]


def _defaults(tables: Tables) -> List[str]:
    """Return each default of our tables as a row of SQL."""
    rows = [
        (table.name, column.name, str(column.server_default.arg))
        for table in tables.metadata.sorted_tables
        for column in table.columns
        if isinstance(column.server_default, DefaultClause)
    ]
    return [f"({', '.join(map(literal, row))})" for row in rows]
