"""A table in PostgreSQL's catalog: where it is, its columns, its key."""

import difflib
from typing import Any, Dict, FrozenSet, Iterable, List, Mapping, NamedTuple, Optional, Tuple, Union

from ..database.relation import Relation
from ..database.there import Found, Note
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
#: tableoid (-6) knows who made it. Last, our triggers on it that note its truncation, and fire.
_PARTITIONS = """
(SELECT array_agg(ARRAY[tree.oid::text, n.nspname, p.relname, p.relkind::text,
                        (a.xmin <> tree.by)::text,
                        (SELECT string_agg(tgname, ',')
                           FROM pg_trigger JOIN ours ON ours.oid = tgfoid
                          WHERE tgrelid = tree.oid AND tgenabled IN ('O', 'A')
                            AND ours.proname = 'partition_truncated')])
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

#: Our triggers on a table: name, comment, and when they fire. "O": for everybody who writes. "A":
#: also for what replication applies. "D": not for everybody; disabled, for replication alone, or
#: on a partition, which has copies of them.
_TRIGGERS = """
(SELECT array_agg(ARRAY[tgname, description, CASE
            WHEN tgenabled IN ('D', 'R') OR c.relkind = 'p' AND EXISTS (
                WITH RECURSIVE copies (oid) AS (SELECT t.oid UNION
                    SELECT objid FROM copies JOIN pg_depend ON refobjid = copies.oid
                       AND refclassid = 'pg_trigger'::regclass AND classid = 'pg_trigger'::regclass)
                SELECT FROM copies JOIN pg_trigger USING (oid) WHERE tgenabled IN ('D', 'R'))
            THEN 'D' ELSE tgenabled::text END])
   FROM pg_trigger t JOIN ours ON ours.oid = tgfoid
        LEFT JOIN pg_description d ON d.objoid = t.oid AND objsubid = 0
               AND d.classoid = 'pg_trigger'::regclass
  WHERE tgrelid = c.oid AND tgparentid = 0 AND ours.proname <> 'partition_truncated')
