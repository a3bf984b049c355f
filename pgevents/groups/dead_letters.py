"""Dead letters: events that a group has given up."""

import datetime
import json
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence

from sqlalchemy import Table, and_, delete, func, insert, select
from sqlalchemy.engine import Connection

from ..database.grouplog import GroupLog
from ..events.entry import Entry
from ..events.logrow import AT, POSITION, with_parts
from ..tables import Tables
from .failure import Failure
from .group_rows import GroupRows
from .pages import pages


class DeadLetter(NamedTuple):
    """An event that a group has given up. ``at`` is when it did.

    Where the group keeps no rows the event has the columns of its key alone.
    """

    id: int
    event: Entry
    attempts: int
    error: str
    traceback: str
    at: datetime.datetime


class DeadLetters:
    """The table of dead letters.

    Methods that take no connection are transactions of their own. Those that take a group's
    name raise UsageError for an unknown one.
    """

    def __init__(
        self,
        tables: Tables,
        log: GroupLog,
        rows: Table,
        groups: GroupRows,
        put: Callable[[Connection, str, List[int]], None],
    ) -> None:
        self._log = log
        self._groups = groups
        self._put = put  # lets events be handled again, from their first attempt on
        self._dead = tables.dead
        self._rows = rows  # that the group reads: the log, or the events of streams

    def all(self, name: str, older_than: float = 0.0) -> List[Dict[str, Any]]:
        """Return what a group has given up so many seconds ago, or before, oldest first."""
        dead = self._dead
        columns = (dead.c.id, dead.c.seq, dead.c.event, dead.c.attempts, dead.c.error)
        with self._log.reading() as connection:
            self._groups.row(connection, name)
            found = connection.execute(
                select(*columns, dead.c.traceback, dead.c.at)
                .where(and_(dead.c.group_name == name, *self._older(older_than)))
                .order_by(dead.c.id)
            ).fetchall()
        names = ("id", "position", "event", "attempts", "error", "traceback", "at")
        return [dict(zip(names, row)) for row in found]

    def expire(self, seconds: float) -> int:
        """Delete all dead letters, of any group, that are as old; return how many."""
        with self._log.reading() as connection:
            found = connection.execute(select(self._dead.c.id).where(*self._older(seconds)))
            letters = [row[0] for row in found]
        return sum(self._discard(page) for page in pages(letters))

    def retry(self, name: str, ids: Optional[List[int]] = None) -> int:
        """Let dead letters be handled once more, all or these; return how many."""
        return sum(self._retry(name, page) for page in self._ids(name, ids))

    def discard(self, name: str, ids: Optional[List[int]] = None) -> int:
        """Delete dead letters, all or these; return how many."""
        return sum(self._discard(page) for page in self._ids(name, ids))

    def of(self, name: str, failures: Sequence[Failure]) -> Dict[int, int]:
        """Return the ids of the newest dead letters of these events, by their positions."""
        dead = self._dead
        seqs = [failure.row[POSITION] for failure in failures if failure.delay is None]
        with self._log.reading() as connection:
            found = connection.execute(
                select(dead.c.seq, func.max(dead.c.id))
                .where(and_(dead.c.group_name == name, dead.c.seq.in_(seqs)))
                .group_by(dead.c.seq)
            )
            return {seq: letter for seq, letter in found}

    # In a transaction.

    def write(self, connection: Connection, name: str, failure: Failure) -> int:
        """Write the dead letter of an event; return its id."""
        kept = failure.row if failure.kept is None else failure.kept
        encoding = self._log.encoding(connection)
        key: Any = connection.execute(
            insert(self._dead).values(
                group_name=name,
                seq=failure.row[POSITION],
                event=json.dumps(with_parts(kept, {AT: str(kept[AT])})),
                attempts=failure.attempt,
                error=_storable(failure.error, encoding),
                traceback=_storable(failure.traceback, encoding),
                at=self._log.now,
            )
        ).inserted_primary_key
        return int(key[0])

    def has(self, connection: Connection, name: str, position: int) -> bool:
        """Tell whether a group has given an event up."""
        dead = self._dead
        mine = and_(dead.c.group_name == name, dead.c.seq == position)
        return connection.execute(select(dead.c.id).where(mine)).first() is not None

    def delete(self, connection: Connection, name: str) -> None:
        """Delete all of a group."""
        connection.execute(delete(self._dead).where(self._dead.c.group_name == name))

    # Inside.

    def _older(self, seconds: float) -> List[Any]:
        return [self._dead.c.at <= self._log.now - seconds] if seconds else []

    def _ids(self, name: str, ids: Optional[List[int]]) -> Iterator[List[int]]:
        """Give the ids of a group's dead letters by the page, all or those that are in ``ids``."""
        dead = self._dead
        with self._log.reading() as connection:
            self._groups.row(connection, name)
            found = connection.execute(
                select(dead.c.id).where(dead.c.group_name == name).order_by(dead.c.id)
            )
            letters = [row[0] for row in found]
        if ids is not None:
            letters = sorted(set(letters).intersection(ids))
        return pages(letters)

    def _retry(self, name: str, letters: List[int]) -> int:
        dead, log = self._dead, self._rows
        with self._log.transaction() as connection:
            # Locked: somebody else may be about to do the same.
            found = connection.execute(
                select(dead.c.id, dead.c.seq)
                .where(dead.c.id.in_(letters))
                .order_by(dead.c.id)
                .with_for_update()
            ).fetchall()
            seqs = [seq for _, seq in found]
            kept = connection.execute(select(log.c.seq).where(log.c.seq.in_(seqs))).fetchall()
            there = {row[0] for row in kept}
            again = [(letter, seq) for letter, seq in found if seq in there]
            for _, seq in again:
                self._put(connection, name, [seq])
            connection.execute(delete(dead).where(dead.c.id.in_([letter for letter, _ in again])))
        return len(again)

    def _discard(self, letters: List[int]) -> int:
        with self._log.transaction() as connection:
            found = connection.execute(delete(self._dead).where(self._dead.c.id.in_(letters)))
            return found.rowcount


def _storable(text: str, encoding: str) -> str:
    """Return a text that the database takes: what it does not know is escaped."""
    known = text.encode(encoding, "backslashreplace").decode(encoding)
    return known.replace("\0", "\\x00")
