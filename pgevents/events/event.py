"""A change of one row, as a listener receives it."""

import json
from typing import Any, Callable, Dict, FrozenSet, Hashable, Iterable, Optional, Tuple

from ..errors import UsageError
from .entry import Entry
from .envelope import NOT_ONE, parse_fields
from .identity import as_declared, identity, is_mapped, mapper_of
from .logrow import CONTEXT, NEW, OLD, OPERATION, TOPIC, LogRow, with_parts
from .tagged import row_from_tagged, row_to_tagged
from .values import Row, Shape, parse_by_column, parse_datetime


class Event(Entry):
    """A change of one row. It cannot be changed.

    The rows are read from the log's text when they are first asked for: an
    event that no listener reads costs next to nothing.
    """

    __slots__ = ("_shape", "_raw", "_values", "_changed")

    #: Not a property, which is a call for each event that is delivered.
    until = None

    def __init__(
        self, row: LogRow, shape: Shape, attempt: int = 1, redelivered: bool = False
    ) -> None:
        self._row = row
        self._shape = shape
        self._raw: Optional[Tuple[Any, Any]] = None
        self._values: Optional[Tuple[Optional[Row], Optional[Row]]] = None
        self._attempt = attempt
        self._redelivered = redelivered

    # What happened, and to what.

    @property
    def operation(self) -> str:
        """``insert``, ``update``, ``delete`` or ``truncate``.

        Or ``read``, for a row that was there when a group began with a backfill.
        """
        return str(self._row[OPERATION])

    @property
    def moment(self) -> str:
        """``after_insert``, ``after_update``, ``after_delete`` or ``after_truncate``."""
        operation = self._row[OPERATION]
        return "after_insert" if operation == "read" else f"after_{operation}"

    @property
    def schema(self) -> Optional[str]:
        """The table's schema; on SQLite the database's name, ``main``."""
        return self._shape.schema

    @property
    def table(self) -> str:
        """The table's name."""
        return self._shape.table

    @property
    def key(self) -> Any:
        """The row's primary key: a value, a tuple when it is composite, None without one.

        After an update that changed it, the new one; the old one is in ``old``.
        """
        row = self.new if self.new is not None else self.old
        names = self._shape.key
        if not names or row is None or any(name not in row for name in names):
            return None
        return row[names[0]] if len(names) == 1 else tuple(row[name] for name in names)

    @property
    def old(self) -> Optional[Row]:
        """The row before an update or delete: column name → value. None for an insert."""
        return self._decoded()[0]

    @property
    def new(self) -> Optional[Row]:
        """The row after an insert or update: column name → value. None for a delete."""
        return self._decoded()[1]

    @property
    def changed(self) -> Tuple[str, ...]:
        """The names of the columns that an update really changed, in the table's order.

        Empty for other operations, and where the old row was not kept.
        """
        try:
            return self._changed
        except AttributeError:
            self._changed: Tuple[str, ...] = self._compare()
            return self._changed

    @property
    def key_changed(self) -> bool:
        """Tell whether an update changed the primary key."""
        return any(name in self._shape.key for name in self.changed)

    @property
    def lane(self) -> Optional[Hashable]:
        if self._row[OPERATION] == "truncate" or self.key_changed:
            return None
        return self.table, repr(self.key)

    def load(self, session: Any = None, entity: Optional[type] = None) -> Any:
        """Return the row's ORM object as it is *now*, or None if it is gone.

        Gone is, too, what row-level security hides from the session's role.

        ``entity`` is the mapped class; it may be left out where a
        listener names that class. Reads the database through ``session``, by the
        class's primary key. A Django model needs no ``session``: it may be the alias of a
        database. Raises UsageError without a class, for a class of
        another table, and where the event lacks a column of that key.
        """
        if self._shape.model is not None and not is_mapped(entity):
            return self._shape.model.load(self, session, entity)
        entity = entity or self._shape.entity
        if entity is None:
            raise UsageError(
                f"no mapped class is known for {self.table!r}: listen with the class,"
                " or give it, event.load(session, Order)"
            )
        mapper = mapper_of(entity)
        if session is None:
            raise UsageError(f"give the Session to load with, event.load(session), for {entity!r}")
        row = self.new if self.new is not None else self.old
        if row is None:
            raise UsageError(f"there is no row to load: the event is a {self.operation}")

        def bind() -> Any:
            return session.get_bind(mapper=mapper)

        def read(column: Any) -> Any:
            return self._read(column, bind)

        key = identity(mapper, self.schema, self.table, row, read, bind)
        if all(value is None for value in key):
            return None  # the ORM has no object without a key
        return session.get(entity, key, populate_existing=True)

    def to_json(self) -> str:
        """Return the event as JSON text, for a queue or a file; ``from_json`` gives it back.

        Values that JSON lacks are tagged, ``{"$decimal": "9.90"}``. A value
        of a type without a tag (a range, an object of a TypeDecorator), or
        that holds one, goes as the log has it. Raises UsageError for one that
        is nested too deeply for Python's json.
        """
        try:
            return json.dumps(self._as_dict())
        except RecursionError as error:
            raise UsageError(
                f"the event {self.id} of {self.topic} holds a value that is nested too deeply for"
                " Python's json"
            ) from error

    def _as_dict(self) -> Dict[str, Any]:
        raw_old, raw_new = self._parsed()
        return {
            "position": self.position,
            "transaction": self.transaction,
            "at": self.at.isoformat(),
            "topic": self._row[TOPIC],
            "operation": self.operation,
            "schema": self.schema,
            "table": self.table,
            "key": list(self._shape.key),
            "old": row_to_tagged(self.old, raw_old),
            "new": row_to_tagged(self.new, raw_new),
            "changed": list(self.changed),
            "context": self._row[CONTEXT],
            "declared": self._shape.declared,
            "attempt": self.attempt,
            "redelivered": self.redelivered,
        }

    @classmethod
    def from_json(cls, text: str) -> "Event":
        """Return the event that ``to_json`` wrote. Raises UsageError if it did not."""
        try:
            given = parse_fields(text)
            shape = Shape(given["schema"], given["table"], key=tuple(given["key"]))
            shape.declared = given["declared"]
            row = (
                given["position"],
                given["transaction"],
                parse_datetime(given["at"]),
                given["topic"],
                given["operation"],
                None,
                None,
                given["context"],
            )
            event = cls(row, shape, given["attempt"], given["redelivered"])
            event._values = row_from_tagged(given["old"]), row_from_tagged(given["new"])
            event._raw = event._values
            event._changed = tuple(given["changed"])
        except NOT_ONE as error:
            raise UsageError(f"no event in JSON: {text!r:.100} ({error!r})") from error
        return event

    def __reduce__(self) -> Any:
        return Event.from_json, (self.to_json(),)

    def __repr__(self) -> str:
        return f"<Event {self.id} {self.moment} {self._row[TOPIC]} key={self.key!r}>"

    def _read(self, column: Any, bind: Callable[[], Any]) -> Any:
        """Return a column's value as the ORM gives it, by the type that a class declares."""
        row = self.new if self.new is not None else self.old
        assert row is not None
        shape = self._shape
        if shape.read_by is not None:
            raw = self._parsed()[self.new is not None]
            decode = shape.read_by(column.table).get(column.name)
            value = raw[column.name]
            return value if decode is None or value is None else decode(value)
        if shape.declared:
            return row[column.name]
        return as_declared(row[column.name], column.type, bind().dialect)

    def _parsed(self) -> Tuple[Any, Any]:
        """Old and new as JSON gives them."""
        raw = self._raw
        if raw is None:
            parse = self._shape.parse
            old, new = self._row[OLD], self._row[NEW]
            try:
                raw = self._raw = (old and parse(old), new and parse(new))
            except RecursionError:
                raw = self._raw = (
                    old and parse_by_column(old, parse),
                    new and parse_by_column(new, parse),
                )
        return raw

    def _decoded(self) -> Tuple[Optional[Row], Optional[Row]]:
        values = self._values
        if values is None:
            old, new = self._parsed()
            decode = self._shape.decode
            values = self._values = (
                None if old is None else decode(old),
                None if new is None else decode(new),
            )
        return values

    def _compare(self) -> Tuple[str, ...]:
        # As the log has them: NaN equals itself there.
        old, new = self._parsed()
        if not old or not new:
            return ()
        return tuple(name for name in new if name in old and old[name] != new[name])


