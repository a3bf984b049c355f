"""Rows that this release does not know: skipped, and told once for each kind.

During an upgrade a newer release may already write to the log.
"""

from typing import List, Optional

from .event import LogRow
from .target import OPERATIONS
from .warnings import Warnings

KNOWN = (*OPERATIONS, "read")
KINDS = 20  # that are told; whoever may write to the log may invent more
LONGEST = 60  # characters of a name that nobody knows


class Strangers:
    """Tells which rows this release knows."""

    def __init__(self, warnings: Warnings) -> None:
        self._warnings = warnings
        self._told = 0

    def left_out(self, rows: List[LogRow]) -> List[LogRow]:
        """Return the rows without those that are not for this release."""
        return [row for row in rows if self.knows(row)]

    def knows(self, row: LogRow) -> bool:
        """Tell whether a row is for this release."""
        what = _strange(row)
        if what is not None and self._told < KINDS:
            self._told += self._warnings.set(
                f"stranger {what}",
                f"events with {what} are skipped: a newer release of pgevents has written them,"
                " perhaps",
            )
        return what is None


def _strange(row: LogRow) -> Optional[str]:
    """Return what is unknown of a row."""
    topic, operation = row[3], row[4]
    if operation not in KNOWN:
        return f"the operation {str(operation)[:LONGEST]!r}"
    if "." not in topic:  # a table's is "public.orders"
        return f"the topic {str(topic)[:LONGEST]!r}"
    return None
