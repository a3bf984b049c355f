"""What is written down of groups: their cursors, leases and dead letters.

The same statements serve both databases; what a cursor is, only the rooms know.
All times are seconds by the database's clock, so a process with a wrong clock
takes nothing too early.
"""

import json
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

from sqlalchemy import (
    Float,
    Table,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    literal_column,
    or_,
    select,
    union_all,
    update,
)
from sqlalchemy.engine import Connection

from ..database.grouplog import LAST, Captured, GroupLog, backfill_topics
from ..errors import DatabaseError, UsageError
from ..events.event import LogRow
from ..tables import Tables
from .standing import FOLLOWED, Standing

OWNER_SILENT = 1.0  # seconds without a renewal after which an owner may be asked for dead
PAGE = 500  # rows that a statement names one by one
RIPE = 20  # leases that may be taken over, of which a claim looks at so many
RENEWAL = 0.5  # seconds between two renewals; an owner that lives is never silent for so long


class Progress(NamedTuple):
    """How far a backfill is: how many of its rows are done. Without one, ``total`` is 0."""

    done: int = 0
    total: int = 0


class GroupRow(NamedTuple):
    """What is written down of a group itself; ``definition`` and ``options`` are JSON."""

    definition: str
    cursor: str
    paused: bool
    backfill: Progress
    owner: Optional[str]
    options: Optional[str]


class Work(NamedTuple):
    """What a process has taken: the lease, and its events' rows.

    ``attempt`` is that of the first row; ``again`` tells that somebody may
    have seen them before. ``behind`` is the cursor behind them, where it is
    known. ``named``: the lease names them; ``open``: and what follows.
    """

    lease: int
    owner: str
    rows: List[LogRow]
    attempt: int
    again: bool
    behind: Optional[str] = None
    named: bool = True
    open: bool = False
    place: Any = None  # the database that the lease is in


class Claim(NamedTuple):
    """What asking for work came to.

    ``held`` is the seconds until something that others hold, or that waits for
    its time, may be due; None if there is nothing. ``backfill`` is known only
    when the log was read.
    """

    work: Optional[Work]
    held: Optional[float]
    backfill: Optional[Progress] = None


class Failure(NamedTuple):
    """An event that is given up (``delay`` is None) or waits to be tried again."""

    row: LogRow
    attempt: int  # that failed
    error: str
    traceback: str
    delay: Optional[float]
    cause: BaseException
    kept: Optional[LogRow] = None  # by the dead letter, if not the whole row


class Superseded(Exception):
    """Another process has defined the group otherwise: how, and whether it is still there."""

    def __init__(self, definition: str, owner: Optional[str], alive: bool) -> None:
        super().__init__(definition, owner, alive)
        self.definition = definition
        self.owner = owner
        self.alive = alive


class NoGroup(UsageError):
    """There is no such group."""


class Lost(Exception):
    """Somebody else has the lease: what we did with it does not count."""


