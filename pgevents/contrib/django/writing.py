"""Messages, context and capture in the transaction of a Django connection.

Each takes ``using``: the alias of a database, or one of ``django.db.connections``.
"""

import contextlib
from typing import Any, Iterable, Iterator, List, Mapping, Optional

from django.db import DatabaseError, connections
from django.db.transaction import TransactionManagementError

from ...channels.names import topic_of
from ...channels.outgoing import Outgoing, Writer, as_messages
from ...database.outbox import Written
from ...database.writers import context_text
from ...errors import NotInstalled, UsageError
from ...tables import Tables
from .config import Config
from .databases import database


def publish(
    channel: str,
    payload: Any,
    using: Any = None,
    key: Optional[str] = None,
    metadata: Optional[Mapping[str, Any]] = None,
    id: Optional[str] = None,
) -> str:
    """Publish a message through Django's connection; return its id.

    Inside ``atomic()`` it belongs to that transaction: it is received after the commit, or
    never. Outside, it is committed at once. The rest is as with ``Hub.publish()``.
    """
    return publish_many([Outgoing(channel, payload, key, metadata, id)], using)[0]


def publish_many(messages: Iterable[Any], using: Any = None) -> List[str]:
    """Publish messages, all or none; return their ids, in order: see ``Hub.publish_many()``."""
    options = Config().options
    writer = Writer(options.get("encoder"), options.get("max_payload"))
    written = [writer.written(message) for message in as_messages(messages)]
    if written:
        connection = _connection(using)
        put = _put_on_postgresql if connection.vendor == "postgresql" else _put_on_sqlite
        put(connection, _tables(connection), written)
    return [message.id for message in written]


def context(using: Any = None, /, **values: Any) -> Any:
    """Within the block, let ``event.context`` of the changes be these values: JSON types.

    To be used inside ``atomic()``. It ends with the block. Raises UsageError outside.
    """
    return _around_writes(using, "context", context_text(values))


def suppressed(using: Any = None) -> Any:
    """Within the block, capture nothing of what Django's connection writes.

    To be used inside ``atomic()``. It ends with the block. Raises UsageError outside.
    """
    return _around_writes(using, "capture", "off")


def _connection(using: Any) -> Any:
    """Return Django's connection of this thread. Raises UsageError where it has no hub."""
    return connections[database(getattr(using, "alias", using)).alias]


def _tables(connection: Any) -> Tables:
    return Tables(connection.vendor, Config().options.get("schema", "pgevents"))


# Messages.


def _put_on_postgresql(connection: Any, tables: Tables, messages: List[Written]) -> None:
    from ...postgres.outbox import KINDS, PostgresOutbox, given_of

    given = given_of(messages)
    values = ", ".join(f"%s::pg_catalog.{KINDS[name]}[]" for name in given)
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {tables.schema}.publish_many({values})", list(given.values()))
    except DatabaseError as error:
        ours = PostgresOutbox(tables).meaning(error.__cause__)
        if ours is None:
            raise  # the application knows what it does about these
        raise ours from error


def _put_on_sqlite(connection: Any, tables: Tables, messages: List[Written]) -> None:
    from ...sqlite.triggers import context_sql

    wrong = [one.id for one in messages if not one.plain]
    if wrong:
        raise UsageError(
            f"message {wrong[0]!r}: id, delay and expires need Hub.publish() on SQLite, beside"
            " Django's connection"
        )
    sql = (
        f"INSERT INTO {tables.name('log')} (topic, operation, old, new, context)"
        f" VALUES (%s, 'read', %s, %s, {context_sql(tables).replace('%', '%%')})"
    )
    given = [(topic_of(one.channel), one.envelope, one.payload) for one in messages]
    try:
        with connection.cursor() as cursor:
            cursor.executemany(sql, given)
    except DatabaseError as error:
        if "no such table" not in str(error):
            raise
        raise NotInstalled(
            f"nothing can be published, the log is not there: {error}. Run manage.py pgevents"
            " install"
        ) from error


# Settings.


@contextlib.contextmanager
def _around_writes(using: Any, name: str, value: str) -> Iterator[None]:
    connection = _connection(using)
    if not connection.in_atomic_block:
        raise UsageError("begin a transaction first, with atomic(): what is set here ends with it")
    settings = _settings(connection)
    before = settings.get(name)
    settings.put(name, value)
    try:
        yield
    except BaseException:
        # Somebody may catch it and commit; where a statement failed nobody can, and the
        # setting goes with the rollback.
        with contextlib.suppress(DatabaseError, TransactionManagementError):
            settings.put(name, before)
        raise
    settings.put(name, before)


def _settings(connection: Any) -> Any:
    if connection.vendor == "postgresql":
        return _OfTransaction(connection)
    return _InRows(connection, _tables(connection).name("settings"))


class _OfTransaction:
    """PostgreSQL's settings, which end with the transaction."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def get(self, name: str) -> Optional[str]:
        return _value(
            self._connection,
            "SELECT pg_catalog.current_setting(%s, true)",
            [f"pgevents.{name}"],
        )

    def put(self, name: str, value: Optional[str]) -> None:
        _value(
            self._connection,
            "SELECT pg_catalog.set_config(%s, %s, true)",
            [f"pgevents.{name}", value or ""],
        )


class _InRows:
    """SQLite's rows of the settings table, which must be gone before the commit."""

    def __init__(self, connection: Any, table: str) -> None:
        self._connection = connection
        self._table = table

    def get(self, name: str) -> Optional[str]:
        return _value(self._connection, f"SELECT value FROM {self._table} WHERE name = %s", [name])

    def put(self, name: str, value: Optional[str]) -> None:
        with self._connection.cursor() as cursor:
            if value is None:
                cursor.execute(f"DELETE FROM {self._table} WHERE name = %s", [name])
                return
            cursor.execute(
                f"INSERT OR REPLACE INTO {self._table} (name, value) VALUES (%s, %s)",
                [name, value],
            )


def _value(connection: Any, sql: str, given: List[Any]) -> Optional[str]:
    with connection.cursor() as cursor:
        cursor.execute(sql, given)
        row = cursor.fetchone()
    return None if row is None or row[0] is None else str(row[0])
