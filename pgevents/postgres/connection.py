"""Connections to PostgreSQL: how they are made, waited for, lost, and what errors mean."""

import contextlib
import functools
import os
import time
from typing import Any, List, Optional, Set, Tuple

import psycopg2
import psycopg2.extensions
from sqlalchemy import create_engine
from sqlalchemy.engine import Engine
from sqlalchemy.pool import NullPool

from ..errors import Denied, Unavailable, Unsupported, UsageError
from ..threads import Waker
from .address import CONNECT_TIMEOUT, Address, elsewhere
from .encoding import RawCursor, encoding_of
from .session import SAFE_PATH, First, Session, WatchedCursor, WatchedRawCursor
from .translation import PRIMARY, translated
from .watchdog import Ask

ASKED = 3.0  # seconds in which a server has to answer what a session does
POOLER_PATIENCE = 2.0  # seconds in which a notification has to come through a pooler

_AS_STORED = "SET client_encoding = '{}'"

#: An event reads its JSON and its time itself, when it is asked for them.
_OWN_READING = (114, 1184)
_AS_TEXT = psycopg2.extensions.new_type(_OWN_READING, "TEXT", psycopg2.extensions.UNICODE)

#: In one trip, where no pooler stands between: else it would be set for others, perhaps.
_SAFE_IF_DIRECT = f"""
SELECT CASE WHEN pg_catalog.pg_backend_pid() OPERATOR(pg_catalog.=) %s
            THEN pg_catalog.set_config('search_path', '{SAFE_PATH}', false) END
"""

#: Of these sessions, which work: neither waits for its client, to ask or to take an answer.
#: "disabled" is all that a server reports with track_activities off, but for what a session waits
#: for. The role that a login is given by default may not see the login's own sessions.
_WORKING = """
SET LOCAL ROLE NONE;
SELECT pid FROM pg_stat_activity
 WHERE pid = ANY (%s) AND state IN ('active', 'disabled')
   AND coalesce(wait_event, '') NOT IN ('ClientRead', 'ClientWrite')
"""


def info(pooled: Any) -> Any:
    """Return what psycopg2 knows of a pooled connection; SQLAlchemy's names for it change."""
    return session_of(pooled).info


def session_of(pooled: Any) -> Any:
    """Return psycopg2's connection behind a pooled one."""
    return pooled.cursor().connection


def connect(address: Address, **more: str) -> Session:
    """Return a new session in autocommit mode, with ``more`` settings. Raises a DatabaseError.

    Raises UsageError where an Engine's own connections lead elsewhere.
    """
    session, first = _open(address, **more)
    if not address.leads_to(first):
        # The server may have been restarted since the Engine was asked.
        session.close()
        address.forget()
        session, first = _open(address, **more)
    try:
        if not address.leads_to(first):
            address.forget()
            raise elsewhere(address.place, first)
        with translated():
            if not session.direct:
                _refuse_transaction_pooler(address)
            session.settle(first, _asker(address))
            _convert_nothing(session)
    except BaseException:
        session.close()
        raise
    return session


def _open(address: Address, **more: str) -> Tuple[Session, First]:
    session: Session = _connected(address, connection_factory=Session)
    # Until the server has named its process: a pooler in between may have named
    # another. What waits there for longer than the watchdog does fails.
    session.pid, session.ask = session.info.backend_pid, _asker(address)
    session.cursor_factory = WatchedCursor
    try:
        with translated():
            session.autocommit = True
            place = address.place
            return session, session.ask_first(place.path if place else None, **more)
    except BaseException:
        session.close()
        raise


def _connected(address: Address, **more: Any) -> Any:
    try:
        with translated():
            return psycopg2.connect(**address.parameters(), **more)
    except Denied:
        address.forget()
        raise
    except (ValueError, TypeError):
        pass
    # Outside the block: the driver's own sentence may repeat a password.
    raise UsageError("the database URL has a part that PostgreSQL cannot be given, such as %00")


def _convert_nothing(connection: Session) -> None:
    """Let text come as it is stored, where that is not UTF-8: see encoding.py."""
    encoding = encoding_of(connection)
    if encoding is None:
        return
    if encoding.name == "SQL_ASCII":
        # Not so that psycopg2 knows, who would take all for ASCII: a transactional
        # listener may read values that do not come through RawCursor's hands.
        connection.cursor().execute(_AS_STORED.format(encoding.name))
    else:
        with connection.watched():
            connection.set_client_encoding(encoding.name)
    connection.cursor_factory = WatchedRawCursor


