"""The table of leases: what processes have taken, and what waits for its time."""

from typing import Any, List, Optional, Sequence, Set, cast

from sqlalchemy import (
    Float,
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

from ..database.grouplog import GroupLog
from ..events.logrow import LogRow
from ..tables import Tables
from .work import Work, named, names, positions

OWNER_SILENT = 1.0  # seconds without a renewal after which an owner may be dead
RIPE = 20  # leases that may be taken over, of which a claim looks at so many


class LeaseRows:
    """The rows of leases, in transactions of the callers. A lease without an owner waits."""

    def __init__(self, tables: Tables, log: GroupLog) -> None:
        self._leases = leases = tables.leases
        self._one_writer = log.one_writer
        self._now = now = log.now
        # The statements of a batch are made once: making them takes longer than running them.
        group: Any = bindparam("group")
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
        due = now + bindparam("seconds", type_=Float)
        self._begin = insert(leases).values(
            group_name=group,
            seqs=bindparam("numbers"),
            attempt=1,
            owner=bindparam("by"),
            renewed=now,
            due=due,
        )
        ours = and_(leases.c.id == bindparam("ours"), leases.c.owner == bindparam("by"))
        self._name_next = (
            update(leases).where(ours).values(seqs=bindparam("numbers"), renewed=now, due=due)
        )
        self._end = delete(leases).where(ours)

    # What there is.

    def held(self, connection: Connection, name: str, owner: str) -> Optional[float]:
        """Return in how many seconds something may be taken over, or None if nothing is held.

        0.0 is now: it is due, or its owner may be dead.
        """
        found = connection.execute(self._find_held, {"group": name, "by": owner}).scalar()
        return None if found is None else max(0.0, float(found))

    def ripe(self, connection: Connection, name: str, owner: str) -> Sequence[Any]:
        """Return and lock leases that may be taken over.

        Each is (id, names, attempt, again, owner, whether its time is over, whether the clock
        was set back).
        """
        return connection.execute(self._find_ripe, {"group": name, "by": owner}).fetchall()

    def taken(self, connection: Connection, name: str) -> List[int]:
        """Return the positions of what is taken and not finished, or waits for its time."""
        leases = self._leases
        found = connection.execute(select(leases.c.seqs).where(leases.c.group_name == name))
        return [seq for row in found for seq in named(row[0])[0]]

    def number(self, connection: Connection, name: str) -> int:
        """Return how many leases a group has."""
        leases = self._leases
        count = select(func.count()).select_from(leases).where(leases.c.group_name == name)
        return int(connection.execute(count).scalar() or 0)

    def owners(self, connection: Connection, name: str) -> List[Optional[str]]:
        """Return who holds leases of a group."""
        leases = self._leases
        holders = select(leases.c.owner).where(leases.c.group_name == name)
        return [row[0] for row in connection.execute(holders)]

    def is_ours(self, connection: Connection, name: str, lease: int, owner: str) -> bool:
        """Tell whether a lease is still of this owner."""
        mine = and_(self._leases.c.group_name == name, self._which(lease, owner))
        found = connection.execute(select(self._leases.c.id).where(mine))
        return found.first() is not None

    def names_of(
        self, connection: Connection, lease: int, owner: Optional[str] = None
    ) -> Optional[str]:
        """Return and lock what a lease names; None if it is gone, or not of this owner."""
        # Locked: a transaction that is about to end may have written how far it is.
        found = connection.execute(
            select(self._leases.c.seqs).where(self._which(lease, owner)).with_for_update()
        )
        seqs: Optional[str] = found.scalar()
        return seqs

    # What is written.

    def begin(
        self, connection: Connection, name: str, numbers: Sequence[int], owner: str, seconds: float
    ) -> int:
        """Write a lease that names these rows; return its id."""
        given = {"group": name, "numbers": names(numbers), "by": owner, "seconds": seconds}
        key: Any = connection.execute(self._begin, given).inserted_primary_key
        return int(key[0])

    def begin_each(
        self, connection: Connection, name: str, works: Sequence[Work], seconds: float
    ) -> List[int]:
        """Write a lease for each of these; return their ids, in order."""
        values = [
            {
                "group_name": name,
                "seqs": names(positions(work.rows)),
                "attempt": work.attempt,
                "again": work.again,
                "owner": work.owner,
                "renewed": self._now,
                "due": self._now + seconds,
            }
            for work in works
        ]
        if not works:
            return []
        if self._one_writer:  # there each statement is a call, and no trip to a server
            made = [connection.execute(insert(self._leases).values(one)) for one in values]
            return [int(cast(Any, one.inserted_primary_key)[0]) for one in made]
        found = connection.execute(insert(self._leases).values(values).returning(self._leases.c.id))
        return [int(row[0]) for row in found]

    def keep(self, connection: Connection, works: Sequence[Work], seconds: float) -> Set[int]:
        """Let leases last for so many seconds at least; return which are still their owner's.

        Those that a transaction is about to end stay as they are.
        """
        leases = self._leases
        ours = and_(
            leases.c.id.in_([work.lease for work in works]),
            leases.c.owner.in_({work.owner for work in works}),
        )
        found = {row[0] for row in connection.execute(select(leases.c.id).where(ours))}
        free = select(leases.c.id).where(ours).with_for_update(skip_locked=True)
        ids = [row[0] for row in connection.execute(free)]
        due = self._now + seconds
        if ids:
            connection.execute(
                update(leases)
                .where(leases.c.id.in_(ids))
                .values(renewed=self._now, due=case((leases.c.due > due, leases.c.due), else_=due))
            )
        return found

    def name_next(self, connection: Connection, work: Work, seconds: float) -> bool:
        """Let a lease name these rows and what follows; tell whether it was still ours."""
        given = {
            "ours": work.lease,
            "by": work.owner,
            "numbers": names(positions(work.rows), True),
            "seconds": seconds,
        }
        return bool(connection.execute(self._name_next, given).rowcount)

    def renew(
        self, connection: Connection, lease: int, of: Optional[str], seconds: float, **values: Any
    ) -> bool:
        """Let a lease end in so many seconds, and change columns; tell whether it was there.

        It has to be ``of`` this owner, if one is given.
        """
        values.update(renewed=self._now, due=self._now + seconds)
        found = connection.execute(
            update(self._leases).where(self._which(lease, of)).values(values)
        )
        return bool(found.rowcount)

    def name_rest(
        self, connection: Connection, work: Work, rest: Sequence[LogRow], attempt: int
    ) -> bool:
        """Let a lease name what is left of it; tell whether it was still ours."""
        found = connection.execute(
            update(self._leases)
            .where(self._which(work.lease, work.owner))
            .values(seqs=names(positions(rest), work.open), attempt=attempt, again=work.again)
        )
        return bool(found.rowcount)

    def put(
        self,
        connection: Connection,
        name: str,
        numbers: Sequence[int],
        attempt: int = 1,
        delay: float = 0.0,
        again: bool = False,
    ) -> None:
        """Leave events to whoever comes first after ``delay`` seconds."""
        connection.execute(
            insert(self._leases).values(
                group_name=name,
                seqs=names(numbers),
                attempt=attempt,
                again=again,
                renewed=self._now,
                # At once is at once by any clock, even by one that is set back.
                due=self._now + delay if delay else 0.0,
            )
        )

    def end(self, connection: Connection, lease: int, owner: str) -> bool:
        """Delete a lease; tell whether it was still ours."""
        return bool(connection.execute(self._end, {"ours": lease, "by": owner}).rowcount)

    def delete(self, connection: Connection, name: str) -> None:
        """Delete all of a group."""
        connection.execute(delete(self._leases).where(self._leases.c.group_name == name))

    def _which(self, lease: int, owner: Optional[str]) -> Any:
        """Return a condition for a lease, while it is of this owner, if one is given."""
        leases = self._leases
        by = leases.c.id == lease
        return by if owner is None else and_(by, leases.c.owner == owner)
