"""What is to be written down of a lease at one time."""

from typing import Mapping, NamedTuple, Sequence

from ..events.logrow import LogRow
from .failure import Failure


class Settlement(NamedTuple):
    """How far a lease is: which rows are left of it, and what failed since the last time.

    With ``keep`` the lease goes on with the rest, else anybody may take that. ``attempt`` is
    the number of the next attempt for the first of the rest. With ``together`` the last
    failure waits for its time, and the rest waits behind it. ``done`` rows need nothing more.
    ``letters`` are the dead letters that were written: position of the event → id.
    """

    rest: Sequence[LogRow]
    failures: Sequence[Failure]
    keep: bool
    attempt: int
    done: int
    together: bool = False
    letters: Mapping[int, int] = {}

    @property
    def is_all(self) -> bool:
        """Tell whether everything is handled, and nothing failed."""
        return not self.rest and not self.failures