def _asker(address: Address) -> Ask:
    """Return the function that asks a server what its sessions do; the same for one address."""
    ask: Ask = address.ask or functools.partial(_working, address)
    address.ask = ask
    return ask


def _working(address: Address, pids: List[int]) -> Optional[Set[int]]:
    """Return which of these sessions work; None where the server answers, but not that."""
    waker = Waker()
    # Not the address itself: the watchdog's thread must not wait for the application's code.
    asking = Listening(address.as_known(), waker)
    try:
        asking.connect(ASKED)
        return {row[0] for row in asking.run(_WORKING, (pids,), ASKED)}
    except Denied:
        return None
    except Exception as error:
        return None if "FATAL" in str(error) else set()
    finally:
        asking.close()
        waker.close()


def _refuse_transaction_pooler(address: Address) -> None:
    """Raise Unsupported if a pooler stands between that gives each transaction a session.

    The server's process is not the one that was named to us, so there is a
    pooler. In session mode it passes on what another session notifies. What
    we would set in another mode would be set for others.
    """
    if address.keeps_sessions:
        return
    waker = Waker()
    hearing, ringing = Listening(address, waker), Listening(address, waker)
    channel = f"pgevents_pooler_{os.urandom(8).hex()}"
    try:
        hearing.connect(safe=False)
        hearing.run(f"LISTEN {channel}", None, CONNECT_TIMEOUT)
        ringing.connect(safe=False)
        ringing.run(f"NOTIFY {channel}", None, CONNECT_TIMEOUT)
        deadline = time.monotonic() + POOLER_PATIENCE
        while not hearing.notified():
            left = deadline - time.monotonic()
            if left <= 0:
                hearing.run("UNLISTEN *", None, CONNECT_TIMEOUT)
                raise Unsupported(
                    "between us and PostgreSQL stands a pooler in transaction mode, where LISTEN"
                    " receives no notification: give the hub a direct address, or a pool in"
                    " session mode. Your own connections may stay where they are"
                )
            hearing.sleep(left)
        address.keeps_sessions = True
    finally:
        hearing.close()
        ringing.close()
        waker.close()


def engine(address: Address, **options: Any) -> Engine:
    """Return an Engine on our own connections; without ``options`` it keeps none of them.

    ``settings`` among them are those of the sessions; with ``autocommit`` each statement
    commits itself.
    """
    settings, autocommit = options.pop("settings", {}), options.pop("autocommit", False)

    def create() -> Session:
        session = connect(address, **settings)
        session.autocommit = autocommit
        return session

    return create_engine(
        "postgresql+psycopg2://", creator=create, **(options or {"poolclass": NullPool})
    )


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
        #: Notifications of other channels than our own: channel, payload, process.
        self.others: List[Tuple[str, str, int]] = []

    @property
    def open(self) -> bool:
        """Tell whether there is a connection that is not known to be lost."""
        return self._connection is not None

    @property
    def pid(self) -> int:
        """The server's process, as it was named when we connected."""
        return int(self._connection.info.backend_pid)

    def connect(self, timeout: float = CONNECT_TIMEOUT, safe: bool = True) -> None:
        """Connect, within ``timeout`` seconds. Raises a DatabaseError.

        Unless it is not to be ``safe``, it is refused behind a pooler in transaction mode, and
        finds nothing that looks like PostgreSQL's own functions and operators.
        """
        self.close()
        self._connection = _connected(self._address, async_=1)
        try:
            with translated():
                self._finish(timeout)
                self._cursor = self._connection.cursor()
            if safe:
                self._make_safe(timeout)
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
        """Tell whether a notification has come since the last call, with whatever answer.

        Those that are not about the log are kept for ``others``.
        """
        notifies = self._connection.notifies
        came = bool(notifies)
        for one in notifies:
            if not one.channel.startswith("pgevents_"):
                self.others.append((one.channel, one.payload, one.pid))
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

    def _make_safe(self, timeout: float) -> None:
        if self.run(_SAFE_IF_DIRECT, (self.pid,), timeout) == [(None,)]:
            _refuse_transaction_pooler(self._address)
            self.run(f"SET search_path = {SAFE_PATH}", None, timeout)
        with translated():
            self._cursor = self._new_cursor()

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
            f" cursors. {PRIMARY}"
        )
    if int(number) < 140000:
        raise Unsupported(f"PostgreSQL {version} is too old: pgevents needs 14 or newer")
