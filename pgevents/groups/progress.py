"""How far a group's backfill is."""

import json
from typing import List, NamedTuple, Optional

from ..events.logrow import OPERATION, LogRow, is_message


class Progress(NamedTuple):
    """How many rows of a backfill are done, of how many. Without a backfill ``total`` is 0."""

    done: int = 0
    total: int = 0

    @classmethod
    def parse(cls, text: Optional[str]) -> "Progress":
        """Return what the column ``backfill`` of a group says."""
        return cls() if text is None else cls(**json.loads(text))

    def text(self) -> Optional[str]:
        """Return what to write into that column."""
        return json.dumps(self._asdict()) if self.total else None


def backfilled(rows: List[LogRow]) -> int:
    """Return how many of these rows a backfill has written."""
    return sum(row[OPERATION] == "read" and not is_message(row) for row in rows)
