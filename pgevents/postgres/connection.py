"""Connections to PostgreSQL: how they are made, waited for, lost, and what errors mean."""

import contextlib
import os
import time
from typing import Any, Dict, Iterator, List, Optional, Tuple

import psycopg2
import psycopg2.extensions
from sqlalchemy import create_engine
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from ..errors import DatabaseError, Denied, NotInstalled, PgEventsError, Unavailable, Unsupported
from ..threads import Waker
from .encoding import RawCursor, encoding_of

CONNECT_TIMEOUT = 10.0  # seconds; a server that takes longer is as good as none

_AS_STORED = "SET client_encoding = '{}'"

#: Unless the URL says otherwise. A peer that vanished is noticed by the
#: kernel, too, where the reader's own probe does not come to it first.
_DEFAULTS: Dict[str, Any] = {
    "fallback_application_name": "pgevents",
    "connect_timeout": int(CONNECT_TIMEOUT),
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 10000,
}

#: Whatever the URL says: to us a letter that the application does not use counts, too.
_ALWAYS = {"client_encoding": "UTF8"}

#: An event reads its JSON and its time itself, when it is asked for them.
_OWN_READING = (114, 1184)
_AS_TEXT = psycopg2.extensions.new_type(_OWN_READING, "TEXT", psycopg2.extensions.UNICODE)

_NO_TABLE = "42P01"
#: What a server says, in any language, when a right is missing.
_DENIED = {"42501", "28000", "28P01"}
#: … and when it cannot be had now: shutdown, start, too many connections, lost, cancelled.
_UNAVAILABLE_CLASSES = ("08", "53", "57", "58")
_READ_ONLY = "25006"
_PRIMARY = "Give the address of the primary, or target_session_attrs=read-write"


class Address:
    """Where a URL or an Engine leads, as psycopg2 takes it.

    All of the URL counts: hosts, sockets, ``options``, TLS, a service. The
    driver of an Engine does not: its connections are its own, ours are
    psycopg2's. What a psycopg2 Engine adds (``connect_args``, ``creator``) is
    taken from one of its connections, when we first connect.
    """

    def __init__(self, bind: Any) -> None:
        self._bind = bind
        self._known: Optional[Dict[str, Any]] = None

    def connect(self, **more: Any) -> Any:
        """Return a new psycopg2 connection. Raises a DatabaseError."""
        try:
            with translated():
                return psycopg2.connect(**self.parameters(), **more)
        except Denied:
            self.forget()
            raise

    def parameters(self) -> Dict[str, Any]:
        """Return psycopg2's arguments. Raises a DatabaseError."""
        known = self._known
        if known is None:
            known = self._known = {**_DEFAULTS, **self._given(), **_ALWAYS}
        return known

    def forget(self) -> None:
        """Ask the Engine again next time: some make a new password now and then."""
        self._known = None

    def _given(self) -> Dict[str, Any]:
        bind = self._bind
        url = bind.url if isinstance(bind, Engine) else bind
        args, given = PGDialect_psycopg2().create_connect_args(url)  # type: ignore[no-untyped-call]
        if args:
            given.update(psycopg2.extensions.parse_dsn(args[0]))
        if "database" in given:  # SQLAlchemy 1.4's word for it
            given["dbname"] = given.pop("database")
        if isinstance(bind, Engine) and bind.dialect.driver == "psycopg2":
            given.update(_used_by(bind))
        for foreign in ("prepared_statement_cache_size", "async_fallback", "server_side_cursors"):
            given.pop(foreign, None)
        return dict(given)


def _used_by(engine: Engine) -> Dict[str, Any]:
    """Return what an Engine's connections are really made with, but for the defaults."""
    # Not from its own pool: the application may have taken all there are.
    pool = engine.pool.recreate()
    try:
        with translated():
            connection = pool.connect()
        found = info(connection)
        used = {name: value for name, value in found.dsn_parameters.items() if value != ""}
        if found.password:
            used["password"] = found.password
        connection.close()
        return used
    finally:
        pool.dispose()


def info(pooled: Any) -> Any:
    """Return what psycopg2 knows of a pooled connection; SQLAlchemy's names for it change."""
    return pooled.cursor().connection.info


