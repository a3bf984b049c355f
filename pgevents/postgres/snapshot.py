"""What a transaction could see: PostgreSQL's ``pg_snapshot``."""

from typing import FrozenSet, NamedTuple


class Snapshot(NamedTuple):
    """``xmin:xmax:xip,…``: visible is what is below ``xmax`` and not in ``xip``.

    https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-PG-SNAPSHOT
    """

    xmax: int
    in_progress: FrozenSet[int]
    text: str

    @classmethod
    def parse(cls, text: str) -> "Snapshot":
        """Read PostgreSQL's text form."""
        _, xmax, xip = text.split(":")
        return cls(int(xmax), frozenset(int(x) for x in xip.split(",") if x), text)

    def sees(self, xid: int) -> bool:
        """Return whether a committed transaction is visible."""
        return xid < self.xmax and xid not in self.in_progress

    def and_also(self, xid: int) -> "Snapshot":
        """Return a snapshot that sees one transaction more, which began after it."""
        between = range(self.xmax, xid)
        xip = sorted(self.in_progress.union(between))
        xmin = min([*xip, xid + 1])
        return Snapshot.parse(f"{xmin}:{xid + 1}:{','.join(map(str, xip))}")

    def without_later(self, xid: int) -> "Snapshot":
        """Return one that sees the same up to ``xid``, and nothing after it."""
        xip = sorted(x for x in self.in_progress if x <= xid)
        xmax = min(self.xmax, xid + 1)
        return Snapshot.parse(f"{xip[0] if xip else xmax}:{xmax}:{','.join(map(str, xip))}")

    def covers(self, other: "Snapshot") -> bool:
        """Return whether all that the other sees is visible here, too."""
        return self.xmax >= other.xmax and not any(other.sees(xid) for xid in self.in_progress)


def is_before(xid: int, other: int) -> bool:
    """Compare the numbers of two transactions, of which only the last 32 bits may be known."""
    return (xid - other) % 2**32 >= 2**31