"""

#: All at once. A target is a number and the names that it may mean, the first that is there.
#: "risky": whether a type of the table, or one that it is made of, is composite: its names, which
#: are not stored, may make a small array a gigabyte of JSON; or has a cast to json, which 0.1
#: called: it makes the same triggers of it, and would replace others.
_TABLES = f"""
WITH ours AS (
    SELECT p.oid, proname FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace
     WHERE nspname = %s AND (proname LIKE 'capture%%' OR proname = 'partition_truncated')
), asked AS (
    SELECT DISTINCT ON (number) number, to_regclass(name)::oid AS oid
      FROM unnest(%s::int[], %s::text[]) WITH ORDINALITY u (number, name, place)
     WHERE to_regclass(name) IS NOT NULL ORDER BY number, place
), wanted AS (
    SELECT oid, array_agg(number) AS numbers FROM (
        SELECT oid, number FROM asked
         UNION ALL
        -- Not a view that has taken the table's place.
        SELECT c.oid, NULL FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
         WHERE n.nspname || '.' || c.relname = ANY (%s::text[]) AND relkind IN ('r', 'p')
         UNION ALL
        SELECT tgrelid, NULL
          FROM ours JOIN pg_depend ON refclassid = 'pg_proc'::regclass AND refobjid = ours.oid
               AND classid = 'pg_trigger'::regclass
               JOIN pg_trigger t ON t.oid = objid
         WHERE %s AND tgparentid = 0 AND proname <> 'partition_truncated') w
     GROUP BY oid
)
SELECT numbers, c.oid::int8, n.nspname, c.relname, c.relkind::text,
       EXISTS (SELECT FROM pg_inherits WHERE inhrelid = c.oid), c.relpersistence::text,
       (SELECT array_agg(ARRAY[a.attname, a.atttypid::text] ORDER BY a.attnum) FROM pg_attribute a
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
       {_MARK}, {_ALTERED_BY}, {_PARTITIONS}, {_TRIGGERS}
  FROM wanted JOIN pg_class c USING (oid) JOIN pg_namespace n ON n.oid = c.relnamespace
 ORDER BY c.oid
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


class Catalog:
    """What one look into the catalog found.

    ``triggers``: schema and name → our own on the table; ``notes``: those on partitions.
    """

    def __init__(
        self,
        cursor: Any,
        schema: str,
        targets: Mapping[str, Target],
        topics: Iterable[str] = (),
        strays: bool = False,
    ) -> None:
        """Look for what these mean; with ``strays`` for each table with triggers of ours."""
        self.tables: Dict[str, Relation] = {}
        self.triggers: Dict[Tuple[str, str], Dict[str, Found]] = {}
        self.notes: Dict[Tuple[int, str], Note] = {}
        self.meant: Dict[str, Union[Relation, UsageError]] = {}
        keys = list(targets)
        ask_for_tables(cursor, schema, targets, topics, strays)
        for numbers_, *row in cursor.fetchall():
            asked = [keys[number] for number in numbers_ if number is not None]
            self._take(row, {key: targets[key] for key in asked})
        lost = [key for key in keys if key not in self.meant]
        nearest = _names(cursor) if lost else []
        for key in lost:
            hint = _nearest(nearest, targets[key])
            self.meant[key] = UsageError(f"there is no table {targets[key].key!r} here{hint}")

    def _take(self, row: List[Any], asked: Dict[str, Target]) -> None:
        kind, persistence, triggers = row[3], row[5], row.pop()
        if kind not in ("r", "p") or (persistence == "t" and asked):
            for key, target in asked.items():
                self.meant[key] = UsageError(_unfit(target, kind))
            return
        relation = _relation(row)
        self.meant.update(dict.fromkeys(asked, relation))
        self.triggers[relation.place] = {
            name: Found(comment, fires) for name, comment, fires in triggers or ()
        }
        # Of two tables with one topic, as names may hold dots, it is the one that is captured.
        other = self.tables.get(relation.topic)
        if other is None or (triggers and not self.triggers[other.place]):
            self.tables[relation.topic] = relation
        for oid, schema, name, *_, notes in row[-1] or ():
            for note in (notes or "").split(","):
                self.notes[int(oid), note] = Note(int(oid), note, quoted(schema, name))


def ask_for_tables(
    cursor: Any,
    schema: str,
    targets: Mapping[str, Target],
    topics: Iterable[str] = (),
    strays: bool = False,
) -> None:
    """Ask for what Catalog looks for: ``cursor`` may be one of Answers."""
    numbers: List[int] = []
    names: List[str] = []
    for number, target in enumerate(targets.values()):
        schemas = cursor.connection.schemas if target.schema is None else [target.schema]
        names += [quoted(schema, target.name) for schema in schemas]
        numbers += [number] * len(schemas)
    cursor.execute(_TABLES, (schema, numbers, names, sorted(topics), strays))


def _unfit(target: Target, kind: str) -> str:
    if kind in ("r", "p"):
        return f"{target.key!r} is a temporary table, which only one session sees"
    return f"{target.key!r} is {_KINDS.get(kind, 'no table')}: listen to the tables it is made of"


def quoted(*parts: str) -> str:
    """Return a name for SQL. psycopg2 would refuse what its codec does not know."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


def literal(text: str) -> str:
    """Return a text for SQL. json.dumps leaves no backslash that matters but is doubled by E''."""
    if "\\" in text:
        return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
    return "'" + text.replace("'", "''") + "'"


def _relation(row: List[Any]) -> Relation:
    oid, schema, name, kind, is_child, _, columns, key, risky, mark, altered_by, parts = row
    return Relation(
        schema,
        name,
        tuple(column for column, _ in columns or ()),
        tuple(key or ()),
        oid=oid,
        # A write through the parent runs no trigger of a child's but those for each row.
        by_row=kind == "p" or is_child,
        risky=risky,
        mark=mark,
        altered_by=altered_by,
        type_oids={column: int(number) for column, number in columns or ()},
        partitions={
            int(oid): Partition(schema, name, kind, attached == "true")
            for oid, schema, name, kind, attached, _ in parts or ()
        },
    )


def _names(cursor: Any) -> List[str]:
    """Return the names of all tables, as one would name them here."""
    cursor.execute(
        "SELECT CASE WHEN nspname = ANY (%s::name[]) THEN relname::text"
        " ELSE nspname || '.' || relname END"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE relkind IN ('r', 'p')"
        " AND nspname NOT IN ('pg_catalog', 'information_schema', 'pgevents')"
        " AND nspname NOT LIKE 'pg\\_t%%' ORDER BY 1",
        (list(cursor.connection.schemas),),
    )
    return [row[0] for row in cursor.fetchall()]


def _nearest(names: List[str], target: Target) -> str:
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


def learn_types(cursor: Any, relations: Iterable[Relation]) -> None:
    """Give each of these tables the types of its columns."""
    relations = list(relations)
    oids = {oid for relation in relations for oid in relation.more["type_oids"].values()}
    cursor.execute(_TYPES, (list(oids),))
    known = {row[0]: row for row in cursor.fetchall()}
    for relation in relations:
        relation.more["types"] = {
            name: _type(known, oid) for name, oid in relation.more["type_oids"].items()
        }


#: These types, and those that they are made of.
_TYPES = """
WITH RECURSIVE known (oid) AS (
    SELECT unnest(%s::oid[])
     UNION
    SELECT part.oid FROM known JOIN pg_type t USING (oid) LEFT JOIN pg_range ON rngtypid = t.oid,
           LATERAL (
        SELECT typbasetype UNION ALL SELECT rngsubtype UNION ALL
        SELECT typelem WHERE typcategory = 'A' UNION ALL
        SELECT atttypid FROM pg_attribute
         WHERE attrelid = typrelid AND attnum > 0 AND NOT attisdropped) part (oid)
)
SELECT t.oid::int8, typname, typtype::text, typbasetype::int8,
       CASE WHEN typcategory = 'A' THEN typelem ELSE 0 END::int8,
       coalesce(rngsubtype, 0)::int8, typdelim::text,
       ARRAY(SELECT attname::text FROM pg_attribute
              WHERE attrelid = typrelid AND attnum > 0 AND NOT attisdropped ORDER BY attnum),
       ARRAY(SELECT atttypid::int8 FROM pg_attribute
              WHERE attrelid = typrelid AND attnum > 0 AND NOT attisdropped ORDER BY attnum)
  FROM pg_type t LEFT JOIN pg_range ON rngtypid = t.oid
 WHERE t.oid IN (SELECT oid FROM known)
"""


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
