"""The numbers of the log's rows: they must not go back, since each cursor is one.

SQLite notes the last one in ``sqlite_sequence``. Fixtures and test suites empty that table; an
empty log would then begin at 1 again, and whoever has read up to 50 would miss the next fifty.
"""

import sqlite3
from typing import NamedTuple, Optional

from ..tables import Tables
from .connection import writing


class Numbers(NamedTuple):
    """How far the numbers of a log are."""

    noted: int  # the last one, as SQLite has it noted
    newest: int  # that of the newest row there is
    passed: int  # the highest cursor of a group

    @property
    def last(self) -> int:
        """The last one that was used, as far as SQLite knows."""
        return max(self.noted, self.newest)


def numbers(connection: sqlite3.Connection, tables: Tables) -> Numbers:
    """Return how far the numbers are."""
    log, groups = tables.name("log"), tables.name("groups")
    found = connection.execute(
        f"SELECT coalesce((SELECT max(seq) FROM sqlite_sequence WHERE name = '{log}'), 0),"
        f" coalesce((SELECT max(seq) FROM {log}), 0),"
        f" coalesce((SELECT max(CAST(cursor AS INTEGER)) FROM {groups}), 0)"
    ).fetchone()
    return Numbers(*found)


def heal(connection: sqlite3.Connection, tables: Tables, deadline: Optional[float] = None) -> None:
    """Let the numbers go on where they were, if somebody has set them back."""
    there = numbers(connection, tables)
    if there.noted < max(there.newest, there.passed):
        raise_to(connection, tables, 0, deadline)


def raise_to(
    connection: sqlite3.Connection,
    tables: Tables,
    number: int,
    deadline: Optional[float] = None,
) -> None:
    """Let the next number be a higher one than this, and than those used or passed.

    Raises Unavailable when others write until ``deadline``.
    """
    with writing(connection, deadline):
        there = numbers(connection, tables)
        wanted = max(there.last, there.passed, number)
        if there.noted >= wanted:
            return
        log = tables.name("log")
        connection.execute("DELETE FROM sqlite_sequence WHERE name = ?", (log,))
        connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (log, wanted))
