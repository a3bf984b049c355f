"""A table in PostgreSQL's catalog: where it is, its columns, its key."""

import difflib
from typing import Any, Dict, FrozenSet, List, NamedTuple, Optional, Tuple

from ..database.relation import Relation
from ..errors import UsageError
from ..listening.target import Target

#: A number that is another one when the columns of a table ``c``, their types or its key are.
_MARK = """
(SELECT hashtextextended(
            concat((SELECT concat(indkey, ' ', indnkeyatts) FROM pg_index
                     WHERE indrelid = c.oid AND indisprimary), ':',
                   string_agg(concat(attnum, ' ', quote_ident(attname), ' ', atttypid, ' ',
                                     atttypmod), ',' ORDER BY attnum)) COLLATE "C", 0)
   FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped)
"""

#: Topic and mark of each table with one of these topics. Every step is on an index: it is asked
#: for with each page of the log. A topic is a schema and a name, and both may contain dots.
#: OFFSET 0 keeps the planner from any other way than the indexes.
MARKS = f"""
SELECT t.topic, {_MARK} AS mark
  FROM (SELECT topic, string_to_array(topic, '.') AS words
          FROM unnest({{topics}}) topic OFFSET 0) t,
       generate_series(1, cardinality(t.words) - 1) k,
       LATERAL (SELECT c.oid FROM pg_class c
                 WHERE relname = array_to_string(t.words[k + 1:], '.')::name
                   AND relnamespace = (
                       SELECT n.oid FROM pg_namespace n
                        WHERE nspname = array_to_string(t.words[:k], '.')::name)
                   AND relkind IN ('r', 'p')
                OFFSET 0) c
"""

#: The transaction that was the last to alter a table's columns or key.
_ALTERED_BY = """
(SELECT xmin::text FROM (
    SELECT xmin FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 UNION ALL
    SELECT xmin FROM pg_index WHERE indrelid = c.oid AND indisprimary) x
  ORDER BY age(xmin) LIMIT 1)::int8
"""

#: Of a partitioned table: the partitions, also those of partitions, and whether a table was
#: made by one transaction and attached by another: then it may have had rows. Its column
#: tableoid (-6) knows who made it.
_PARTITIONS = """
(SELECT array_agg(ARRAY[tree.oid::text, n.nspname, p.relname, p.relkind::text,
                        (a.xmin <> tree.by)::text])
   FROM (WITH RECURSIVE tree (oid, by) AS (
             SELECT inhrelid, xmin FROM pg_inherits
              WHERE inhparent = c.oid AND c.relkind = 'p' UNION ALL
             SELECT i.inhrelid, i.xmin FROM tree JOIN pg_inherits i ON i.inhparent = tree.oid)
         SELECT * FROM tree) tree
   JOIN pg_class p USING (oid) JOIN pg_namespace n ON n.oid = p.relnamespace
   JOIN pg_attribute a ON attrelid = tree.oid AND attnum = -6)
"""

#: The first number that a type gets that is not PostgreSQL's own.
FIRST_OID = 16384

#: "risky": whether a type of the table, or one that it is made of, is composite: its names, which
#: are not stored, may make a small array a gigabyte of JSON; or has a cast to json, which 0.1
#: called: it makes the same triggers of it, and would replace others.
_RELATION = f"""
SELECT c.oid::int8, n.nspname, c.relname, c.relkind::text,
       EXISTS (SELECT FROM pg_inherits WHERE inhrelid = c.oid), c.relpersistence::text,
       (SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute a
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
       (SELECT array_agg(a.attname::text ORDER BY k.place)
          FROM pg_index i, unnest(i.indkey::int2[]) WITH ORDINALITY k (attnum, place),
               pg_attribute a
         WHERE i.indrelid = c.oid AND i.indisprimary AND k.place <= i.indnkeyatts
           AND a.attrelid = c.oid AND a.attnum = k.attnum),
       (WITH RECURSIVE types (oid) AS (
            SELECT atttypid FROM pg_attribute
             WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped
             UNION
            SELECT part.oid FROM types JOIN pg_type t USING (oid), LATERAL (
                SELECT t.typelem UNION ALL SELECT t.typbasetype UNION ALL
                SELECT atttypid FROM pg_attribute
                 WHERE attrelid = t.typrelid AND attnum > 0 AND NOT attisdropped) part (oid))
        SELECT EXISTS (SELECT FROM types JOIN pg_cast ON castsource = types.oid
                        WHERE casttarget = 'json'::regtype AND castfunc <> 0)
            OR EXISTS (SELECT FROM types JOIN pg_type USING (oid) WHERE typrelid <> 0)),
       {_MARK}, {_ALTERED_BY}, {_PARTITIONS}
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
"""

