"""A table in SQLite's schema: its columns, its key."""

import difflib
import sqlite3
from typing import Optional

from ..database.relation import Relation
from ..errors import UsageError
from ..listening.target import Target

SCHEMA = "main"


def quoted(name: str) -> str:
    """Quote a name for SQL."""
    return '"' + name.replace('"', '""') + '"'


def find(connection: sqlite3.Connection, target: Target) -> Relation:
    """Return the table a target means. Raises UsageError, with the nearest names."""
    if target.schema not in (None, SCHEMA):
        raise UsageError(
            f"{target.key!r}: an attached database is watched by a hub of its own,"
            " bound to its file"
        )
    row = connection.execute(
        "SELECT name, type, sql FROM sqlite_master WHERE type IN ('table', 'view')"
        " AND lower(name) = lower(?)",
        (target.name,),
    ).fetchone()
    if row is None:
        raise UsageError(f"there is no table {target.key!r} here{_nearest(connection, target)}")
    name, kind, definition = row
    if kind == "view":
        raise UsageError(f"{target.key!r} is a view: listen to the tables it is made of")
    if definition.upper().startswith("CREATE VIRTUAL"):
        raise UsageError(f"{target.key!r} is a virtual table, which cannot have triggers")
    return _relation(connection, name)


def find_topic(connection: sqlite3.Connection, topic: str) -> Optional[Relation]:
    """Return the table whose log rows bear this topic, if it still exists."""
    schema, _, name = topic.partition(".")
    row = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name = ?", (name,)
    ).fetchone()
    return None if row is None or schema != SCHEMA else _relation(connection, name)


def _relation(connection: sqlite3.Connection, name: str) -> Relation:
    # First: the columns may be newer than this, not older.
    mark = connection.execute(
        "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?", (name,)
    ).fetchone()
    # hidden: 1 are a virtual table's own, 2 and 3 are generated columns.
    rows = connection.execute(f"PRAGMA table_xinfo({quoted(name)})").fetchall()
    columns = tuple(row[1] for row in rows if row[6] != 1)
    key = tuple(row[1] for row in sorted(rows, key=lambda row: int(row[5])) if row[5])
    return Relation(SCHEMA, name, columns, key, mark=mark and mark[0])


def _nearest(connection: sqlite3.Connection, target: Target) -> str:
    names = [
        row[0]
        for row in connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%'"
            " ESCAPE '\\' AND name NOT LIKE 'pgevents\\_%' ESCAPE '\\' ORDER BY name"
        )
    ]
    near = difflib.get_close_matches(target.name, names, 3) or names[:10]
    return f"; there are {', '.join(near)}" if near else "; there are no tables"
