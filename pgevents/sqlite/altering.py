"""A migration in the application's own transaction: our triggers go first, and come back last."""

import contextlib
import sqlite3
from typing import Any, Iterator, List

from ..listening.target import Target
from .capture import Capture
from .connection import autocommits, translated


@contextlib.contextmanager
def altering(capture: Capture, bind: Any, targets: List[Target]) -> Iterator[None]:
    """Within the block, let these tables be without our triggers; without targets, all tables.

    What the block does and we do is one transaction, the caller's: nobody
    else sees a table without its triggers. Where each statement commits by
    itself, we begin a transaction and end it.
    """
    connection: Any = _Plain(bind)
    with translated():
        ours = connection.begin()
        topics: List[str] = []
        try:
            topics += capture.take(connection, targets)
        except BaseException:
            _take_back(connection, ours)
            raise
    try:
        yield
    except BaseException:
        # Somebody may catch it and commit. What went wrong is the block's error, not ours.
        with contextlib.suppress(sqlite3.Error):
            if not ours and connection.in_transaction:
                capture.give_back(connection, topics)
        _take_back(connection, ours)
        raise
    with translated():
        try:
            capture.give_back(connection, topics)
            if ours:
                connection.end(commit=True)
        except BaseException:
            _take_back(connection, ours)
            raise


def _take_back(connection: "_Plain", ours: bool) -> None:
    """Leave the application's connection in no transaction that it does not know of."""
    with contextlib.suppress(sqlite3.Error):
        if ours:
            connection.end(commit=False)


class _Plain:
    """The application's connection, as ours work: rows are tuples, and DDL commits nothing."""

    def __init__(self, bind: Any) -> None:
        self._raw: Any = bind
        self._theirs = False  # SQLAlchemy will end the transaction that we begin
        self._alone: Any = None  # a Connection in no transaction …
        self._own: Any = None  # … and the one that we have begun there
        if not isinstance(bind, sqlite3.Connection):
            bind.exec_driver_sql("SELECT 1")  # SQLAlchemy 2 begins a transaction at once
            self._raw = bind.connection
            self._theirs = bind.get_transaction() is not None
            # SQLAlchemy 1.4 would commit after each statement that is in none.
            self._alone = None if self._theirs else bind

    @property
    def in_transaction(self) -> bool:
        return bool(self._raw.in_transaction)

    def begin(self) -> bool:
        """Begin a transaction, unless there is one; tell whether it is ours to end."""
        if self.in_transaction:
            return False
        # Python begins none before a DDL statement.
        self._own = None if self._alone is None else self._alone.begin()
        if not self.in_transaction:  # the application may have SQLAlchemy send a BEGIN
            self.execute("BEGIN IMMEDIATE")
        return not self._theirs or autocommits(self._raw)

    def end(self, commit: bool) -> None:
        """End the transaction that is ours."""
        if self._own is not None:
            (self._own.commit if commit else self._own.rollback)()
        if self.in_transaction:
            self.execute("COMMIT" if commit else "ROLLBACK")

    def execute(self, sql: str, parameters: Any = ()) -> Any:
        cursor = self._raw.cursor()
        with contextlib.suppress(AttributeError):
            cursor.row_factory = None
        return cursor.execute(sql, parameters)
