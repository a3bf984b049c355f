"""Rows that this release does not know: skipped, with a warning for each kind.

During an upgrade a newer release may already write to the log.
"""

from typing import List, Optional

from ..events.logrow import MESSAGE, OPERATION, STORED, STREAM, TOPIC, LogRow
from ..listening.target import OPERATIONS
from ..warnings import Warnings

KNOWN = (*OPERATIONS, "read")
KEY = "stranger: "  # of the warnings
KINDS = 20  # that get a warning; whoever may write to the log may invent more
LONGEST = 60  # characters of a name that nobody knows


class Strangers:
    """Knows which rows are for this release, and warns of the others."""

    def __init__(self, warnings: Warnings) -> None:
        self._warnings = warnings

    def left_out(self, rows: List[LogRow]) -> List[LogRow]:
        """Return the rows without those that are not for this release."""
        kinds = {(row[TOPIC], row[OPERATION]) for row in rows}
        if not any(_strange(*kind) for kind in kinds):
            return rows
        return [row for row in rows if self.knows(row)]

    def knows(self, row: LogRow) -> bool:
        """Return whether a row is for this release."""
        if row[OPERATION] in OPERATIONS and "." in row[TOPIC]:  # as mostly
            return True
        what = _strange(row[TOPIC], row[OPERATION])
        if what is not None and self._warnings.count(KEY) < KINDS:
            self._warnings.set(
                KEY + what,
                f"events with {what} are skipped: a newer release of pgevents has written them,"
                " perhaps",
            )
        return what is None


def _strange(topic: str, operation: str) -> Optional[str]:
    """Return what is unknown of a row."""
    if operation == STORED and topic.startswith(STREAM):
        return None
    if operation not in KNOWN:
        return f"the operation {str(operation)[:LONGEST]!r}"
    # A table's is "public.orders"; a message has the operation of a backfill.
    if "." not in topic and not (operation == "read" and topic.startswith(MESSAGE)):
        return f"the topic {str(topic)[:LONGEST]!r}"
    return None
