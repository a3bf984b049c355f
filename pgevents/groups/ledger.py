"""What is written down of the groups of one log: their cursors, leases and dead letters.

The same statements serve both databases; what a cursor is, only the rooms know.
All times are seconds by the database's clock, so a process with a wrong clock
takes nothing too early.

    groups         group_rows     how each group is defined, and its cursor
    leases         lease_rows     what is taken, and what waits for its time
    dead letters   dead_letters   what is given up

Here stands what changes several of them in one transaction; claims stand in ``claims``.
"""

from typing import Any, Callable, Dict, List, Optional, Set, Tuple

from sqlalchemy import Table, and_, func, not_, select
from sqlalchemy.engine import Connection

from ..database.grouplog import LAST, GroupLog
from ..errors import UsageError
from ..events.logrow import MESSAGE, POSITION, LogRow
from ..tables import Tables
from .claims import Claims, all_topics
from .dead_letters import DeadLetters
from .group_rows import GroupRows
from .lease_rows import LeaseRows
from .lost import Lost, require_place
from .pages import pages
from .progress import Progress
from .settlement import Settlement
from .standing import Standing
from .work import Work, named, names, positions


class Ledger:
    """The books of one log's groups. Each call is a transaction, unless it is given one."""

    def __init__(self, tables: Tables, log: GroupLog, rows: Optional[Table] = None) -> None:
        self._rows = tables.log if rows is None else rows  # that ``log`` reads
        self.log = log
        self.groups = GroupRows(tables, log)
        self.leases = LeaseRows(tables, log)
        self.dead = DeadLetters(tables, log, self._rows, self.groups, self.leases.put)
        self.claims = Claims(log, self.groups, self.leases)

    # Groups.

    def drop(self, name: str) -> None:
        """Forget a group with all it has. Raises UsageError for an unknown one."""
        with self.log.transaction() as connection:
            # The group first: a claim that is under way has it locked.
            self.groups.delete(connection, name)
            # Whoever retries dead letters has those locked, and writes leases.
            self.dead.delete(connection, name)
            self.leases.delete(connection, name)

    def rewind(self, name: str, to: Any) -> None:
        """Move the cursor: to "beginning", "now", a position (int) or a time (seconds, float).

        What was taken and not finished is forgotten: it lies behind the
        cursor, or was to be skipped.
        """
        with self.log.transaction() as connection:
            self.groups.row(connection, name, lock=True)  # wait for a claim that is under way
            if isinstance(to, str):
                cursor = self.log.cursor(connection, to)
            elif isinstance(to, int):
                cursor = self.log.cursor_before(connection, to)
            else:
                cursor = self.log.cursor_at(connection, to)
            self.leases.delete(connection, name)
            self.groups.set(connection, name, cursor=cursor, backfill=None)

    def progress(self, name: str) -> Progress:
        """Return how far the group's backfill is; what is taken and not finished is not done."""
        log = self._rows
        with self.log.reading() as connection:
            progress = self.groups.row(connection, name).backfill
            if not progress.total:
                return progress
            seqs = self.leases.taken(connection, name)
            done = progress.done
            for page in pages(seqs):
                done -= (
                    connection.execute(
                        select(func.count())
                        .select_from(log)
                        .where(
                            and_(
                                log.c.seq.in_(page),
                                log.c.operation == "read",
                                not_(log.c.topic.startswith(MESSAGE)),
                            )
                        )
                    ).scalar()
                    or 0
                )
            # What was put back by hand is counted no second time.
            return Progress(max(0, done), progress.total)

    def lag(self, name: str, topics: List[str], last: int = LAST) -> Tuple[int, float]:
        """Return how many events wait, those taken and not finished too, and the age of the first.

        Those after ``last`` do not count. The age is in seconds, 0.0 when nothing waits.
        """
        with self.log.reading() as connection:
            cursor = self.groups.row(connection, name).cursor
            waiting, age = self.log.lag(connection, cursor, all_topics(name, topics), last)
            seqs = [seq for seq in self.leases.taken(connection, name) if seq <= last]
            if seqs:
                age = max(age, self.log.age(connection, min(seqs)))
            return waiting + len(seqs), max(0.0, age)  # the clock may have been set back

    def waits(self, name: str, topics: List[str], position: int) -> bool:
        """Tell whether a group has not handled an event yet, which may not be committed, either.

        Raises UsageError where it has given the event up.
        """
        with self.log.reading() as connection:
            cursor = self.groups.row(connection, name).cursor
            if not self.log.rows(connection, [position]):
                return True
            if position in self.leases.taken(connection, name):
                return True
            if self.dead.has(connection, name, position):
                raise UsageError(
                    f"the group {name!r} has given up the event {position}: see its dead letters"
                )
            wanted = all_topics(name, topics)
            upto, before = (
                self.log.lag(connection, cursor, wanted, last)[0]
                for last in (position, position - 1)
            )
            return upto > before

    def last(self) -> int:
        """Return the number of the newest row of the log that is committed."""
        with self.log.reading() as connection:
            return self.log.last(connection)

    def missed(self, name: str) -> Optional[str]:
        """Return a mark of the cleaning that took what the group had not seen, or None."""
        with self.log.reading() as connection:
            return self.log.missed(connection, self.groups.row(connection, name).cursor)

    def owners(self, name: str) -> List[str]:
        """Return who has defined a group, and who holds its leases: those that live."""
        with self.log.reading() as connection:
            found = {self.groups.row(connection, name).owner}
            found.update(self.leases.owners(connection, name))
            return [owner for owner in found if owner and self.groups.lives(connection, owner)]

    # A lease that is held.

    def renew(
        self,
        name: str,
        work: Work,
        seconds: float,
        left: Optional[List[LogRow]] = None,
        attempt: int = 1,
        current: Callable[[], bool] = lambda: True,
    ) -> bool:
        """Keep a lease for ``seconds`` more; tell whether it was still ours.

        It names from now on only those rows of ``left`` that it still names: what ``settle``
        has written meanwhile stays. Without ``left`` the names stay as they are. ``attempt`` is
        that of the first row of ``left``; the others are at their first. Nothing is written if
        the lease is not ``current()`` any more when others have let us in.
        """

        def renew(connection: Connection) -> bool:
            if not current():
                return True
            if work.place != self.log.place():
                return False
            if left is None:
                return self.leases.renew(connection, work.lease, work.owner, seconds)
            return self._name_left(connection, name, work, seconds, left, attempt)

        return self.log.write(renew)

    def keep(self, works: List[Work], seconds: float) -> Set[int]:
        """Keep leases for ``seconds`` at least; return the numbers of those that are still ours."""

        def keep(connection: Connection) -> Set[int]:
            place = self.log.place()
            ours = [work for work in works if work.place == place]
            return self.leases.keep(connection, ours, seconds) if ours else set()

        return self.log.write(keep)

    def settle(
        self,
        name: str,
        work: Work,
        settlement: Settlement,
        connection: Optional[Connection] = None,
    ) -> Dict[int, int]:
        """Write a settlement down; return the dead letters: position of the event → id.

        Raises ``Lost``, and changes nothing, when the lease is not ours any more.
        """
        if connection is None:
            return self.log.write(lambda own: self.settle(name, work, settlement, own))
        require_place(work.place, self.log)
        rest, leases = settlement.rest, self.leases
        if settlement.keep:
            ours = leases.name_rest(connection, work, rest, settlement.attempt)
        else:
            ours = leases.end(connection, work.lease, work.owner)
        if not ours:
            raise Lost()
        if not work.named:
            self.groups.set(connection, name, cursor=work.behind)
        letters: Dict[int, int] = {}
        for failure in settlement.failures:
            if failure.delay is None:
                letters[failure.row[POSITION]] = self.dead.write(connection, name, failure)
                continue
            rows = [failure.row]
            if settlement.together:
                # The rest stands in the same row, so that nothing passes the one that failed.
                rows, rest = [*rows, *rest], []
            again = settlement.together and work.again
            leases.put(connection, name, positions(rows), failure.attempt + 1, failure.delay, again)
        if rest and not settlement.keep:
            leases.put(connection, name, positions(rest), settlement.attempt, again=work.again)
        return letters

    def settled(self, name: str, work: Work, settlement: Settlement) -> Optional[Dict[int, int]]:
        """Return what ``settle`` returned, whose answer was lost; None if it was not committed.

        Raises ``Lost``.
        """
        with self.log.reading() as connection:
            require_place(work.place, self.log)
            seqs = self.leases.names_of(connection, work.lease)
        there = names(positions(settlement.rest), work.open) if settlement.keep else None
        return self.dead.of(name, settlement.failures) if seqs == there else None

    def end(self, name: str, standing: Standing) -> None:
        """Acknowledge what was handled, and give the lease back. Raises ``Lost``."""

        def end(connection: Connection) -> None:
            require_place(standing.place, self.log)
            if not self.leases.end(connection, standing.lease, standing.owner):
                raise Lost()
            self.groups.put_cursor(connection, name, standing.cursor, standing.owner)

        self.log.write(end)

    # Inside.

    def _name_left(
        self,
        connection: Connection,
        name: str,
        work: Work,
        seconds: float,
        left: List[LogRow],
        attempt: int,
    ) -> bool:
        """Renew a lease, and let it name only what is left of what it names."""
        seqs = self.leases.names_of(connection, work.lease, work.owner)
        if seqs is None:
            return False
        known, first = set(named(seqs)[0]), left[0]
        if work.named or not known.isdisjoint(positions(work.rows)):
            left = [row for row in left if row[POSITION] in known]
        else:  # it names what came before these, which is acknowledged by this
            self.groups.set(connection, name, cursor=work.behind)
        if not left:
            return self.leases.renew(connection, work.lease, work.owner, seconds)
        return self.leases.renew(
            connection,
            work.lease,
            work.owner,
            seconds,
            seqs=names(positions(left), work.open),
            attempt=attempt if left[0] is first else 1,
        )
