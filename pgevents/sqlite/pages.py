"""How much of the log is read at once: for log.py and grouplog.py."""

from typing import Any, Iterable, List, Sequence, Tuple

from ..events.logrow import LogRow, size

PAGE_BYTES = 8_000_000  # of rows that are read at once; at least one row

#: The columns of a LogRow; SQLite's transactions have no numbers.
COLUMNS = "seq, NULL, at, topic, operation, old, new, context"


def first_page(found: Iterable[Sequence[Any]]) -> Tuple[List[LogRow], bool]:
    """Return as many rows as fit a page; and whether that stopped the reading."""
    rows, read = [], 0
    for row in map(tuple, found):
        rows.append(row)
        read += size(row)
        if read > PAGE_BYTES:
            return rows, True
    return rows, False