def gone(event: Event, columns: FrozenSet[str]) -> Optional[str]:
    """Return a sentence about the first of these columns that the table has lost, or None."""
    old, new = event._parsed()
    row = old if new is None else new
    if row is None or columns <= row.keys():
        return None
    # It may have them all the same: the row was reported by its key alone, or written before.
    now = event._shape.present()
    missing = sorted(columns - row.keys() - now)
    if not missing or not now:
        return None
    return (
        f"{event.topic}.{missing[0]}, which is no column any more; there are"
        f" {', '.join(sorted(now))}"
    )


def without_values(row: LogRow, key: Iterable[str]) -> LogRow:
    """Return a log row without what its writer wrote, but for the columns of the key."""
    return with_parts(row, {OLD: _only(row[OLD], key), NEW: _only(row[NEW], key), CONTEXT: None})


def _only(text: Optional[str], names: Iterable[str]) -> Optional[str]:
    if text is None:
        return None
    # A fraction stays as it was written: a float has not all its digits. So does a long number.
    values = json.loads(text, parse_float=str, parse_int=_number_or_text)
    return json.dumps({name: values[name] for name in names if name in values})


def _number_or_text(text: str) -> Any:
    try:
        return int(text)
    except ValueError:  # more digits than Python makes an int of
        return text