class Ledger:
    """The rows of one log's groups. Each call is a transaction, unless it is given one."""

    def __init__(self, tables: Tables, log: GroupLog) -> None:
        self.transaction = log.transaction
        self.aborted = log.aborted
        self.lent = log.lent
        self.one_writer = log.one_writer
        self.place = log.place
        self._reading = log.reading
        self._write = log.write
        self.ended = log.ended
        self._groups = tables.groups
        self._leases = tables.leases
        self._dead = tables.dead
        self._rows = tables.log
        self._log = log
        self._now = log.now
        self._prepare(tables.groups, tables.leases)

    def _prepare(self, groups: Table, leases: Table) -> None:
        """Make the statements of a batch once: making them takes longer than running them."""
        now = self._now
        group: Any = bindparam("group")
        columns = (
            groups.c.definition,
            groups.c.cursor,
            groups.c.paused,
            groups.c.backfill,
            groups.c.owner,
            groups.c.options,
        )
        self._find_group = select(*columns).where(groups.c.name == group)
        self._lock_group = self._find_group.with_for_update()
        self._move_group = (
            update(groups)
            .where(groups.c.name == group)
            .values(cursor=bindparam("behind"), owner=bindparam("by"))
        )
        # As a subquery it is one value, which an index can be asked for. In words: SQLAlchemy
        # 1.4.0 fails where one without a FROM stands inside another.
        clock: Any = literal_column(f"(SELECT {now.name})", Float)
        mine = leases.c.group_name == group
        owned, waits = leases.c.owner.isnot(None), leases.c.owner.is_(None)
        # A time that no clock could have written but one that was set back since.
        later = leases.c.renewed > clock + OWNER_SILENT
        # Not renewed < …: that is true of all who wait, and has an index.
        silent = and_(owned, leases.c.renewed + OWNER_SILENT < clock)
        # Of who asks, who holds nothing: the answer to its claim was lost, perhaps.
        own = leases.c.owner == bindparam("by")
        over = leases.c.due <= clock
        earliest = select(func.min(leases.c.due)).where(mine).scalar_subquery()
        self._find_held = select(
            case(
                (or_(*(exists().where(and_(mine, ripe)) for ripe in (later, silent, own))), 0.0),
                else_=earliest - clock,
            )
        )
        ripe = [
            select(leases.c.id)
            .where(and_(mine, over))
            .order_by(leases.c.due, leases.c.id)
            .limit(RIPE),
            select(leases.c.id).where(and_(mine, later)).order_by(leases.c.renewed).limit(RIPE),
            select(leases.c.id).where(and_(mine, owned, or_(silent, own))),
        ]
        found = union_all(*(select(one.subquery().c.id) for one in ripe)).subquery()
        self._find_ripe = (
            select(
                leases.c.id,
                leases.c.seqs,
                leases.c.attempt,
                leases.c.again,
                leases.c.owner,
                or_(over, and_(waits, later)),
                later,
            )
            .where(leases.c.id.in_(select(found.c.id)))
            .order_by(leases.c.due, leases.c.id)
            .with_for_update(skip_locked=True)
        )
        self._begin_lease = insert(leases).values(
            group_name=group,
            seqs=bindparam("numbers"),
            attempt=1,
            owner=bindparam("by"),
            renewed=now,
            due=now + bindparam("lease", type_=Float),
        )
        ours = and_(leases.c.id == bindparam("ours"), leases.c.owner == bindparam("by"))
        self._name_next = (
            update(leases)
            .where(ours)
            .values(
                seqs=bindparam("numbers"), renewed=now, due=now + bindparam("lease", type_=Float)
            )
        )
        self._end_lease = delete(leases).where(
            and_(leases.c.id == bindparam("lease"), leases.c.owner == bindparam("by"))
        )

    # Groups.

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
        known = self.group(name)
        if known is None:
            try:
                self._create(name, start, captured, **definition)
                return
            except DatabaseError:
                if self.group(name) is None:  # else another process was faster
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
        with self.transaction() as connection:
            connection.execute(update(groups).where(same).values(**definition))

    def resign(self, name: str, owner: str) -> None:
        """Have no say about a group any more."""
        groups = self._groups
        mine = and_(groups.c.name == name, groups.c.owner == owner)
        with self.transaction() as connection:
            connection.execute(update(groups).where(mine).values(owner=None))

    def _create(
        self,
        name: str,
        start: str,
        captured: Callable[[], List[Captured]],
        **definition: Optional[str],
    ) -> None:
        tables = captured() if start == "backfill" else []
        with self.transaction() as connection:
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
                    backfill=_progress_text(progress),
                    **definition,
                )
            )

    def group(self, name: str) -> Optional[Dict[str, Any]]:
        """Return a group's row as a dict, without its name; None if there is none."""
        with self._reading() as connection:
            row = self._find(connection, name)
        if row is None:
            return None
        return {
            **row._asdict(),
            "definition": json.loads(row.definition),
            "options": json.loads(row.options or "{}"),
        }

    def names(self) -> List[str]:
        """Return the names of all groups."""
        with self._reading() as connection:
            found = connection.execute(select(self._groups.c.name).order_by(self._groups.c.name))
            return [row[0] for row in found]

    def pause(self, name: str, paused: bool) -> None:
        """Let nobody claim, or everybody again. Raises UsageError for an unknown group."""
        self._change(name, paused=paused)

    def drop(self, name: str) -> None:
        """Forget a group with all it has. Raises UsageError for an unknown one."""
        with self.transaction() as connection:
            # The group first: a claim that is under way has it locked.
            found = connection.execute(delete(self._groups).where(self._groups.c.name == name))
            if not found.rowcount:
                raise NoGroup(f"there is no group {name!r}")
            # Whoever retries dead letters has those locked, and writes leases.
            for table in (self._dead, self._leases):
                connection.execute(delete(table).where(table.c.group_name == name))

    def rewind(self, name: str, to: Any) -> None:
        """Move the cursor: to "beginning", "now", a position (int) or a time (seconds, float).

        What was taken and not finished is forgotten: it lies behind the
        cursor, or was to be skipped.
        """
        with self.transaction() as connection:
            self._row(connection, name, lock=True)  # wait for a claim that is under way
            if isinstance(to, str):
                cursor = self._log.cursor(connection, to)
            elif isinstance(to, int):
                cursor = self._log.cursor_before(connection, to)
            else:
                cursor = self._log.cursor_at(connection, to)
            leases = self._leases
            connection.execute(delete(leases).where(leases.c.group_name == name))
            self._set(connection, name, cursor=cursor, backfill=None)

    def progress(self, name: str) -> Progress:
        """Return how far the group's backfill is; what is taken and not finished is not done."""
        log = self._rows
        with self._reading() as connection:
            progress = self._row(connection, name).backfill
            if not progress.total:
                return progress
            seqs = self._taken(connection, name)
            done = progress.done
            for page in _pages(seqs):
                done -= (
                    connection.execute(
                        select(func.count())
                        .select_from(log)
                        .where(and_(log.c.seq.in_(page), log.c.operation == "read"))
                    ).scalar()
                    or 0
                )
            # What was put back by hand is counted no second time.
            return Progress(max(0, done), progress.total)

    def lag(self, name: str, topics: List[str], last: int = LAST) -> Tuple[int, float]:
        """Return how many events wait, those taken and not finished too, and the age of the first.

        Those after ``last`` do not count. The age is in seconds, 0.0 when nothing waits.
        """
        with self._reading() as connection:
            cursor = self._row(connection, name).cursor
            topics = _all_topics(name, topics)
            waiting, age = self._log.lag(connection, cursor, topics, last)
            seqs = [seq for seq in self._taken(connection, name) if seq <= last]
            if seqs:
                age = max(age, self._log.age(connection, min(seqs)))
            return waiting + len(seqs), max(0.0, age)  # the clock may have been set back

    def last(self) -> int:
        """Return the number of the newest row of the log that is committed."""
        with self._reading() as connection:
            return self._log.last(connection)

    def missed(self, name: str) -> Optional[str]:
        """Return a mark of the cleaning that took what the group had not seen, or None."""
        with self._reading() as connection:
            return self._log.missed(connection, self._row(connection, name).cursor)

    # Leases.

    def claim(
        self,
        name: str,
        definition: str,
        owner: str,
        topics: List[str],
        options: Any,
        standing_by: bool = False,
    ) -> Claim:
        """Take what is due, or else the next batch.

        With ``standing_by``, and where a write is in everybody's way, it looks
        first without locking anything: a lock is a write. Raises ``Superseded``
        when another process has defined the group otherwise.
        """
        if standing_by or self.one_writer:
            nothing = self._look(name, definition, owner, topics, options)
            if nothing is not None:
                return nothing
        return self._write(
            lambda connection: self._claim(connection, name, definition, owner, topics, options)
        )

    def follow(
        self, name: str, definition: str, standing: Standing, topics: List[str], options: Any
    ) -> Tuple[Claim, bool]:
        """Take what comes behind a lease that is kept; tell whether it has to be ended now.

        Raises ``Lost`` when it is not ours any more.
        """
        with self._reading() as connection:
            row = self._find(connection, name)
            self._require_place(standing)
            if not self._stands(connection, name, standing):
                raise Lost()
            if row is None or not self._may_follow(connection, name, definition, row):
                return Claim(None, None), True
            room = standing.room
            rows, behind = self._log.read(
                connection,
                standing.cursor,
                _all_topics(name, topics),
                min(options.batch_size, room or options.batch_size),
            )
        if not rows:
            return Claim(None, None), standing.over
        standing.follows()
        known = bool(room) and not _backfilled(rows)
        work = Work(
            standing.lease, standing.owner, rows, 1, False, behind, not known, True, standing.place
        )
        if known:
            return Claim(work, None), False
        return self._write(lambda own: self._name(own, name, row, work, options)), False

    def end(self, name: str, standing: Standing) -> None:
        """Acknowledge what was handled, and give the lease back. Raises ``Lost``."""

        def end(connection: Connection) -> None:
            self._require_place(standing)
            ours = {"lease": standing.lease, "by": standing.owner}
            if not connection.execute(self._end_lease, ours).rowcount:
                raise Lost()
            moved = {"group": name, "behind": standing.cursor, "by": standing.owner}
            connection.execute(self._move_group, moved)

        self._write(end)

    def owners(self, name: str) -> List[str]:
        """Return who has the say about a group, and who holds its leases: those that live."""
        leases = self._leases
        holders = select(leases.c.owner).where(leases.c.group_name == name)
        with self._reading() as connection:
            found = {self._row(connection, name).owner}
            found.update(row[0] for row in connection.execute(holders))
            return [owner for owner in found if owner and self._lives(connection, owner)]

    def renew(
        self,
        name: str,
        work: Work,
        seconds: float,
        finished: int = 0,
        current: Callable[[], bool] = lambda: True,
    ) -> bool:
        """Keep a lease for ``seconds`` more; tell whether it was still ours.

        Of its rows, the first ones that are ``finished`` need not be handled again. What
        ``settle`` has written meanwhile stays: a row that is not named any more is not named again.
        Nothing is written if it is not ``current()`` any more, once others wait for us.
        """

        def renew(connection: Connection) -> bool:
            if not current():
                return True
            if work.place != self.place():
                return False
            if work.named and not finished:
                return self._renew(connection, self._ours(work), seconds)
            return self._name_left(connection, name, work, seconds, finished)

        return self._write(renew)

    def _name_left(
        self, connection: Connection, name: str, work: Work, seconds: float, finished: int
    ) -> bool:
        """Renew a lease, and let it name only what is not finished of what it names."""
        ours = self._ours(work)
        # Locked: a transaction that is about to commit may have written how far it is.
        seqs = connection.execute(
            select(self._leases.c.seqs).where(ours).with_for_update()
        ).scalar()
        if seqs is None:
            return False
        names = set(_numbers(seqs)[0])
        left = work.rows[min(finished, len(work.rows) - 1) :]
        if work.named or not names.isdisjoint(_seqs(work.rows)):
            left = [row for row in left if row[0] in names]
        else:  # it names what came before these, which is acknowledged by this
            self._set(connection, name, cursor=work.behind)
        return self._renew(connection, ours, seconds, seqs=_left(left, work.open) if left else seqs)

    def settle(
        self,
        name: str,
        work: Work,
        rest: List[LogRow],
        failures: List[Failure],
        ordered: bool,
        keep: bool = False,
        rest_attempt: int = 1,
        connection: Optional[Connection] = None,
    ) -> Dict[int, int]:
        """Write down how far a lease is: ``rest`` is left, what failed waits for its time.

        With ``keep`` the lease goes on with the rest, else anybody may take
        it. In an ordered group an event that is tried again is the first of
        what is left, in the same row, so that nothing passes it. Returns the
        position of each event that is given up, with its dead letter's id. Raises
        ``Lost``, and changes nothing, when the lease is not ours any more.
        """
        if connection is None:
            return self._write(
                lambda own: self.settle(
                    name, work, rest, failures, ordered, keep, rest_attempt, own
                )
            )
        self._require_place(work)
        letters: Dict[int, int] = {}
        if keep:
            found = connection.execute(
                update(self._leases)
                .where(self._ours(work))
                .values(seqs=_left(rest, work.open), attempt=rest_attempt, again=work.again)
            )
        else:
            found = connection.execute(self._end_lease, {"lease": work.lease, "by": work.owner})
        if not found.rowcount:
            raise Lost()
        if not work.named:
            self._set(connection, name, cursor=work.behind)
        for failure in failures:
            if failure.delay is None:
                letters[failure.row[0]] = self._bury(connection, name, failure)
            elif ordered:
                self._put(
                    connection,
                    name,
                    _seqs([failure.row, *rest]),
                    failure.attempt + 1,
                    failure.delay,
                    work.again,
                )
                return letters
            else:
                self._put(
                    connection, name, _seqs([failure.row]), failure.attempt + 1, failure.delay
                )
        if rest and not keep:
            self._put(connection, name, _seqs(rest), rest_attempt, 0.0, work.again)
        return letters

    def settled(self, work: Work, rest: List[LogRow], keep: bool) -> bool:
        """Tell whether ``settle`` was committed, whose answer was lost. Raises ``Lost``."""
        leases = self._leases
        with self._reading() as connection:
            self._require_place(work)
            # Locked: its transaction may still be about to end, without us.
            seqs = connection.execute(
                select(leases.c.seqs).where(leases.c.id == work.lease).with_for_update()
            ).scalar()
        return seqs == _left(rest, work.open) if keep else seqs is None

    def letters(self, name: str, failures: List[Failure]) -> Dict[int, int]:
        """Return the ids of dead letters, by the positions of their events."""
        dead = self._dead
        seqs = [failure.row[0] for failure in failures if failure.delay is None]
        with self._reading() as connection:
            found = connection.execute(
                select(dead.c.seq, func.max(dead.c.id))
                .where(and_(dead.c.group_name == name, dead.c.seq.in_(seqs)))
                .group_by(dead.c.seq)
            )
            return {seq: letter for seq, letter in found}

    # Dead letters.

    def dead_letters(self, name: str, older_than: float = 0.0) -> List[Dict[str, Any]]:
        """Return what a group has given up so many seconds ago, or before, oldest first.

        Raises UsageError for an unknown one.
        """
        dead = self._dead
        columns = (dead.c.id, dead.c.seq, dead.c.event, dead.c.attempts, dead.c.error)
        with self._reading() as connection:
            self._row(connection, name)
            found = connection.execute(
                select(*columns, dead.c.traceback, dead.c.at)
                .where(and_(dead.c.group_name == name, *self._older(older_than)))
                .order_by(dead.c.id)
            ).fetchall()
        names = ("id", "position", "event", "attempts", "error", "traceback", "at")
        return [dict(zip(names, row)) for row in found]

    def expire_dead(self, seconds: float) -> int:
        """Forget all dead letters, of any group, that are as old; return how many."""
        with self._reading() as connection:
            found = connection.execute(select(self._dead.c.id).where(*self._older(seconds)))
            letters = [row[0] for row in found]
        return sum(self._discard(page) for page in _pages(letters))

    def _older(self, seconds: float) -> List[Any]:
        return [self._dead.c.at <= self._now - seconds] if seconds else []

    def retry_dead(self, name: str, ids: Optional[List[int]] = None) -> int:
        """Let dead letters be handled once more, all or these; return how many.

        Raises UsageError for an unknown group.
        """
        return sum(self._retry(name, page) for page in self._letters(name, ids))

    def discard_dead(self, name: str, ids: Optional[List[int]] = None) -> int:
        """Forget dead letters, all or these; return how many.

        Raises UsageError for an unknown group.
        """
        return sum(self._discard(page) for page in self._letters(name, ids))

    # Inside.

    def _letters(self, name: str, ids: Optional[List[int]]) -> Iterator[List[int]]:
        """Give the ids of a group's dead letters by the page, all or those that are in ``ids``."""
        dead = self._dead
        with self._reading() as connection:
            self._row(connection, name)
            found = connection.execute(
                select(dead.c.id).where(dead.c.group_name == name).order_by(dead.c.id)
            )
            letters = [row[0] for row in found]
        if ids is not None:
            letters = sorted(set(letters).intersection(ids))
        return _pages(letters)

    def _retry(self, name: str, letters: List[int]) -> int:
        dead, log = self._dead, self._rows
        with self.transaction() as connection:
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
                self._put(connection, name, [seq], 1, 0.0)
            connection.execute(delete(dead).where(dead.c.id.in_([letter for letter, _ in again])))
        return len(again)

    def _discard(self, letters: List[int]) -> int:
        with self.transaction() as connection:
            found = connection.execute(delete(self._dead).where(self._dead.c.id.in_(letters)))
            return found.rowcount

    def _taken(self, connection: Connection, name: str) -> List[int]:
        """Return the positions of what is taken and not finished, or waits for its time."""
        leases = self._leases
        found = connection.execute(select(leases.c.seqs).where(leases.c.group_name == name))
        return [seq for row in found for seq in _numbers(row[0])[0]]

    def _claim(
        self,
        connection: Connection,
        name: str,
        definition: str,
        owner: str,
        topics: List[str],
        options: Any,
    ) -> Claim:
        """Take what is due, or else the next batch, and write that down."""
        self._log.prepare_claim(connection)
        row = self._defined(connection, name, definition, lock=True)
        # The lock first, then a new statement: another may have claimed meanwhile.
        held = self._held(connection, name, owner)
        if row.paused:
            return Claim(None, held)
        if held == 0.0:
            work = self._take_due(connection, name, row, owner, topics, options)
            if work is not None:
                return Claim(work, held)
        if options.ordered and held is not None:
            return Claim(None, held)
        rows, behind = self._log.read(
            connection, row.cursor, _all_topics(name, topics), options.batch_size
        )
        if not rows:
            if behind != row.cursor:
                self._set(connection, name, cursor=behind)
            if row.owner != owner and not self._lives(connection, row.owner):
                self._set(connection, name, owner=owner)
            return Claim(None, held, Progress())
        numbers = _text(_seqs(rows))
        given = {"group": name, "numbers": numbers, "by": owner, "lease": options.lease}
        key: Any = connection.execute(self._begin_lease, given).inserted_primary_key
        progress = self._move(connection, name, row, rows, behind, owner)
        work = Work(int(key[0]), owner, rows, 1, False, behind, place=self.place())
        return Claim(work, held, progress)

    def _look(
        self, name: str, definition: str, owner: str, topics: List[str], options: Any
    ) -> Optional[Claim]:
        """Return what a claim comes to that has nothing to write; None where it may have."""
        with self._reading() as connection:
            self._log.prepare_claim(connection)
            row = self._defined(connection, name, definition)
            held = self._held(connection, name, owner)
            if row.paused or options.ordered and held:
                return Claim(None, held)
            if not self.one_writer or held == 0.0 and self._any_due(connection, name, owner):
                return None
            if options.ordered and held is not None:
                return Claim(None, held)
            rows, behind = self._log.read(connection, row.cursor, _all_topics(name, topics), 1)
            if rows or behind != row.cursor:
                return None
            if row.owner != owner and not self._lives(connection, row.owner):
                return None
            return Claim(None, held, Progress())

    def _any_due(self, connection: Connection, name: str, owner: str) -> bool:
        """Tell whether ``_take_due`` would write anything."""
        found = connection.execute(self._find_ripe, {"group": name, "by": owner}).fetchall()
        return any(
            over or set_back or former == owner or not self._log.alive(connection, former)
            for _, _, _, _, former, over, set_back in found
        )

    def _move(
        self,
        connection: Connection,
        name: str,
        row: GroupRow,
        rows: List[LogRow],
        behind: str,
        owner: str,
    ) -> Progress:
        """Move the cursor behind rows that are taken; return how far the backfill was."""
        read = _backfilled(rows)
        if read:
            taken = row.backfill._replace(done=row.backfill.done + read)
            self._set(connection, name, backfill=_progress_text(taken))
        connection.execute(self._move_group, {"group": name, "behind": behind, "by": owner})
        return row.backfill if read else Progress()

    def _stands(self, connection: Connection, name: str, standing: Standing) -> bool:
        """Tell whether a lease is still ours."""
        leases = self._leases
        found = connection.execute(
            select(leases.c.id).where(and_(leases.c.group_name == name, self._ours(standing)))
        )
        return found.first() is not None

    def _may_follow(
        self, connection: Connection, name: str, definition: str, row: GroupRow
    ) -> bool:
        """Tell whether the only lease of a group may go on with what comes behind it."""
        if row.definition != definition or row.paused:
            return False
        # What somebody has put back comes first.
        leases = self._leases
        count = select(func.count()).select_from(leases).where(leases.c.group_name == name)
        return connection.execute(count).scalar() == 1

    def _name(
        self, connection: Connection, name: str, row: GroupRow, work: Work, options: Any
    ) -> Claim:
        """Let a lease that is kept name what comes next: that acknowledges what came before."""
        # Nobody but its owner moves the cursor: what was read before the lock is what comes next.
        found = connection.execute(
            self._name_next,
            {
                "ours": work.lease,
                "by": work.owner,
                "numbers": _left(work.rows, True),
                "lease": options.lease,
            },
        )
        if not found.rowcount:
            raise Lost()
        assert work.behind is not None
        progress = self._move(connection, name, row, work.rows, work.behind, work.owner)
        return Claim(work, None, progress)

    def _what_follows(
        self, connection: Connection, name: str, cursor: str, topics: List[str]
    ) -> Tuple[List[LogRow], str]:
        """Return what the owner of an open lease may have handled besides what it names."""
        rows: List[LogRow] = []
        while len(rows) < FOLLOWED:
            page, behind = self._log.read(
                connection, cursor, _all_topics(name, topics), FOLLOWED - len(rows)
            )
            if not page:
                break
            rows, cursor = rows + page, behind
        return rows, cursor

    def _require_place(self, work: Any) -> None:
        """Raise ``Lost`` if a lease is of another database than there is now."""
        # Its number may be that of somebody else's lease there, or of one that was ours.
        if work.place != self.place():
            raise Lost()

    def _ours(self, work: Any) -> Any:
        """Return a condition for the lease of a ``Work`` or a ``Standing``, while it is ours."""
        leases = self._leases
        return and_(leases.c.id == work.lease, leases.c.owner == work.owner)

    def _take_due(
        self,
        connection: Connection,
        name: str,
        row: GroupRow,
        owner: str,
        topics: List[str],
        options: Any,
    ) -> Optional[Work]:
        """Take over a lease whose time is over, or whose owner is dead."""
        leases = self._leases
        rows = connection.execute(self._find_ripe, {"group": name, "by": owner}).fetchall()
        for lease, seqs, attempt, again, former, over, set_back in rows:
            if not over and former != owner and self._log.alive(connection, former):
                if set_back:
                    # It renews it at once if it can; else its time begins now.
                    self._renew(connection, leases.c.id == lease, options.lease)
                continue
            numbers, is_open = _numbers(seqs)
            if former == owner:  # nobody died
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
                self._move(connection, name, row, more, behind, owner)
                found += more
            self._renew(
                connection,
                leases.c.id == lease,
                options.lease,
                owner=owner,
                attempt=attempt,
                again=again,
                seqs=_text(_seqs(found)) or seqs,
            )
            return Work(lease, owner, found, attempt, again or attempt > 1, place=self.place())
        return None

    def _renew(self, connection: Connection, which: Any, seconds: float, **values: Any) -> bool:
        values.update(renewed=self._now, due=self._now + seconds)
        found = connection.execute(update(self._leases).where(which).values(**values))
        return bool(found.rowcount)

    def _held(self, connection: Connection, name: str, owner: str) -> Optional[float]:
        """Return in how many seconds something may be taken over, or None if nothing is held.

        0.0 is now: it is due, or its owner may be dead.
        """
        found = connection.execute(self._find_held, {"group": name, "by": owner}).scalar()
        return None if found is None else max(0.0, float(found))

    def _defined(
        self, connection: Connection, name: str, definition: str, lock: bool = False
    ) -> GroupRow:
        """Return the row of a group that is defined as we think."""
        row = self._row(connection, name, lock)
        if row.definition != definition:
            raise Superseded(row.definition, row.owner, self._lives(connection, row.owner))
        return row

    def _lives(self, connection: Connection, owner: Optional[str]) -> bool:
        return owner is not None and self._log.alive(connection, owner)

    def _put(
        self,
        connection: Connection,
        name: str,
        seqs: List[int],
        attempt: int,
        delay: float,
        again: bool = False,
    ) -> None:
        """Leave events to whoever comes first after ``delay`` seconds."""
        connection.execute(
            insert(self._leases).values(
                group_name=name,
                seqs=_text(seqs),
                attempt=attempt,
                again=again,
                renewed=self._now,
                # At once is at once by any clock, even by one that is set back.
                due=self._now + delay if delay else 0.0,
            )
        )

    def _bury(self, connection: Connection, name: str, failure: Failure) -> int:
        kept = failure.row if failure.kept is None else failure.kept
        row = [str(part) if index == 2 else part for index, part in enumerate(kept)]
        encoding = self._log.encoding(connection)
        key: Any = connection.execute(
            insert(self._dead).values(
                group_name=name,
                seq=failure.row[0],
                event=json.dumps(row),
                attempts=failure.attempt,
                error=_storable(failure.error, encoding),
                traceback=_storable(failure.traceback, encoding),
                at=self._now,
            )
        ).inserted_primary_key
        return int(key[0])

    def _row(self, connection: Connection, name: str, lock: bool = False) -> GroupRow:
        row = self._find(connection, name, lock)
        if row is None:
            raise NoGroup(f"there is no group {name!r}")
        return row

    def _find(self, connection: Connection, name: str, lock: bool = False) -> Optional[GroupRow]:
        query = self._lock_group if lock else self._find_group
        row = connection.execute(query, {"group": name}).first()
        if row is None:
            return None
        known, cursor, paused, backfill, owner, options = row
        progress = Progress() if backfill is None else Progress(**json.loads(backfill))
        return GroupRow(known, cursor, bool(paused), progress, owner, options)

    def _change(self, name: str, **values: Any) -> None:
        with self.transaction() as connection:
            self._set(connection, name, **values)

    def _set(self, connection: Connection, name: str, **values: Any) -> None:
        groups = self._groups
        found = connection.execute(update(groups).where(groups.c.name == name).values(**values))
        if not found.rowcount:
            raise NoGroup(f"there is no group {name!r}")