#: The first of several names that is there.
_FIRST = """
 WHERE c.oid = (SELECT to_regclass(name) FROM unnest(%s::text[]) WITH ORDINALITY n (name, place)
                 WHERE to_regclass(name) IS NOT NULL ORDER BY place LIMIT 1)
"""

_KINDS = {
    "v": "a view",
    "m": "a materialized view",
    "f": "a foreign table",
    "S": "a sequence",
    "i": "an index",
    "c": "a composite type",
}


class Partition(NamedTuple):
    """A partition of a table; ``attached`` if it was made by another transaction before."""

    schema: str
    name: str
    kind: str
    attached: bool

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


def find(cursor: Any, target: Target) -> Relation:
    """Return the table a target means: by the application's search_path, without a schema.

    Raises UsageError, with the nearest names, if there is no such table.
    """
    schemas = cursor.connection.schemas if target.schema is None else [target.schema]
    cursor.execute(_RELATION + _FIRST, ([quoted(schema, target.name) for schema in schemas],))
    row = cursor.fetchone()
    if row is None:
        raise UsageError(f"there is no table {target.key!r} here{_nearest(cursor, target)}")
    if row[3] not in ("r", "p"):
        kind = _KINDS.get(row[3], "no table")
        raise UsageError(f"{target.key!r} is {kind}: listen to the tables it is made of")
    if row[5] == "t":
        raise UsageError(f"{target.key!r} is a temporary table, which only one session sees")
    return _relation(row)


#: Whether the table c has a trigger of the log in a schema: one of a stranger's own does not count.
_IS_CAPTURED = """
EXISTS (SELECT FROM pg_trigger t JOIN pg_proc p ON p.oid = tgfoid
         WHERE tgrelid = c.oid AND tgparentid = 0 AND proname LIKE 'capture%%'
           AND p.pronamespace = to_regnamespace(%s))
"""


def find_topic(cursor: Any, topic: str, log: str) -> Optional[Relation]:
    """Return the table whose rows bear this topic in the log of a schema, if it still exists.

    Of two such tables, as names may hold dots, it is the one that is captured.
    """
    # A view may have taken the table's place.
    cursor.execute(
        _RELATION + " WHERE n.nspname || '.' || c.relname = %s AND c.relkind IN ('r', 'p')"
        f" ORDER BY {_IS_CAPTURED} DESC, c.oid LIMIT 1",
        (topic, log),
    )
    row = cursor.fetchone()
    return None if row is None else _relation(row)


def captured_as(cursor: Any, log: str, topic: Optional[str] = None) -> Dict[str, List[str]]:
    """Return topic → captured tables with dots in their names that bear it, of all or of one."""
    cursor.execute(
        "SELECT DISTINCT n.nspname || '.' || c.relname, n.nspname, c.relname FROM pg_proc p"
        # By an index, however many triggers of others there are.
        " JOIN pg_depend d ON refclassid = 'pg_proc'::regclass AND refobjid = p.oid"
        " AND classid = 'pg_trigger'::regclass"
        " JOIN pg_trigger t ON t.oid = objid JOIN pg_class c ON c.oid = t.tgrelid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE p.pronamespace = to_regnamespace(%s) AND proname LIKE 'capture%%'"
        " AND tgparentid = 0 AND concat(n.nspname, c.relname) LIKE '%%.%%'"
        " AND (%s::text IS NULL OR n.nspname || '.' || c.relname = %s) ORDER BY 1, 2",
        (log, topic, topic),
    )
    found: Dict[str, List[str]] = {}
    for name, *parts in cursor.fetchall():
        found.setdefault(name, []).append(quoted(*parts))
    return found


