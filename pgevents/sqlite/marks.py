"""Noticing that a table was altered or created again: its rows have other types or another key.

``PRAGMA schema_version`` shows whether there is anything to look for. A table's
mark is the statement that makes it; it is shared with whoever decodes rows.
"""

from typing import Any, Callable, Dict, List

from .catalog import SCHEMA

#: Runs a statement in a transaction that has read rows of the log, and returns its rows.
Run = Callable[[str], List[Any]]


class Marks:
    """The marks of all tables of a file, and how far the log went before they changed."""

    def __init__(self) -> None:
        self.known: Dict[str, str] = {}  # topic → mark
        self._last_before: Dict[str, int] = {}  # topic → a row before it was altered
        self._version: Any = None
        self._last = 0  # the last row that was there when we looked

    def look(self, run: Run, last: int) -> None:
        """Note the tables as they are where ``last`` is the number of a row that is there."""
        version = run("PRAGMA schema_version")[0][0]
        if version != self._version:
            for name, mark in run("SELECT name, sql FROM sqlite_master WHERE type = 'table'"):
                self._note(f"{SCHEMA}.{name}", mark)
        self._version, self._last = version, max(self._last, last)

    def forget(self) -> None:
        """Forget all: another file has taken the place of the former."""
        self.known.clear()
        self._last_before.clear()
        self._version, self._last = None, 0

    def last_before(self, topic: str) -> int:
        """Return the number of a row that was written before the table became what it is."""
        return self._last_before.get(topic, -1)

    def _note(self, topic: str, mark: str) -> None:
        if self.known.get(topic, mark) != mark:
            self._last_before[topic] = self._last
        self.known[topic] = mark
