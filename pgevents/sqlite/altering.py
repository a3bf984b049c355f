"""A migration in the application's own transaction: our triggers go first, and come back last."""

import contextlib
import sqlite3
from typing import Any, Iterator, List

from ..target import Target
from . import catalog
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
        relations = [catalog.find(connection, target) for target in targets]
        ours = connection.begin()
        topics = [r.topic for r in relations] or sorted(capture.topics(connection))
        capture.take(connection, topics)
    try:
        yield
    except BaseException:
        # Somebody may catch it and commit. What went wrong is the block's error, not ours.
        with contextlib.suppress(sqlite3.Error):
            if ours:
                connection.execute("ROLLBACK")
            elif connection.in_transaction:
                capture.give_back(connection, topics)
        raise
    with translated():
        capture.give_back(connection, topics)
        if ours and connection.in_transaction:
            connection.execute("COMMIT")


class _Plain:
    """The application's connection, as ours work: rows are tuples, and DDL commits nothing."""

    def __init__(self, bind: Any) -> None:
        self._raw: Any = bind
        self._theirs = False  # SQLAlchemy will end the transaction that we begin
        if not isinstance(bind, sqlite3.Connection):
            bind.exec_driver_sql("SELECT 1")  # SQLAlchemy 2 begins a transaction at once
            self._raw = bind.connection
            self._theirs = bind.get_transaction() is not None

    @property
    def in_transaction(self) -> bool:
        return bool(self._raw.in_transaction)

    def begin(self) -> bool:
        """Begin a transaction, unless there is one; tell whether it is ours to end."""
        if self.in_transaction:
            return False
        # Python begins none before a DDL statement.
        self.execute("BEGIN IMMEDIATE")
        return not self._theirs or autocommits(self._raw)

    def execute(self, sql: str, parameters: Any = ()) -> Any:
        cursor = self._raw.cursor()
        with contextlib.suppress(AttributeError):
            cursor.row_factory = None
        return cursor.execute(sql, parameters)
