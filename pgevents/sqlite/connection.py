"""Connections to a SQLite file: how they are made, and what errors mean."""

import contextlib
import os
import pathlib
import sqlite3
import time
from typing import Any, Iterator, Optional, Tuple
from urllib.parse import unquote

from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.engine import Engine

from ..errors import DatabaseError, Denied, NotInstalled, Unavailable, Unsupported, UsageError

OLDEST = (3, 30, 0)  # SQLite, for FILTER in the triggers
BUSY = 5.0  # seconds that a writer of ours waits for the others


def path_of(bind: Any) -> str:
    """Return the file that a URL or an Engine opens. Raises UsageError for a database in memory.

    One connection of an Engine is asked: ``creator``, ``connect_args`` and
    hooks may open another file than its URL names.
    """
    named = _named_by(bind.url if isinstance(bind, Engine) else bind)
    opened = _opened_by(bind) if isinstance(bind, Engine) else None
    if opened and (named is None or os.path.realpath(named) != os.path.realpath(opened)):
        return os.path.abspath(opened)
    if named is None or opened == "":
        raise UsageError(
            "a SQLite database in memory belongs to one connection, nobody else can watch it:"
            " use a file"
        )
    return named  # the same, perhaps by a link, which may lead elsewhere one day


def _named_by(url: Any) -> Optional[str]:
    (name, *_), options = SQLiteDialect_pysqlite().create_connect_args(url)
    if not name or name == ":memory:" or "mode=memory" in name or name.startswith("file::memory:"):
        return None
    if options.get("uri") or name.startswith("file:"):
        name = unquote(name[len("file:") :].partition("?")[0])
    return os.path.abspath(name)


def _opened_by(engine: Engine) -> Optional[str]:
    """Return the file, "" for one in memory; None where the Engine cannot be asked now."""
    # In SQLAlchemy 1.4 only the dialect of an Engine knows that.
    if getattr(engine.dialect, "is_async", False):
        return None
    pool = engine.pool.recreate()  # not from its own: the application may have taken all
    try:
        pooled: Any = pool.connect()
        cursor = pooled.cursor()
        # Not yet made by this: SQLite opens a file when it is read.
        cursor.execute("PRAGMA database_list")
        found = [row[2] for row in cursor.fetchall() if row[1] == "main"]
        cursor.close()
        pooled.close()
        return str(found[0] or "")
    except Exception:
        return None  # whatever it is, the hub reports it when it connects itself
    finally:
        pool.dispose()


def connect(path: str, timeout: float = BUSY) -> sqlite3.Connection:
    """Return a connection that commits each statement; ``timeout`` is for locks, in seconds.

    The file must exist: a file that went away is not created again. Raises a
    DatabaseError; Unsupported where Python's SQLite is older than the triggers need.
    """
    if sqlite3.sqlite_version_info < OLDEST:
        needed = ".".join(map(str, OLDEST))
        raise Unsupported(
            f"Python has SQLite {sqlite3.sqlite_version} here, and the triggers need {needed} or"
            " newer, in each program that writes"
        )
    with translated():
        try:
            connection = sqlite3.connect(
                pathlib.Path(path).as_uri() + "?mode=rw",
                uri=True,
                timeout=timeout,
                isolation_level=None,
                check_same_thread=False,
            )
        except sqlite3.OperationalError as error:
            raise Unavailable(f"the SQLite file {path} cannot be opened: {error}") from error
        # Text that is no UTF-8 must not make us deaf.
        connection.text_factory = _lenient
        return connection


def _lenient(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn sqlite3's errors into ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise translation(error) from error


def busy(error: BaseException) -> bool:
    """Tell whether an error means that somebody else holds a lock."""
    sentence = str(error)
    return isinstance(error, sqlite3.OperationalError) and (
        "is locked" in sentence or "schema has changed" in sentence
    )


@contextlib.contextmanager
def one_view(connection: sqlite3.Connection) -> Iterator[None]:
    """Within the block, see the file as it is now: others may be installing."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


@contextlib.contextmanager
def writing(connection: sqlite3.Connection, deadline: Optional[float] = None) -> Iterator[None]:
    """Run the block in a transaction that may write, committed at its end.

    Raises Unavailable when another writer is at it until ``deadline``
    (``time.monotonic()``), or for BUSY seconds.
    """
    begun = time.monotonic()
    patience = BUSY if deadline is None else max(0.0, deadline - begun)
    connection.execute(f"PRAGMA busy_timeout = {int(patience * 1000)}")
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if not busy(error):
            raise
        raise Unavailable(
            f"no lock on the SQLite file for {time.monotonic() - begun:.1f} s: a transaction that"
            " writes to it has been open all the time"
        ) from error
    finally:
        connection.execute(f"PRAGMA busy_timeout = {int(BUSY * 1000)}")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    # A reader may hold the file for a moment, in the journal modes that lock readers out.
    deadline = time.monotonic() + BUSY
    while True:
        try:
            connection.execute("COMMIT")
            return
        except sqlite3.OperationalError as error:
            if not busy(error) or time.monotonic() > deadline:
                connection.execute("ROLLBACK")
                raise


def autocommits(raw: Any) -> bool:
    """Tell whether a connection of sqlite3's commits each statement that is in no transaction."""
    # By default it begins a transaction before the first statement that writes.
    return raw.isolation_level is None or getattr(raw, "autocommit", None) is True


def identity(path: str) -> Optional[Tuple[int, int]]:
    """Return what differs between files of the same name; None if there is no file."""
    # stat() only: closing a descriptor of the file would drop SQLite's locks.
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def same_file(one: str, other: str) -> bool:
    """Tell whether two paths mean one file."""
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    found = identity(one)  # by another name: a hard link, a mount
    return found is not None and found == identity(other)


def translation(error: Any) -> Exception:
    """Return our error for one of sqlite3's."""
    sentence = str(error)
    if busy(error):
        return Unavailable(f"another connection has the SQLite file locked: {sentence}")
    if "unable to open" in sentence or "disk I/O" in sentence:
        return Unavailable(f"the SQLite file cannot be read: {sentence}")
    if "readonly" in sentence or "read-only" in sentence:
        return Denied(f"the SQLite file cannot be written: {sentence}")
    if "no such function" in sentence:
        return Unsupported(f"SQLite {sqlite3.sqlite_version} cannot serve: {sentence}")
    if "no such table" in sentence:
        return NotInstalled(f"the log is not there: {sentence}")
    return DatabaseError(f"SQLite reports: {sentence}")