def connect(address: Address) -> Any:
    """Return a new psycopg2 connection in autocommit mode. Raises a DatabaseError."""
    return _writing(address.connect(), autocommit=True)


def _writing(connection: Any, autocommit: bool) -> Any:
    # Whatever the database's default is: we write, and a serializable transaction of
    # ours could make one of the application's fail. Not by set_session(): a standby
    # refuses READ WRITE, before we can say what it is.
    with translated():
        connection.autocommit = True
        _convert_nothing(connection)
        connection.cursor().execute(
            "SET default_transaction_isolation = 'read committed';"
            " SET default_transaction_read_only = off; SET default_transaction_deferrable = off"
        )
        connection.autocommit = autocommit
    return connection


def _convert_nothing(connection: Any) -> None:
    """Let text come as it is stored, where that is not UTF-8: see encoding.py."""
    encoding = encoding_of(connection)
    if encoding is None:
        return
    if encoding.name == "SQL_ASCII":
        # Not so that psycopg2 knows, who would take all for ASCII: a transactional
        # listener may read values that do not come through RawCursor's hands.
        connection.cursor().execute(_AS_STORED.format(encoding.name))
    else:
        connection.set_client_encoding(encoding.name)
    connection.cursor_factory = RawCursor


def engine(address: Address, **options: Any) -> Engine:
    """Return an Engine on our own connections; without ``options`` it keeps none of them."""
    return create_engine(
        "postgresql+psycopg2://",
        creator=lambda: _writing(address.connect(), autocommit=False),
        **(options or {"poolclass": NullPool}),
    )


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn psycopg2's errors into ours. The server's sentence is kept, values are not."""
    try:
        yield
    except psycopg2.Error as error:
        raise _translation(error) from error
    except SQLAlchemyError as error:
        # It wraps the driver's errors; what is its own is said of a connection that was lost.
        cause = getattr(error, "orig", None)
        if isinstance(cause, psycopg2.Error):
            raise _translation(cause) from error
        raise Unavailable(f"the connection to PostgreSQL was lost: {error}") from error


def _translation(error: psycopg2.Error) -> PgEventsError:
    code = error.pgcode or ""
    sentence = " ".join(str(error).split("\nCONTEXT")[0].split()) or type(error).__name__
    if code == _NO_TABLE:
        return NotInstalled(f"the log is not there: {sentence}")
    if code in _DENIED or (not code and "authentication failed" in sentence):
        return Denied(f"PostgreSQL refuses: {sentence}")
    if code == _READ_ONLY:
        return Unsupported(f"this server is a standby, or set to be read only. {_PRIMARY}")
    if code.startswith(_UNAVAILABLE_CLASSES):
        return Unavailable(f"PostgreSQL is not available: {sentence}")
    if not code and isinstance(error, (psycopg2.OperationalError, psycopg2.InterfaceError)):
        return Unavailable(f"no connection to PostgreSQL: {sentence}")
    if "pg_notification_queue_usage" in sentence or "could not access status" in sentence:
        sentence += " (a known fault of the server: SELECT pg_notification_queue_usage() cures it)"
    return DatabaseError(f"PostgreSQL says: {sentence}")


class Listening:
    """The one connection of a process that listens.

    It is in psycopg2's asynchronous mode, so that every statement has a
    deadline: a peer that is silent is taken for lost. One thread uses it;
    ``waker.wake()`` and ``interrupt()`` may come from any.
    """

    def __init__(self, address: Address, waker: Waker) -> None:
        self._address = address
        self._waker = waker
        self._connection: Any = None
        self._cursor: Any = None
        self.interrupted = False

    @property
    def open(self) -> bool:
        """Tell whether there is a connection that is not known to be lost."""
        return self._connection is not None

    @property
    def pid(self) -> int:
        """The server's process, as we were told when we connected."""
        return int(self._connection.info.backend_pid)

    def connect(self) -> None:
        """Connect, within CONNECT_TIMEOUT. Raises a DatabaseError."""
        self.close()
        self._connection = self._address.connect(async_=1)
        try:
            with translated():
                self._finish(CONNECT_TIMEOUT)
                self._cursor = self._new_cursor()
        except BaseException as error:
            self.close()
            if isinstance(error, Denied):
                self._address.forget()
            raise

    def run(self, sql: str, values: Any, timeout: float) -> List[Any]:
        """Run a statement, or several, and return the last one's rows.

        Raises Unavailable when nothing has come for ``timeout`` seconds, or the
        connection is lost; it is closed then. A long answer over a slow link
        may take longer.
        """
        if self._connection is None:
            raise Unavailable("the connection to PostgreSQL is closed")
        try:
            with translated():
                self._cursor.execute(sql, values)
                self._finish(timeout, since_last=True)
                return self._cursor.fetchall() if self._cursor.description else []
        except BaseException:
            # Whatever it was, the state of the session is not known any more.
            self.close()
            raise

    def notified(self) -> bool:
        """Tell whether a notification has come since the last call, with whatever answer."""
        notifies = self._connection.notifies
        came = bool(notifies)
        notifies.clear()
        return came

    def sleep(self, timeout: float) -> None:
        """Sleep until a notification, ``waker.wake()`` or ``timeout`` seconds.

        Raises Unavailable when the connection is lost meanwhile.
        """
        # What came with the answer to a statement does not fire again, and psycopg2 may have
        # left it unread in libpq's buffer.
        self._poll()
        if self._connection.notifies or self._waker.woken or self.interrupted:
            self._waker.woken = False
            return
        if self._waker.sleep(timeout, self._connection.fileno()):
            self._poll()
        self._waker.woken = False

    def close(self) -> None:
        """Close the connection, lost or not. Safe twice."""
        connection, self._connection, self._cursor = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(psycopg2.Error):
                connection.close()

    def abandon(self) -> None:
        """In a forked child: drop the parent's connection so that the parent does not notice."""
        connection, self._connection, self._cursor = self._connection, None, None
        if connection is None or connection.closed:
            return
        # close() would say goodbye on the parent's session: let the descriptor
        # lead nowhere first.
        devnull = os.open(os.devnull, os.O_RDWR)
        try:
            with contextlib.suppress(psycopg2.Error, OSError):
                os.dup2(devnull, connection.fileno())
        finally:
            os.close(devnull)

    def _poll(self) -> None:
        try:
            with translated():
                self._connection.poll()
        except BaseException:
            self.close()
            raise

    def _new_cursor(self) -> Any:
        connection = self._connection
        cursor = connection.cursor()
        encoding = encoding_of(connection)
        if encoding is None:
            psycopg2.extensions.register_type(_AS_TEXT, cursor)
            return cursor
        cursor.execute(_AS_STORED.format(encoding.name))
        self._finish(CONNECT_TIMEOUT)
        raw = connection.cursor(cursor_factory=RawCursor)
        raw.leave_as_text(*_OWN_READING)
        return raw

    def _finish(self, timeout: float, since_last: bool = False) -> None:
        """Wait until all is done, ``timeout`` seconds in all, or since the last sign of life."""
        deadline = time.monotonic() + timeout
        connection = self._connection
        while True:
            state = connection.poll()
            if state == psycopg2.extensions.POLL_OK:
                return
            left = deadline - time.monotonic()
            if self.interrupted:
                raise Unavailable("the hub is being stopped")
            if left <= 0:
                raise Unavailable(f"PostgreSQL has not answered for {timeout:.0f} s")
            # Ready to read: bytes have come. To write: the peer has taken some.
            ready = self._waker.sleep(
                left, connection.fileno(), state == psycopg2.extensions.POLL_WRITE
            )
            if ready and since_last:
                deadline = time.monotonic() + timeout


def primary_only(connection_row: Tuple[Any, ...]) -> None:
    """Raise Unsupported where LISTEN or the cursor cannot work.

    ``connection_row``: is it in recovery, server_version_num, its version.
    """
    in_recovery, number, version = connection_row
    if in_recovery:
        raise Unsupported(
            "this server is a standby: it has no LISTEN, and its snapshots cannot serve as"
            f" cursors. {_PRIMARY}"
        )
    if int(number) < 140000:
        raise Unsupported(f"PostgreSQL {version} is too old: pgevents needs 14 or newer")
