"""A row of the log, as both databases give it: its parts, by name.

It is a plain tuple. A NamedTuple of each row would cost a tenth of what delivering an
event costs: to make it, and to look up each of its attributes.

    row[TOPIC]    "public.orders"
"""

from typing import Any, Dict, Tuple

LogRow = Tuple[Any, ...]

POSITION = 0  # its number; the log's column is "seq"
TRANSACTION = 1  # the number of the one that wrote it, as text or int; None on SQLite
AT = 2  # when it was written: a datetime, or its text
TOPIC = 3  # the table, "public.orders"
OPERATION = 4
OLD = 5  # JSON text, or None
NEW = 6
CONTEXT = 7  # what the writer has said of itself, or None


#: What the topic of a message begins with.
MESSAGE = "channel:"

#: What the topic of a stream's event begins with; such a row is of the table of events.
STREAM = "stream:"
STORED = "event"  # its operation


def is_message(row: LogRow) -> bool:
    """Tell whether a row is a message of the application's own: see channels/."""
    return bool(row[OPERATION] == "read" and row[TOPIC].startswith(MESSAGE))


def is_stored(row: LogRow) -> bool:
    """Tell whether a row is an event of a stream: see streams/."""
    return bool(row[OPERATION] == STORED)


def with_parts(row: LogRow, parts: Dict[int, Any]) -> LogRow:
    """Return a copy of a row, with other values in the parts that are named."""
    return tuple(parts.get(index, part) for index, part in enumerate(row))


def size(row: LogRow) -> int:
    """Return how many characters its values and its context have."""
    # One for each row that is read: a loop would take four times as long.
    return len(row[OLD] or "") + len(row[NEW] or "") + len(row[CONTEXT] or "")
