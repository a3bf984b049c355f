"""Several questions about the catalog, asked in one statement."""

import copy
import json
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

Rows = List[Tuple[Any, ...]]
Statement = Tuple[str, Sequence[Any]]


class Answers:
    """A cursor for those who ask, which has the answers already.

        rights.loose(cursor)    ─┐                        ┌─ rights.loose(answers)
        rights.broken(cursor)   ─┼─ one statement ──┼─ rights.broken(answers)
        places.taken(cursor)    ─┘                        └─ places.taken(answers)

    Each question is a function that executes statements and fetches all their rows: it is
    called once to find these out. What no question has executed goes to the real cursor.
    Values come as JSON has them, so an oid has to be an int8.
    """

    def __init__(self, cursor: Any, questions: Sequence[Callable[[Any], Any]]) -> None:
        self._cursor = cursor
        self._known: Dict[str, Rows] = {}
        self._found: Optional[Rows] = None
        asked = _Asked(cursor.connection)
        for question in questions:
            question(asked)
        self._ask(asked.statements)

    @property
    def connection(self) -> Any:
        """The real cursor's."""
        return self._cursor.connection

    def on(self, cursor: Any) -> "Answers":
        """Return the same answers, with another real cursor."""
        found = copy.copy(self)
        found._cursor = cursor
        return found

    def execute(self, sql: str, values: Sequence[Any] = ()) -> None:
        """Look the answer up, or ask."""
        self._found = self._known.get(_key(sql, values))
        if self._found is None:
            self._cursor.execute(sql, values or None)

    def fetchall(self) -> Rows:
        """Return all rows."""
        return list(self._cursor.fetchall() if self._found is None else self._found)

    def fetchone(self) -> Optional[Tuple[Any, ...]]:
        """Return the first row; None if there is none."""
        return next(iter(self), None)

    def __iter__(self) -> Iterator[Tuple[Any, ...]]:
        return iter(self.fetchall())

    def _ask(self, statements: Dict[str, Statement]) -> None:
        # As text: psycopg2 would read JSON by a registry that the application may change.
        rows = "(SELECT coalesce(json_agg(answer), '[]')::text FROM ({}) answer)"
        parts: List[str] = []
        bound: List[Any] = []
        for sql, values in statements.values():
            parts.append(rows.format(sql if values else sql.replace("%", "%%")))
            bound += values
        self._cursor.execute(f"SELECT {', '.join(parts)}", bound)
        for key, text in zip(statements, self._cursor.fetchone()):
            self._known[key] = json.loads(text, object_pairs_hook=_values)


class _Asked:
    """A cursor that executes nothing, and remembers what it should have executed."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.statements: Dict[str, Statement] = {}

    def execute(self, sql: str, values: Sequence[Any] = ()) -> None:
        self.statements[_key(sql, values)] = sql, values

    def fetchall(self) -> Rows:
        return []

    def fetchone(self) -> None:
        return None

    def __iter__(self) -> Iterator[Any]:
        return iter(())


def _key(sql: str, values: Sequence[Any]) -> str:
    return f"{sql} {values!r}"


def _values(pairs: List[Tuple[str, Any]]) -> Tuple[Any, ...]:
    # Not a dict: two columns may bear one name.
    return tuple(value for _, value in pairs)
