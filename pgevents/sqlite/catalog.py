"""A table in SQLite's schema: its columns, its key."""

import difflib
from typing import Any, Dict, List, Optional, Set, Tuple, Union

from ..database.relation import Relation
from ..errors import UsageError
from ..listening.target import Target
from ..tables import Tables

SCHEMA = "main"


def quoted(name: str) -> str:
    """Quote a name for SQL."""
    return '"' + name.replace('"', '""') + '"'


#: All at once. Of a column: its name, table, type, and place in the key. hidden: 1 are a virtual
#: table's own, 2 and 3 are generated columns. Only its module knows a virtual table's columns,
#: and without that module the question fails.
_ALL = """
SELECT 'column', x.name, m.name, x.type, x.pk
  FROM (SELECT name FROM sqlite_master
         WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%') m,
       pragma_table_xinfo(m.name) x WHERE x.hidden <> 1
 UNION ALL
SELECT type, name, tbl_name, sql, 0 FROM sqlite_master
"""


class Schema:
    """What a file has, read at once.

    ``tables`` and ``views`` name → text, ``triggers`` name → (table, text), ``indexes`` names.
    """

    def __init__(self, connection: Any) -> None:
        self.tables: Dict[str, str] = {}
        self.views: Dict[str, str] = {}
        self.triggers: Dict[str, Tuple[str, str]] = {}
        self.indexes: Set[str] = set()
        self._columns: Dict[str, List[Tuple[str, str, int]]] = {}
        for kind, name, table, text, place in connection.execute(_ALL):
            if kind == "column":
                self._columns.setdefault(table, []).append((name, text, place))
            elif kind == "index":
                self.indexes.add(name)
            elif kind == "trigger":
                self.triggers[name] = table, text
            else:
                (self.tables if kind == "table" else self.views)[name] = text or ""
        self._names = {_folded(name): name for name in (*self.views, *self.tables)}

    def find(self, target: Target, ours: Tables) -> Union[Relation, UsageError]:
        """Return the table a target means, or an error with the nearest names."""
        name = self._names.get(_folded(target.name))
        if target.schema not in (None, SCHEMA):
            why = ": an attached database is watched by a hub of its own, bound to its file"
        elif name is None:
            return UsageError(f"there is no table {target.key!r} here{self._nearest(target)}")
        elif name in self.views:
            why = " is a view: listen to the tables it is made of"
        elif self.tables[name].upper().startswith("CREATE VIRTUAL"):
            why = " is a virtual table, which cannot have triggers"
        elif ours.owns(SCHEMA, name):
            why = " is a table of pgevents itself"
        else:
            return self._relation(name)
        return UsageError(f"{target.key!r}{why}")

    def find_topic(self, topic: str) -> Optional[Relation]:
        """Return the table whose log rows bear this topic, if it still exists."""
        schema, _, name = topic.partition(".")
        return self._relation(name) if schema == SCHEMA and name in self.tables else None

    def _relation(self, name: str) -> Relation:
        columns = self._columns.get(name, [])
        key = sorted((place, column) for column, _, place in columns if place)
        return Relation(
            SCHEMA,
            name,
            tuple(column for column, _, _ in columns),
            tuple(column for _, column in key),
            mark=self.tables[name],
            types={column: declared for column, declared, _ in columns},
        )

    def _nearest(self, target: Target) -> str:
        names = sorted(
            name for name in self.tables if not name.startswith(("sqlite_", "pgevents_"))
        )
        near = difflib.get_close_matches(target.name, names, 3) or names[:10]
        return f"; there are {', '.join(near)}" if near else "; there are no tables"


def _folded(name: str) -> str:
    """Return a name as SQLite compares it: only ASCII has an upper and a lower case."""
    return name.translate(_LOWER)


_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
