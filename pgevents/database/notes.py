"""Rows of the log that are no events: a partition of a watched table was truncated.

An event of the table would report too much, since its other rows are still there. So
the row has a topic of its own, to which nobody listens; who reads it reports a gap.
It is a truncation with a new row, which there cannot be otherwise.
"""

import json
from typing import List, Optional, Tuple

from ..events.logrow import NEW, OPERATION, TOPIC, LogRow

_PREFIX = "partition:"  # as functions.sql writes it


def note_topics(topics: List[str]) -> List[str]:
    """Return the topics of the notes about these tables."""
    return [_PREFIX + topic for topic in topics]


def without_notes(rows: List[LogRow]) -> Tuple[List[LogRow], List[LogRow]]:
    """Return the notes among these rows of the log, and the others."""
    notes = [row for row in rows if row[OPERATION] == "truncate" and row[NEW] is not None]
    return notes, [row for row in rows if row not in notes] if notes else rows


def noted_topic(row: LogRow) -> str:
    """Return the topic of the table that a note is about."""
    return str(row[TOPIC])[len(_PREFIX) :]


def gap_of(notes: List[LogRow]) -> Optional[str]:
    """Return the sentence of these notes for a gap; None if there are none."""
    found = {f"{_partition(row)}, a partition of {noted_topic(row)}": None for row in notes}
    if not found:
        return None
    return f"{', '.join(found)}, was truncated: its rows are gone without an event for each"


def _partition(row: LogRow) -> str:
    return str(json.loads(row[NEW])["partition"])