def _all_topics(name: str, topics: List[str]) -> List[str]:
    return [*topics, *backfill_topics(name, topics)]


def _progress_text(progress: Progress) -> Optional[str]:
    return json.dumps(progress._asdict()) if progress.total else None


def _backfilled(rows: List[LogRow]) -> int:
    return sum(row[4] == "read" for row in rows)


def _seqs(rows: List[LogRow]) -> List[int]:
    return [row[0] for row in rows]


def _text(seqs: List[int]) -> str:
    return ",".join(map(str, seqs))


def _left(rows: List[LogRow], is_open: bool) -> str:
    """Return what a lease names: these rows, and if it is open, what follows.

    A process of an earlier release takes that for a row that was cleaned away.
    """
    return _text([*_seqs(rows), LAST] if is_open else _seqs(rows))


def _pages(numbers: List[int]) -> Iterator[List[int]]:
    """Give them in parts: SQLite may bind a thousand values at most, and keeps writers waiting."""
    return (numbers[first : first + PAGE] for first in range(0, len(numbers), PAGE))


def _storable(text: str, encoding: str) -> str:
    """Return a text that the database takes: what it does not know is escaped."""
    known = text.encode(encoding, "backslashreplace").decode(encoding)
    return known.replace("\0", "\\x00")


def _numbers(text: str) -> Tuple[List[int], bool]:
    """Return which rows a lease names, and whether also what follows: undo ``_left``."""
    numbers = [int(number) for number in text.split(",")]
    named = [number for number in numbers if number != LAST]
    return named, len(named) < len(numbers)
