"""Where a URL or an Engine leads, as psycopg2 takes it."""

import contextlib
import ssl
import threading
from typing import Any, Callable, Dict, Iterator, NamedTuple, Optional

import psycopg2
import psycopg2.extensions
from sqlalchemy import event
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2
from sqlalchemy.engine import Engine

from ..errors import PgEventsError, Unavailable, UsageError
from .session import FIRST, First
from .translation import of_another_driver, translated

CONNECT_TIMEOUT = 10.0  # seconds; a server that takes longer is as good as none

#: The default; the URL may have another. A peer that vanished is noticed by the
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

#: SQLAlchemy's names, and other drivers', for what libpq calls otherwise.
_RENAMED = {"database": "dbname", "unix_sock": "host", "timeout": "connect_timeout"}

#: Which database of which server a session is in, for a writer's and one of ours.
WHERE = (
    "SELECT pg_catalog.current_database(),"
    " pg_catalog.date_part('epoch', pg_catalog.pg_postmaster_start_time())"
)
SAME_START = 0.001  # seconds by which two drivers may differ about a server's start


class Place(NamedTuple):
    """Where the connections of an Engine stand."""

    database: str
    started: float  # the server, in seconds since 1970
    path: str  # the search_path

    def is_of(self, first: First) -> bool:
        """Tell whether a session of ours is in the same database of the same server."""
        return is_same((self.database, self.started), (first.database, first.started))


def is_same(one: Any, other: Any) -> bool:
    """Tell whether two rows of WHERE are of one database."""
    return bool(one[0] == other[0] and abs(float(one[1]) - float(other[1])) < SAME_START)


class Address:
    """Where a URL or an Engine leads, as psycopg2 takes it.

    All of the URL counts: hosts, sockets, ``options``, TLS, a service. The
    driver of an Engine does not: its connections are its own, ours are
    psycopg2's. What an Engine adds (``connect_args``, hooks that set the
    search_path, ``creator``) is taken from one of its connections, when we
    first connect; ``place`` tells where that one stood.
    """

    def __init__(self, bind: Any) -> None:
        self._known: Optional[Dict[str, Any]] = None
        self._last: Optional[Dict[str, Any]] = None  # what was known before it was forgotten
        self.place: Optional[Place] = None
        self._compared = False
        self.ask: Any = None  # what the watchdog asks the server with
        self.keeps_sessions = False  # a pooler in between was seen to
        self._bind = bind

    def is_of(self, engine: Engine) -> bool:
        """Tell whether an Engine is ours, or has our URL but for the user."""
        if isinstance(self._bind, Engine) and engine.pool is self._bind.pool:
            return True
        ours = self._bind.url if isinstance(self._bind, Engine) else self._bind
        return bool(_spot(engine.url) == _spot(ours))

    def parameters(self) -> Dict[str, Any]:
        """Return psycopg2's arguments. Raises a DatabaseError."""
        known = self._known
        if known is None:
            known = {**_DEFAULTS, **self._given(), **_ALWAYS}
            self._known = self._last = known
        return known

    def forget(self) -> None:
        """Ask the Engine again next time: some make a new password now and then."""
        self._known, self._compared = None, False

    def as_known(self) -> "Address":
        """Return the same by what was last known of it: no code of the application runs for it."""
        return _Known(self._bind, self._last, self.keeps_sessions)

    def leads_to(self, first: First) -> bool:
        """Tell whether a session of ours is where the Engine's connections are.

        The first session is compared; the server may have moved since.
        """
        place, compared, self._compared = self.place, self._compared, True
        return place is None or compared or place.is_of(first)

    def _given(self) -> Dict[str, Any]:
        bind = self._bind
        given = _of_url(bind.url if isinstance(bind, Engine) else bind)
        if isinstance(bind, Engine) and bind.dialect.driver in _USED:
            # In SQLAlchemy 1.4 only the dialect of an Engine knows that.
            if not getattr(bind.dialect, "is_async", False):
                given.update(self._used(bind))
        return given

    def _used(self, engine: Engine) -> Dict[str, Any]:
        """Return what an Engine's connections are really made with, but for the defaults."""
        # Not from its own pool: the application may have taken all there are.
        pool = engine.pool.recreate()
        try:
            with _any_error_translated(engine), _noting(engine) as noted:
                pooled: Any = pool.connect()
                cursor = pooled.cursor()
                used = _USED[engine.dialect.driver](cursor, noted)
                cursor.execute(FIRST)
                first = First.of(tuple(cursor.fetchone()))
                self.place = Place(first.database, first.started, first.lent["search_path"])
                pooled.close()
            return known_to_libpq(used)
        finally:
            pool.dispose()


