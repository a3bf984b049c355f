"""The names of our tables and indexes: what else bears them, and which indexes are not there."""

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from sqlalchemy import Index, Table
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2
from sqlalchemy.schema import CreateIndex

from ..errors import Denied
from ..tables import Tables

#: A table's name is a type's, too.
_BEARERS = """
SELECT c.relname::text, c.relkind::text,
       (SELECT concat(nspname, '.', relname)
          FROM pg_class t JOIN pg_namespace n ON n.oid = relnamespace WHERE t.oid = indrelid),
       indisvalid,
       ARRAY(SELECT attname::text FROM unnest(indkey::int2[]) WITH ORDINALITY k (num, place)
               JOIN pg_attribute ON attrelid = indrelid AND attnum = num ORDER BY place)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
       LEFT JOIN pg_index ON indexrelid = c.oid
 WHERE nspname = %s AND c.relname = ANY (%s)
 UNION ALL
SELECT typname::text, 'c', NULL, NULL, NULL
  FROM pg_type JOIN pg_namespace n ON n.oid = typnamespace
 WHERE nspname = %s AND typname = ANY (%s) AND typrelid = 0
"""

_KINDS = {
    "r": "a table",
    "p": "a partitioned table",
    "v": "a view",
    "m": "a materialized view",
    "f": "a foreign table",
    "S": "a sequence",
    "c": "a type",
}


class Bearer(NamedTuple):
    """Something that bears the name of a table or an index of ours."""

    name: str
    kind: str
    table: Optional[str]  # of an index
    valid: Optional[bool]
    columns: Optional[List[str]]

    def is_index(self, table: Table, index: Index) -> bool:
        """Tell whether it is this index of this table."""
        return (
            self.kind == "i"
            and self.table == table.fullname
            and self.columns == [column.name for column in index.columns]
        )

    def __str__(self) -> str:
        return _KINDS.get(self.kind) or f"an index on {self.table}"


class Places:
    """The places of one log's tables and indexes in its schema."""

    def __init__(self, tables: Tables) -> None:
        self._schema = tables.schema
        self._tables: Dict[str, Table] = {}
        self._indexes: Dict[str, Tuple[Table, Index]] = {}
        for table in tables.metadata.sorted_tables:
            self._tables[table.name] = table
            for index in tables.indexes(table):
                self._indexes[str(index.name)] = table, index

    def taken(self, cursor: Any) -> List[str]:
        """Name what is in the place of a table or an index of ours, and the statement that helps.

        IF NOT EXISTS makes nothing where anything has the name, whatever it is.
        """
        return [
            f"{self._schema}.{bearer.name} is {bearer}, so pgevents cannot make its"
            f" {'table' if bearer.name in self._tables else 'index'} of that name: run ALTER"
            f" {'TYPE' if bearer.kind == 'c' else 'TABLE'} {self._schema}.{bearer.name} RENAME TO"
            f" {bearer.name}_renamed"
            for bearer in self._bearers(cursor)
            if not self._is_ours(bearer)
        ]

    def refuse_taken(self, cursor: Any) -> None:
        """Raise Denied where something is in the place of a table or an index of ours."""
        taken = self.taken(cursor)
        if taken:
            raise Denied("; ".join(taken))

    def lacking(self, cursor: Any) -> List[str]:
        """Name each index that is not there or not valid, and the statement that helps.

        Making one keeps writers waiting, but for CONCURRENTLY: that is somebody's decision.
        """
        there = {bearer.name: bearer for bearer in self._bearers(cursor)}
        found = []
        for name, (table, index) in self._indexes.items():
            if table.name in there and name not in there:
                cure = _concurrently(index)
                found.append(f"the index {self._schema}.{name} is not there: run {cure}")
            elif (
                name in there and there[name].valid is False and there[name].is_index(table, index)
            ):
                cure = f"REINDEX INDEX CONCURRENTLY {self._schema}.{name}"
                found.append(f"the index {self._schema}.{name} is not valid: run {cure}")
        return found

    def _is_ours(self, bearer: Bearer) -> bool:
        if bearer.name in self._tables:
            return bearer.kind == "r"
        return bearer.is_index(*self._indexes[bearer.name])

    def _bearers(self, cursor: Any) -> List[Bearer]:
        names = [*self._tables, *self._indexes]
        cursor.execute(_BEARERS, (self._schema, names, self._schema, [*self._tables]))
        return [Bearer(*row) for row in cursor.fetchall()]


def _concurrently(index: Index) -> str:
    dialect = PGDialect_psycopg2()  # type: ignore[no-untyped-call]
    statement = str(CreateIndex(index).compile(dialect=dialect))
    return " ".join(statement.split()).replace("INDEX", "INDEX CONCURRENTLY", 1)
