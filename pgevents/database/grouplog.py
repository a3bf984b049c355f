"""A log as groups read it: what a database must be able to do, so that the ledger can be kept."""

import contextlib
from typing import Any, Callable, ContextManager, List, NamedTuple, Optional, Tuple, TypeVar

from sqlalchemy.engine import Connection

from ..events.logrow import OPERATION, TOPIC, LogRow, with_parts

Result = TypeVar("Result")

LAST = 2**63 - 1  # the highest position that a log can have


class Captured(NamedTuple):
    """A table that is captured, and the columns of it that are."""

    relation: Any  # backend.Relation
    columns: List[str]


#: What the topics of a backfill of the group ``g`` begin with, in the SQL of both databases.
BACKFILL_SQL = """CASE WHEN replace(g.name, ':', '') = g.name THEN 'backfill:' || g.name || ':'
     ELSE 'backfill "' || replace(g.name, '"', '""') || '" ' END"""


def backfill_topic(name: str, topic: str) -> str:
    """Return the topic of rows that only one group is to read; it begins as BACKFILL_SQL says.

    A name with a colon is quoted: "a" and "a:b" must not share a topic.
    """
    if ":" not in name:
        return f"backfill:{name}:{topic}"
    quoted = name.replace('"', '""')
    return f'backfill "{quoted}" {topic}'


def backfill_topics(name: str, topics: List[str]) -> List[str]:
    """Return the topics of a group's backfill of these tables, also as release 0.1 wrote them."""
    return list(
        dict.fromkeys(
            one
            for topic in topics
            for one in (backfill_topic(name, topic), f"backfill:{name}:{topic}")
        )
    )


def plain_row(row: LogRow, name: str) -> LogRow:
    """Return a log row of a group with the table's own topic: undo ``backfill_topic``."""
    if row[OPERATION] != "read":
        return row
    for prefix in backfill_topics(name, [""]):
        if row[TOPIC].startswith(prefix):
            return with_parts(row, {TOPIC: row[TOPIC][len(prefix) :]})
    return row


class GroupLog:
    """A log as groups read it: implemented in each room."""

    #: SQL for the database's clock, in seconds since 1970.
    now: Any

    #: Whether a write is in the way of everybody else's: then groups write seldom.
    one_writer = False

    #: Whether a claim looks first, without a lock, whether there is anything to write.
    looks_first = False

    def place(self) -> Any:
        """Return what differs in a database that took this one's place; None: nothing is known."""

    def streams(self) -> "GroupLog":
        """Return the table of the streams' events, as groups read it; on the same pool."""
        raise NotImplementedError

    def transaction(self) -> ContextManager[Connection]:
        """Give a connection of the pool in a transaction that may write. Raises a DatabaseError."""
        raise NotImplementedError

    def write(self, write: Callable[[Connection], Result]) -> Result:
        """Call ``write(connection)`` in a transaction of its own, again if others are in the way.

        It writes to the database and nowhere else, and takes a moment.
        """
        with self.transaction() as connection:
            return write(connection)

    def reading(self) -> ContextManager[Connection]:
        """Give one in a transaction that only reads."""
        return self.transaction()

    def prepare_claim(self, connection: Connection) -> None:
        """Make a transaction ready for the statements of a claim."""

    def lent(self, connection: Connection) -> ContextManager[None]:
        """Within the block, let a listener have the connection as the application has its own."""
        return contextlib.nullcontext()

    def aborted(self, connection: Connection) -> bool:
        """Return whether a statement failed, and the transaction can only be rolled back."""
        return False

    def ended(self, connection: Connection) -> bool:
        """Return whether the database has ended the session, as far as we have noticed."""
        return bool(connection.closed or connection.invalidated)

    def encoding(self, connection: Connection) -> str:
        """Return Python's name of the encoding in which the database keeps text."""
        return "utf-8"

    def dispose(self, close: bool = True) -> None:
        """Give the pool's connections back; in a forked child, without closing them."""
        raise NotImplementedError

    def cursor(self, connection: Connection, start: str) -> str:
        """Return a cursor at "now" or at the "beginning" of what is kept."""
        raise NotImplementedError

    def backfill(
        self, connection: Connection, name: str, tables: List[Captured]
    ) -> Tuple[str, int]:
        """Write the rows that are there now into the log, for one group.

        Return the group's cursor, and how many rows there are. Behind the
        cursor come these rows first, then what was not committed when they
        were read: none is missing, and none comes twice.
        ``connection`` has just begun its transaction.
        """
        raise NotImplementedError

    def cursor_at(self, connection: Connection, seconds: float) -> str:
        """Return a cursor before the first row that was written at this time or later."""
        raise NotImplementedError

    def cursor_before(self, connection: Connection, position: int) -> str:
        """Return a cursor before the row with this number."""
        raise NotImplementedError

    def read(
        self, connection: Connection, cursor: str, topics: List[str], limit: int
    ) -> Tuple[List[LogRow], str]:
        """Return the next rows of these topics, and the cursor behind them."""
        raise NotImplementedError

    def cursor_within(self, before: str, behind: str, position: int) -> str:
        """Return the cursor behind one of the rows that ``read()`` has returned.

        ``before`` is the cursor that was read from, ``behind`` the one that came back.
        """
        raise NotImplementedError

    def rows(self, connection: Connection, positions: List[int]) -> List[LogRow]:
        """Return these rows of the log, in order; those that were cleaned away are missing."""
        raise NotImplementedError

    def missed(self, connection: Connection, cursor: str) -> Optional[str]:
        """Return a mark of the cleaning that took rows behind the cursor; None if none did."""
        raise NotImplementedError

    def lag(
        self, connection: Connection, cursor: str, topics: List[str], last: int
    ) -> Tuple[int, float]:
        """Return how many rows are behind the cursor, and how many seconds old the oldest is.

        Those after ``last`` do not count.
        """
        raise NotImplementedError

    def last(self, connection: Connection) -> int:
        """Return the number of the newest row that is committed, 0 in an empty log."""
        raise NotImplementedError

    def age(self, connection: Connection, position: int) -> float:
        """Return how many seconds old a row is, 0.0 if it was cleaned away."""
        raise NotImplementedError

    def alive(self, connection: Connection, owner: str) -> bool:
        """Return whether a lease's owner lives; True if that cannot be known."""
        raise NotImplementedError