class _Known(Address):
    """An address that asks no Engine, and forgets nothing."""

    def __init__(self, bind: Any, last: Optional[Dict[str, Any]], keeps_sessions: bool) -> None:
        super().__init__(bind)
        self._last = last
        self.keeps_sessions = keeps_sessions

    def parameters(self) -> Dict[str, Any]:
        if self._last is None:
            raise Unavailable("no connection has been made yet, so its address is not known")
        return self._last

    def forget(self) -> None:
        """Do nothing: whoever may ask the Engine does so."""


def _spot(url: Any) -> Any:
    return url.host, url.port or 5432, url.database, url.query.get("host")


def _of_url(url: Any) -> Dict[str, Any]:
    args, given = PGDialect_psycopg2().create_connect_args(url)  # type: ignore[no-untyped-call]
    if args:
        given.update(psycopg2.extensions.parse_dsn(args[0]))
    given = {_RENAMED.get(name, name): value for name, value in given.items()}
    for foreign in ("prepared_statement_cache_size", "async_fallback", "server_side_cursors"):
        given.pop(foreign, None)
    return dict(given)


def _of_psycopg2(cursor: Any, noted: Dict[str, Any]) -> Dict[str, Any]:
    found = cursor.connection.info
    used = {name: value for name, value in found.dsn_parameters.items() if value != ""}
    return {**used, **({"password": found.password} if found.password else {})}


def _of_psycopg(cursor: Any, noted: Dict[str, Any]) -> Dict[str, Any]:
    found = cursor.connection.info
    used = dict(found.get_parameters())
    return {**used, **({"password": found.password} if found.password else {})}


def _of_pg8000(cursor: Any, noted: Dict[str, Any]) -> Dict[str, Any]:
    used = {_RENAMED.get(name, name): value for name, value in noted.items() if value is not None}
    if isinstance(used.get("ssl_context"), ssl.SSLContext) or used.get("ssl_context") is True:
        used["sslmode"] = "require"
    if "unix_sock" in noted and noted["unix_sock"]:
        # It takes the socket itself, libpq its directory.
        used["host"] = str(noted["unix_sock"]).rpartition("/")[0]
    if "connect_timeout" in used:
        used["connect_timeout"] = max(2, int(used["connect_timeout"]))
    return used


#: How what an Engine's connection was made with is found out: driver → function.
_USED: Dict[str, Callable[[Any, Dict[str, Any]], Dict[str, Any]]] = {
    "psycopg2": _of_psycopg2,
    "psycopg": _of_psycopg,
    "pg8000": _of_pg8000,
}


@contextlib.contextmanager
def _noting(engine: Engine) -> Iterator[Dict[str, Any]]:
    """Give the arguments that this thread's connections are made with in the block."""
    noted: Dict[str, Any] = {}
    thread = threading.get_ident()

    # Behind all the hooks that the application has there, which may change them.
    def note(dialect: Any, record: Any, args: Any, arguments: Dict[str, Any]) -> None:
        if threading.get_ident() == thread:
            noted.update(arguments)

    event.listen(engine, "do_connect", note)
    try:
        yield noted
    finally:
        event.remove(engine, "do_connect", note)


@contextlib.contextmanager
def _any_error_translated(engine: Engine) -> Iterator[None]:
    driver: Any = getattr(engine.dialect, "dbapi", None)
    try:
        with translated():
            yield
    except PgEventsError:
        raise
    except Exception as error:
        if isinstance(error, getattr(driver, "Error", ())):
            raise of_another_driver(error) from error
        # Its text is the application's own: who knows what stands in it.
        raise Unavailable(f"the Engine cannot connect: {type(error).__name__}") from error


def known_to_libpq(arguments: Dict[str, Any]) -> Dict[str, Any]:
    """Return those that libpq knows; the others are the driver's own."""
    found = {}
    for name, value in arguments.items():
        with contextlib.suppress(psycopg2.ProgrammingError):
            psycopg2.extensions.make_dsn(**{name: value})
            found[name] = value
    return found


def elsewhere(place: Optional[Place], first: First) -> UsageError:
    """Return the error for an Engine that connects to another place than we do."""
    assert place is not None
    return UsageError(
        f"the Engine's connections are in the database {place.database!r} of a server that was"
        f" started at {place.started:.0f} (seconds since 1970), those of pgevents in"
        f" {first.database!r} of one started at {first.started:.0f}: give the hub the URL of the"
        " database that the Engine writes to"
    )