def quoted(*parts: str) -> str:
    """Return a name for SQL. psycopg2 would refuse what its codec does not know."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


def literal(text: str) -> str:
    """Return a text for SQL. json.dumps leaves no backslash that matters but is doubled by E''."""
    if "\\" in text:
        return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
    return "'" + text.replace("'", "''") + "'"


def _relation(row: Tuple[Any, ...]) -> Relation:
    oid, schema, name, kind, is_child, _, columns, key, risky, mark, altered_by, parts = row
    return Relation(
        schema,
        name,
        tuple(columns or ()),
        tuple(key or ()),
        oid=oid,
        # A write through the parent runs no trigger of a child's but those for each row.
        by_row=kind == "p" or is_child,
        risky=risky,
        mark=mark,
        altered_by=altered_by,
        partitions={
            int(oid): Partition(schema, name, kind, attached == "true")
            for oid, schema, name, kind, attached in parts or ()
        },
    )


def _nearest(cursor: Any, target: Target) -> str:
    cursor.execute(
        "SELECT CASE WHEN nspname = ANY (%s::name[]) THEN relname::text"
        " ELSE nspname || '.' || relname END"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE relkind IN ('r', 'p')"
        " AND nspname NOT IN ('pg_catalog', 'information_schema', 'pgevents')"
        " AND nspname NOT LIKE 'pg\\_t%%' ORDER BY 1",
        (list(cursor.connection.schemas),),
    )
    names = [row[0] for row in cursor.fetchall()]
    near = difflib.get_close_matches(target.key, names, 3) or names[:10]
    return f"; there are {', '.join(near)}" if near else "; there are no tables"


class Type:
    """A column's type, down to what matters for reading its values.

    ``name`` is the base type's (a domain's own base), ``oid`` its number;
    ``element`` is set for arrays, with the ``delimiter`` of their text;
    ``bounds`` for ranges; ``fields``, name → type in order, for composite types.
    """

    def __init__(
        self,
        oid: int,
        name: str,
        element: Optional["Type"] = None,
        bounds: Optional["Type"] = None,
        delimiter: str = ",",
        fields: Optional[Dict[str, "Type"]] = None,
    ) -> None:
        self.oid = oid
        self.name = name
        self.element = element
        self.bounds = bounds
        self.delimiter = delimiter
        self.fields = fields

    @property
    def builtin(self) -> bool:
        """Tell whether it is PostgreSQL's own: others stand in the log as text."""
        return self.oid < FIRST_OID

    @property
    def names(self) -> FrozenSet[str]:
        """Its name and those of what it is made of."""
        parts = [part for part in (self.element, self.bounds) if part is not None]
        parts += (self.fields or {}).values()
        return frozenset({self.name}.union(*(part.names for part in parts)))


def column_types(cursor: Any, relation: Relation) -> Dict[str, Type]:
    """Return each column's type."""
    cursor.execute(
        "SELECT attname, atttypid::int8 FROM pg_attribute"
        " WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        (relation.oid,),
    )
    columns = cursor.fetchall()
    known = _load(cursor, [oid for _, oid in columns])
    return {name: _type(known, oid) for name, oid in columns}


_TYPES = """
SELECT t.oid::int8, typname, typtype::text, typbasetype::int8,
       CASE WHEN typcategory = 'A' THEN typelem ELSE 0 END::int8,
       coalesce(rngsubtype, 0)::int8, typdelim::text,
       ARRAY(SELECT attname::text FROM pg_attribute
              WHERE attrelid = typrelid AND attnum > 0 AND NOT attisdropped ORDER BY attnum),
       ARRAY(SELECT atttypid::int8 FROM pg_attribute
              WHERE attrelid = typrelid AND attnum > 0 AND NOT attisdropped ORDER BY attnum)
  FROM pg_type t LEFT JOIN pg_range ON rngtypid = t.oid
 WHERE t.oid = ANY (%s::oid[])
"""


def _load(cursor: Any, oids: List[int]) -> Dict[int, Tuple[Any, ...]]:
    """Load these types and those they are made of."""
    known: Dict[int, Tuple[Any, ...]] = {}
    wanted = set(oids)
    while wanted:
        cursor.execute(_TYPES, (list(wanted),))
        for row in cursor.fetchall():
            known[row[0]] = row
        needed = {oid for row in known.values() for oid in (*row[3:6], *row[8]) if oid}
        wanted = needed - set(known)
    return known


def _type(known: Dict[int, Tuple[Any, ...]], oid: int) -> Type:
    _, name, kind, base, element, bounds, delimiter, names, oids = known[oid]
    if kind == "d":
        return _type(known, base)
    return Type(
        oid,
        name,
        _type(known, element) if element else None,
        _type(known, bounds) if bounds else None,
        # An array's own is that of its elements, and always the same.
        delimiter,
        {n: _type(known, o) for n, o in zip(names, oids)} if kind == "c" else None,
    )
