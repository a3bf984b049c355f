"""A session of ours on the server: how it is set up, and that no statement waits for ever.

What we send names its tables with their schema, but operators, functions and types are found
through the search_path, and there somebody may have put look-alikes of PostgreSQL's own. So a
session of ours looks into pg_catalog alone. What the application's search_path is, the session
remembers: tables that are named without a schema are found by it, and a transactional listener
gets it back.
"""

import contextlib
import json
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

import psycopg2.extensions

from .encoding import RawCursor
from .watchdog import Ask, Watch

SAFE_PATH = "pg_catalog, pg_temp"

#: Milliseconds. Ends a session that waits for a client which is not there any more, and
#: gives its locks back; a statement of ours follows the one before at once.
ABANDONED = 8000

#: Before anything else, so each function is named in full.
GIVE_PATH = "SELECT pg_catalog.set_config('search_path', %s, false)"
FIRST = """
SELECT pg_catalog.pg_backend_pid(), pg_catalog.current_database(),
       pg_catalog.date_part('epoch', pg_catalog.pg_postmaster_start_time()),
       pg_catalog.array_to_json(pg_catalog.current_schemas(true))::pg_catalog.text,
       pg_catalog.current_setting('search_path'),
       pg_catalog.current_setting('idle_in_transaction_session_timeout'),
       pg_catalog.current_setting('lock_timeout'),
       pg_catalog.current_setting('transaction_timeout', true)
"""

#: In the same trip, and after all that stands before it was looked at: a SELECT list is computed
#: from left to right. Not behind a pooler: it would be set for others, perhaps.
_SET_IF_DIRECT = """, CASE WHEN pg_catalog.pg_backend_pid() OPERATOR(pg_catalog.=) %s
                         THEN ARRAY[{calls}] END"""

#: Whatever the database's defaults are: we write, and a serializable transaction of ours
#: could make one of the application's fail. And we are idle for long.
_ALWAYS = {
    "search_path": SAFE_PATH,
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
}

_SET_CONFIG = "pg_catalog.set_config(%s, %s, %s)"

#: What other systems do not have, they refuse.
_ON_LINUX = f"""
CASE WHEN pg_catalog.strpos(pg_catalog.version(), 'linux') OPERATOR(pg_catalog.>) 0
     THEN {_SET_CONFIG} END
"""

#: What a transactional listener gets back, in the order of FIRST.
_LENT = (
    "search_path",
    "idle_in_transaction_session_timeout",
    "lock_timeout",
    "transaction_timeout",
)


class First(NamedTuple):
    """What FIRST returns."""

    pid: int  # of the server's process
    database: str
    started: float  # the server, in seconds since 1970
    schemas: Tuple[str, ...]  # where the application's search_path leads
    lent: Dict[str, str]  # settings as the application has them

    @classmethod
    def of(cls, row: Tuple[Any, ...]) -> "First":
        """Return it from the row."""
        lent = {name: value for name, value in zip(_LENT, row[4:]) if value is not None}
        pid, database, started = row[:3]
        return cls(pid, database, started, tuple(json.loads(row[3])), lent)


class Session(psycopg2.extensions.connection):
    """A connection of ours; ``settle()`` comes first."""

    pid = 0  # of the server's process
    schemas: Tuple[str, ...] = ()  # where tables are found that are named without one
    ask: Optional[Ask] = None
    direct = False  # no pooler stands between

    @property
    def default_schema(self) -> Optional[str]:
        """Where the application's tables are made that are named without a schema."""
        return next((name for name in self.schemas if not name.startswith("pg_")), None)

    def ask_first(self, path: Optional[str], **more: str) -> First:
        """Return what there is to know first; with ``path`` the search_path is that one before.

        Unless a pooler stands between, the session is set up then, with ``more`` settings than
        all have.
        """
        named, ours = self.info.backend_pid, settings(self.server_version, **more)
        calls, bound = _calls(ours)
        give, given = (GIVE_PATH + ";", [path]) if path is not None else ("", [])
        cursor = self.cursor()
        cursor.execute(give + FIRST + _SET_IF_DIRECT.format(calls=calls), [*given, named, *bound])
        first = First.of(cursor.fetchone())  # type: ignore[arg-type]
        self._ours = ours
        self.direct = first.pid == named
        return first

    def settle(self, found: First, ask: Ask) -> None:
        """Set the session up, unless that is done."""
        self.pid, self.schemas, self.ask = found.pid, found.schemas, ask
        self._theirs = found.lent
        if not self.direct:
            self._set(self._ours)

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """Within the block and the transaction, have the settings that the application knows."""
        self._set(self._theirs, local=True)
        yield
        # For the session: the listener may have set something for it, too.
        self._set({name: self._ours.get(name, value) for name, value in self._theirs.items()})

    def commit(self) -> None:
        with self.watched():
            super().commit()

    def rollback(self) -> None:
        with self.watched():
            super().rollback()

    def watched(self) -> Any:
        """Within the block a statement is under way."""
        if self.ask is None:
            return contextlib.nullcontext()
        return Watch(self, self.pid, self.ask)

    def _set(self, values: Dict[str, str], local: bool = False) -> None:
        calls, bound = _calls(values, local)
        with self.cursor() as cursor:
            cursor.execute(f"SELECT {calls}", bound)


class WatchedCursor(psycopg2.extensions.cursor):
    """A cursor of a ``Session``: each of its statements is watched."""

    def execute(self, query: Any, vars: Any = None) -> None:
        session: Any = self.connection
        with session.watched():
            super().execute(query, vars)

    def executemany(self, query: Any, vars_list: Any) -> None:
        session: Any = self.connection
        with session.watched():
            super().executemany(query, vars_list)


class WatchedRawCursor(WatchedCursor, RawCursor):
    """The same, where the server converts nothing."""


def settings(server_version: int, **more: str) -> Dict[str, str]:
    """Return what a session of ours is set to, by the settings' names."""
    found = {**_ALWAYS, "idle_in_transaction_session_timeout": str(ABANDONED), **more}
    if server_version >= 140000:
        found["idle_session_timeout"] = "0"
    if server_version >= 170000:
        found["transaction_timeout"] = "0"
    # A server that cannot send the rest of its answer keeps its locks as long.
    found["tcp_user_timeout"] = str(ABANDONED)
    return found


def _calls(values: Dict[str, str], local: bool = False) -> Tuple[str, List[Any]]:
    """Return the SQL that sets these, and what is bound to it."""
    calls = [_ON_LINUX if name == "tcp_user_timeout" else _SET_CONFIG for name in values]
    return ", ".join(calls), [each for pair in values.items() for each in (*pair, local)]
