"""Claims: how a process takes what is due, or the next events behind a group's cursor."""

from typing import List, NamedTuple, Optional, Tuple

from sqlalchemy.engine import Connection

from ..database.grouplog import GroupLog, backfill_topics
from ..events.logrow import LogRow
from .group_rows import GroupRow, GroupRows
from .lease_rows import LeaseRows
from .lost import Lost, require_place
from .options import Options
from .progress import Progress, backfilled
from .standing import FOLLOWED, Standing
from .work import Work, named, names, positions


class Claim(NamedTuple):
    """What asking for work came to.

    ``held`` is the seconds until something that others hold, or that waits for
    its time, may be due; None if there is nothing. ``backfill`` is known only
    when the log was read.
    """

    work: Optional[Work]
    held: Optional[float]
    backfill: Optional[Progress] = None


class Claims:
    """Takes events of the groups of one log for a process."""

    def __init__(self, log: GroupLog, groups: GroupRows, leases: LeaseRows) -> None:
        self._log = log
        self._groups = groups
        self._leases = leases

    def claim(
        self,
        name: str,
        definition: str,
        owner: str,
        topics: List[str],
        options: Options,
        standing_by: bool = False,
    ) -> Claim:
        """Take what is due, or else the next batch.

        With ``standing_by``, and where a write is in everybody's way, it looks
        first without locking anything: a lock is a write. Raises ``Superseded``
        when another process has defined the group otherwise.
        """
        if standing_by or self._log.looks_first:
            nothing = self._look(name, definition, owner, topics, options, owner)
            if nothing is not None:
                return nothing
        return self._log.write(
            lambda connection: self._claim(
                connection, name, definition, owner, topics, options, owner
            )
        )

    def claim_each(
        self, name: str, definition: str, owner: str, topics: List[str], options: Options
    ) -> Tuple[List[Work], Optional[float]]:
        """Take what is due, or else the next batch, with a lease for each event.

        Return the leases, and ``held`` as of a ``Claim``. Whoever asks may hold others.
        """
        nobody = ""  # whose leases nobody has taken

        def claim(connection: Connection) -> Tuple[List[Work], Optional[float]]:
            found = self._claim(connection, name, definition, owner, topics, options, nobody)
            if found.work is None:
                return [], found.held
            return self._split(connection, name, found.work, options), found.held

        if self._log.one_writer:
            nothing = self._look(name, definition, owner, topics, options, nobody)
            if nothing is not None:
                return [], nothing.held
        return self._log.write(claim)

    def follow(
        self, name: str, definition: str, standing: Standing, topics: List[str], options: Options
    ) -> Tuple[Claim, bool]:
        """Take what comes behind a lease that is kept; tell whether it has to be ended now.

        Raises ``Lost`` when it is not ours any more.
        """
        with self._log.reading() as connection:
            row = self._groups.find(connection, name)
            require_place(standing.place, self._log)
            if not self._leases.is_ours(connection, name, standing.lease, standing.owner):
                raise Lost()
            if row is None or not self._may_follow(connection, name, definition, row):
                return Claim(None, None), True
            room = standing.room
            rows, behind = self._log.read(
                connection,
                standing.cursor,
                all_topics(name, topics),
                min(options.batch_size, room or options.batch_size),
            )
        if not rows:
            return Claim(None, None), standing.over
        standing.follows()
        known = bool(room) and not backfilled(rows)
        work = Work(
            standing.lease, standing.owner, rows, 1, False, behind, not known, True, standing.place
        )
        if known:
            return Claim(work, None), False
        return self._log.write(lambda own: self._name(own, name, row, work, options)), False

    def _claim(
        self,
        connection: Connection,
        name: str,
        definition: str,
        owner: str,
        topics: List[str],
        options: Options,
        asker: str,
    ) -> Claim:
        """Take what is due, or else the next batch, and write that down.

        ``asker`` holds nothing: what is written as his was taken in a claim without an answer.
        """
        self._log.prepare_claim(connection)
        row = self._groups.defined(connection, name, definition, lock=True)
        # The lock first, then a new statement: another may have claimed meanwhile.
        held = self._leases.held(connection, name, asker)
        if row.paused:
            return Claim(None, held)
        if held == 0.0:
            work = self._take_due(connection, name, row, owner, topics, options, asker)
            if work is not None:
                return Claim(work, held)
        if options.ordered and held is not None:
            return Claim(None, held)
        rows, behind = self._log.read(
            connection, row.cursor, all_topics(name, topics), options.batch_size
        )
        if not rows:
            if behind != row.cursor:
                self._groups.set(connection, name, cursor=behind)
            if row.owner != owner and not self._groups.lives(connection, row.owner):
                self._groups.set(connection, name, owner=owner)
            return Claim(None, held, Progress())
        lease = self._leases.begin(connection, name, positions(rows), owner, options.lease)
        progress = self._groups.move(connection, name, row, rows, behind, owner)
        work = Work(lease, owner, rows, 1, False, behind, place=self._log.place())
        return Claim(work, held, progress)

    def _look(
        self,
        name: str,
        definition: str,
        owner: str,
        topics: List[str],
        options: Options,
        asker: str,
    ) -> Optional[Claim]:
        """Return what a claim comes to that has nothing to write; None where it may have."""
        with self._log.reading() as connection:
            self._log.prepare_claim(connection)
            row = self._groups.defined(connection, name, definition)
            held = self._leases.held(connection, name, asker)
            if row.paused or options.ordered and held:
                return Claim(None, held)
            if not self._log.looks_first or held == 0.0 and self._any_due(connection, name, asker):
                return None
            if options.ordered and held is not None:
                return Claim(None, held)
            rows, behind = self._log.read(connection, row.cursor, all_topics(name, topics), 1)
            if rows or behind != row.cursor:
                return None
            if row.owner != owner and not self._groups.lives(connection, row.owner):
                return None
            return Claim(None, held, Progress())

    def _any_due(self, connection: Connection, name: str, owner: str) -> bool:
        """Tell whether ``_take_due`` would write anything."""
        return any(
            over or set_back or former == owner or not self._log.alive(connection, former)
            for _, _, _, _, former, over, set_back in self._leases.ripe(connection, name, owner)
        )

    def _take_due(
        self,
        connection: Connection,
        name: str,
        row: GroupRow,
        owner: str,
        topics: List[str],
        options: Options,
        asker: str,
    ) -> Optional[Work]:
        """Take over a lease whose time is over, or whose owner is dead."""
        leases = self._leases
        for lease, seqs, attempt, again, former, over, set_back in leases.ripe(
            connection, name, asker
        ):
            if not over and former != asker and self._log.alive(connection, former):
                if set_back:
                    # It renews it at once if it can; else its time begins now.
                    leases.renew(connection, lease, None, options.lease)
                continue
            numbers, is_open = named(seqs)
            if former == asker:  # nobody died
                again = True
            elif former is not None:
                # Who had it died of its first event, perhaps, if that was the only
                # one or they were handled one at a time; else nobody knows of which.
                only = len(numbers) == 1 and not is_open
                attempt += int(again or attempt > 1 or only)
                again = True
            found = self._log.rows(connection, numbers)
            if is_open:
                more, behind = self._what_follows(connection, name, row.cursor, topics)
                self._groups.move(connection, name, row, more, behind, owner)
                found += more
            leases.renew(
                connection,
                lease,
                None,
                options.lease,
                owner=owner,
                attempt=attempt,
                again=again,
                seqs=names(positions(found)) or seqs,
            )
            return Work(lease, owner, found, attempt, again or attempt > 1, place=self._log.place())
        return None

    def _split(self, connection: Connection, name: str, work: Work, options: Options) -> List[Work]:
        """Put a lease for each of its events in the place of a lease."""
        self._leases.end(connection, work.lease, work.owner)
        each = [
            work._replace(rows=[row], attempt=work.attempt if row is work.rows[0] else 1)
            for row in work.rows
        ]
        ids = self._leases.begin_each(connection, name, each, options.lease)
        return [one._replace(lease=id) for one, id in zip(each, ids)]

    def _may_follow(
        self, connection: Connection, name: str, definition: str, row: GroupRow
    ) -> bool:
        """Tell whether the only lease of a group may go on with what comes behind it."""
        if row.definition != definition or row.paused:
            return False
        # What somebody has put back comes first.
        return self._leases.number(connection, name) == 1

    def _name(
        self, connection: Connection, name: str, row: GroupRow, work: Work, options: Options
    ) -> Claim:
        """Let a lease that is kept name what comes next: that acknowledges what came before."""
        # Nobody but its owner moves the cursor: what was read before the lock is what comes next.
        if not self._leases.name_next(connection, work, options.lease):
            raise Lost()
        assert work.behind is not None
        progress = self._groups.move(connection, name, row, work.rows, work.behind, work.owner)
        return Claim(work, None, progress)

    def _what_follows(
        self, connection: Connection, name: str, cursor: str, topics: List[str]
    ) -> Tuple[List[LogRow], str]:
        """Return what the owner of an open lease may have handled besides what it names."""
        rows: List[LogRow] = []
        while len(rows) < FOLLOWED:
            page, behind = self._log.read(
                connection, cursor, all_topics(name, topics), FOLLOWED - len(rows)
            )
            if not page:
                break
            rows, cursor = rows + page, behind
        return rows, cursor


def all_topics(name: str, topics: List[str]) -> List[str]:
    """Return the topics that a group reads: its tables', and those of its backfill."""
    return [*topics, *backfill_topics(name, topics)]
