"""What a process has taken of a group: one row in the table of leases, and the rows it names."""

from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

from ..database.grouplog import LAST
from ..events.logrow import POSITION, LogRow


class Work(NamedTuple):
    """The lease as it was taken, and its events' rows.

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


def positions(rows: Sequence[LogRow]) -> List[int]:
    """Return the rows' numbers in the log."""
    return [row[POSITION] for row in rows]


def names(numbers: Sequence[int], is_open: bool = False) -> str:
    """Return the text by which a lease names rows, and what follows them if it is open.

    A process of release 0.1 takes the latter for a row that was cleaned away.
    """
    return ",".join(map(str, [*numbers, LAST] if is_open else numbers))


def named(text: str) -> Tuple[List[int], bool]:
    """Return which rows a lease names, and whether also what follows: undo ``names``."""
    numbers = [int(number) for number in text.split(",")]
    found = [number for number in numbers if number != LAST]
    return found, len(found) < len(numbers)
