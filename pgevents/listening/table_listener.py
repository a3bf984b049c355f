"""A function and the changes of a table that it wants."""

from typing import Any, Callable, FrozenSet, Iterable, Mapping, Optional, Tuple, Union, cast

from ..errors import UsageError
from ..events.event import Event, gone
from ..events.values import Row
from .columns import column_names, values_by_column
from .listener import Listener
from .target import ANY, as_target

Where = Union[None, Mapping[Any, Any], Callable[[Event], Any]]


class TableListener(Listener):
    """A function and the changes that it wants, of one table or of ANY.

    ``columns`` and the keys of a ``where`` dict are column names here; a hub
    that knows the table checks them.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        target: Any,
        columns: Optional[Iterable[Any]] = None,
        where: Where = None,
        batch: bool = False,
        once: bool = False,
        group: Optional[str] = None,
        transactional: bool = False,
    ) -> None:
        if where is not None and not isinstance(where, Mapping) and not callable(where):
            raise UsageError(f"where={where!r}: give a dict of column → value, or a function")
        self.target = None if target is ANY else as_target(target)
        names = None if columns is None else column_names(self.target, columns)
        if names == []:
            raise UsageError("columns=[] names no column: leave it out to receive every update")
        self.columns = None if names is None else frozenset(names)
        self.where = where
        if isinstance(where, Mapping):
            self.where = dict(values_by_column(self.target, where))
        super().__init__(fn, batch, once, group, transactional)
        self._mentioned = self.column_names()
        self.picks = bool(self._mentioned) or where is not None

    @property
    def senders(self) -> Tuple[Any, ...]:
        return (ANY if self.target is None else self.target.key,)

    def column_names(self) -> FrozenSet[str]:
        """Return all the columns it needs: those it names, and its class's discriminator."""
        return self.columns_of_row() | (self.columns or frozenset())

    def columns_of_row(self) -> FrozenSet[str]:
        """Return the columns that decide about a single row, so about one deleted, too."""
        names = set(self.where) if isinstance(self.where, dict) else set()
        if self.target is not None and self.target.discriminator is not None:
            names.add(self.target.discriminator[0])
        return frozenset(names)

    def wants(self, event: Event) -> bool:
        """Tell whether the event passes ``columns``, ``where`` and the mapped class.

        Raises UsageError for a column that the table has no more.
        """
        self._check_columns(event)
        if self.columns is not None and event.operation == "update":
            if self.columns.isdisjoint(event.changed):
                return False
        target = self.target
        if target is not None and target.discriminator is not None:
            column, identities = target.discriminator
            row = event.new if event.new is not None else event.old
            if row is not None and self._value(row, column) not in identities:
                return False
        where = self.where
        if where is None:
            return True
        if callable(where):
            return bool(where(event))
        row = event.new if event.new is not None else event.old
        return row is not None and all(
            name in row and _same(row[name], value) for name, value in where.items()
        )

    def same_as(self, other: Listener) -> bool:
        return super().same_as(other) and self.where == cast(TableListener, other).where

    def _said(self) -> Tuple[Any, ...]:
        return (*super()._said(), self.columns)

    def _alike(self) -> Any:
        try:
            where: Any = self.where
            if isinstance(where, dict):
                where = frozenset(where.items())
            return self.senders, hash((where, self._said()))
        except TypeError:  # a function, or a value, without a hash
            return self.senders, None

    def _value(self, row: Row, column: str) -> Any:
        """Return a row's value of the column that makes it one of the class's.

        Raises UsageError for a row without that column.
        """
        if column not in row:
            raise UsageError(
                f"{self.name} listens to a class whose rows are known by the column {column!r},"
                " which this row in the log does not have"
            )
        return row[column]

    def _check_columns(self, event: Event) -> None:
        # A where that names a column of some tables is right for ANY.
        if self._mentioned and self.target is not None:
            missing = gone(event, self._mentioned)
            if missing is not None:
                raise UsageError(f"{self.name} asks for {missing}")

    def _arguments(self) -> str:
        if self.transactional:
            return "two arguments, the event and a connection"
        return "one argument, " + ("a list of events" if self.batch else "the event")


def _same(found: Any, wanted: Any) -> bool:
    if found is None or wanted is None:
        return found is wanted
    return bool(found == wanted)
