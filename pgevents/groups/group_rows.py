"""The table of groups: how each is defined, and its cursor."""

import json
from typing import Any, Callable, Dict, List, NamedTuple, Optional

from sqlalchemy import and_, bindparam, delete, insert, select, update
from sqlalchemy.engine import Connection

from ..database.grouplog import Captured, GroupLog
from ..errors import DatabaseError, UsageError
from ..events.logrow import LogRow
from ..tables import Tables
from .progress import Progress, backfilled


class GroupRow(NamedTuple):
    """What is written down of a group itself; ``definition`` and ``options`` are JSON."""

    definition: str
    cursor: str
    paused: bool
    backfill: Progress
    owner: Optional[str]
    options: Optional[str]


class NoGroup(UsageError):
    """There is no such group."""


class Superseded(Exception):
    """Another process has defined the group otherwise: how, and whether it is still there."""

    def __init__(self, definition: str, owner: Optional[str], alive: bool) -> None:
        super().__init__(definition, owner, alive)
        self.definition = definition
        self.owner = owner
        self.alive = alive


class GroupRows:
    """The rows of one log's groups.

    Methods that take no connection are transactions of their own. Those that look for a group
    that there is not raise NoGroup.
    """

    def __init__(self, tables: Tables, log: GroupLog) -> None:
        self._log = log
        self._groups = groups = tables.groups
        group: Any = bindparam("group")
        # The statements of a batch are made once: making them takes longer than running them.
        self._find = select(
            groups.c.definition,
            groups.c.cursor,
            groups.c.paused,
            groups.c.backfill,
            groups.c.owner,
            groups.c.options,
        ).where(groups.c.name == group)
        self._lock = self._find.with_for_update()
        self._move = (
            update(groups)
            .where(groups.c.name == group)
            .values(cursor=bindparam("behind"), owner=bindparam("by"))
        )

    # Definitions.

    def define(
        self,
        name: str,
        start: str,
        captured: Callable[[], List[Captured]],
        **definition: Optional[str],
    ) -> None:
        """Write a group down; one that is there keeps its cursor and gets the definition.

        A new one begins at ``start``: "now", the "beginning" of what is kept,
        or with a "backfill" of the ``captured()`` tables. ``definition``,
        ``options`` and ``owner`` are the columns of the group's row.
        """
        known = self.described(name)
        if known is None:
            try:
                self._create(name, start, captured, **definition)
                return
            except DatabaseError:
                if self.described(name) is None:  # else another process was faster
                    raise
        self._change(name, **definition)

    def succeed(self, name: str, former: Superseded, **definition: str) -> None:
        """Give a group another definition, unless somebody was faster."""
        groups = self._groups
        same = and_(
            groups.c.name == name,
            groups.c.definition == former.definition,
            groups.c.owner.is_(None) if former.owner is None else groups.c.owner == former.owner,
        )
        with self._log.transaction() as connection:
            connection.execute(update(groups).where(same).values(**definition))

    def resign(self, name: str, owner: str) -> None:
        """Leave it to others to define a group."""
        groups = self._groups
        mine = and_(groups.c.name == name, groups.c.owner == owner)
        with self._log.transaction() as connection:
            connection.execute(update(groups).where(mine).values(owner=None))

    def described(self, name: str) -> Optional[Dict[str, Any]]:
        """Return a group's row as a dict, without its name; None if there is none."""
        with self._log.reading() as connection:
            row = self.find(connection, name)
        if row is None:
            return None
        return {
            **row._asdict(),
            "definition": json.loads(row.definition),
            "options": json.loads(row.options or "{}"),
        }

    def names(self) -> List[str]:
        """Return the names of all groups."""
        with self._log.reading() as connection:
            found = connection.execute(select(self._groups.c.name).order_by(self._groups.c.name))
            return [row[0] for row in found]

    def pause(self, name: str, paused: bool) -> None:
        """Let nobody claim, or everybody again."""
        self._change(name, paused=paused)

    # In a transaction.

    def row(self, connection: Connection, name: str, lock: bool = False) -> GroupRow:
        """Return a group's row."""
        row = self.find(connection, name, lock)
        if row is None:
            raise NoGroup(f"there is no group {name!r}")
        return row

    def find(self, connection: Connection, name: str, lock: bool = False) -> Optional[GroupRow]:
        """Return a group's row, or None."""
        query = self._lock if lock else self._find
        row = connection.execute(query, {"group": name}).first()
        if row is None:
            return None
        known, cursor, paused, backfill, owner, options = row
        return GroupRow(known, cursor, bool(paused), Progress.parse(backfill), owner, options)

    def defined(
        self, connection: Connection, name: str, definition: str, lock: bool = False
    ) -> GroupRow:
        """Return the row of a group that is defined as we think. Raises Superseded."""
        row = self.row(connection, name, lock)
        if row.definition != definition:
            raise Superseded(row.definition, row.owner, self.lives(connection, row.owner))
        return row

    def set(self, connection: Connection, name: str, **values: Any) -> None:
        """Change columns of a group's row."""
        groups = self._groups
        found = connection.execute(update(groups).where(groups.c.name == name).values(**values))
        if not found.rowcount:
            raise NoGroup(f"there is no group {name!r}")

    def move(
        self,
        connection: Connection,
        name: str,
        row: GroupRow,
        rows: List[LogRow],
        behind: str,
        owner: str,
    ) -> Progress:
        """Move the cursor behind rows that are taken; return how far the backfill was."""
        read = backfilled(rows)
        if read:
            taken = row.backfill._replace(done=row.backfill.done + read)
            self.set(connection, name, backfill=taken.text())
        self.put_cursor(connection, name, behind, owner)
        return row.backfill if read else Progress()

    def put_cursor(self, connection: Connection, name: str, behind: str, owner: str) -> None:
        """Set the cursor, and who was the last to serve the group, if it is there."""
        connection.execute(self._move, {"group": name, "behind": behind, "by": owner})

    def delete(self, connection: Connection, name: str) -> None:
        """Delete a group's row."""
        found = connection.execute(delete(self._groups).where(self._groups.c.name == name))
        if not found.rowcount:
            raise NoGroup(f"there is no group {name!r}")

    def lives(self, connection: Connection, owner: Optional[str]) -> bool:
        """Tell whether a process that may be known by name is there."""
        return owner is not None and self._log.alive(connection, owner)

    # Inside.

    def _create(
        self,
        name: str,
        start: str,
        captured: Callable[[], List[Captured]],
        **definition: Optional[str],
    ) -> None:
        tables = captured() if start == "backfill" else []
        with self._log.transaction() as connection:
            progress = Progress()
            if start == "backfill":
                cursor, total = self._log.backfill(connection, name, tables)
                progress = Progress(0, total)
            else:
                cursor = self._log.cursor(connection, start)
            connection.execute(
                insert(self._groups).values(
                    name=name,
                    cursor=cursor,
                    paused=False,
                    backfill=progress.text(),
                    **definition,
                )
            )

    def _change(self, name: str, **values: Any) -> None:
        with self._log.transaction() as connection:
            self.set(connection, name, **values)
