"""The Session or Connection that an application writes with.

A Session may write to several databases (``binds``, a ``get_bind()`` of its
own): what is set around writes has to be set where the hub's tables are.
"""

import json
from typing import Any, Callable, Dict, Iterable, List, NoReturn

from sqlalchemy import inspect as sqlalchemy_inspect
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, scoped_session

from ..errors import UsageError
from ..listening.target import Target

CONTEXT_SIZE = 65_536  # bytes of a context; the triggers cut what is longer

_RECIPE = "give the Connection, session.connection(bind_arguments={'mapper': Order})"


def context_text(values: Dict[str, Any]) -> str:
    """Return a context as the triggers store it. Raises UsageError for what they cannot store."""
    try:
        text = json.dumps(values)
    except (TypeError, ValueError) as error:
        raise UsageError(f"a context holds JSON types: {error}") from error
    if len(text) > CONTEXT_SIZE:
        raise UsageError(f"a context of {len(text)} bytes: give {CONTEXT_SIZE} at the most")
    return text


def connection_of(bind: Any, database: Any, targets: Iterable[Target]) -> Connection:
    """Return the Connection to a database behind what somebody writes with.

    A Session begins its transaction. ``database`` is the hub's backend: its
    ``looks_the_same(engine)`` judges by the address, its ``is_behind(connection)``
    asks. Of a Session with several binds, ``targets`` are tables whose bind is tried.
    Raises UsageError where the writes go elsewhere, or where that is not known.
    """
    if isinstance(bind, scoped_session):
        bind = bind()
    if isinstance(bind, Connection):
        if bind.dialect.name == database.dialect and database.is_behind(bind):
            return bind
        raise UsageError(
            f"the Connection writes to {_place(bind)}, which is not this hub's: give the one that"
            " writes to the hub's tables"
        )
    if isinstance(bind, Session):
        return _of_session(bind, database, targets)
    raise UsageError(f"give the Session or Connection that writes, not {type(bind).__name__}")


def _of_session(session: Session, database: Any, targets: Iterable[Target]) -> Connection:
    binds = _binds(session, targets)
    same = [one for one in binds if one.dialect.name == database.dialect]
    likely = [one for one in same if database.looks_the_same(one.engine)]
    if len(likely) > 1:
        raise UsageError(f"the Session has several ways to {_place(likely[0])}: {_RECIPE}")
    # None, where the application goes another way, through a pooler: so they are asked.
    for one in likely or same:
        connection = session.connection(bind_arguments={"bind": one})
        if database.is_behind(connection):
            return connection
    places = ", ".join(_place(one) for one in binds) or "no database that is known"
    raise UsageError(f"the Session writes to {places}, which is not this hub's: {_RECIPE}")


def _binds(session: Session, targets: Iterable[Target]) -> List[Any]:
    """Return the Engines or Connections that a Session is known to write to."""
    asks: List[Callable[[], Any]] = [session.get_bind]
    for target in targets:
        asks += [_ask_for(session, target)] if target.table is not None else []
    found = list(filter(None, map(_answer, asks)))
    # Before SQLAlchemy 2.1 they have no public name.
    binds = getattr(session, "binds", None) or getattr(session, "_Session__binds", {})
    found += binds.values()
    pools: List[Any] = []
    return [one for one in found if _is_new(one.engine.pool, pools)]


def _ask_for(session: Session, target: Target) -> Callable[[], Any]:
    if target.entity is not None:
        return lambda: session.get_bind(mapper=sqlalchemy_inspect(target.entity))
    return lambda: session.get_bind(clause=target.table)


def _answer(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except SQLAlchemyError:  # it has no bind for that
        return None


def _is_new(pool: Any, known: List[Any]) -> bool:
    # The same Engine with other options (isolation_level) has the same pool.
    if any(one is pool for one in known):
        return False
    known.append(pool)
    return True


def _place(bind: Any) -> str:
    url = bind.engine.url
    host = f" on {url.host}" if url.host else ""
    return f"{url.get_backend_name()} database {url.database!r}{host}"


def require_commit(connection: Connection) -> None:
    """Raise UsageError for a Connection whose work nobody could commit.

    That is one of SQLAlchemy 1.4 outside of a transaction. Those of 2.0 begin one by
    themselves, and have ``commit()``.
    """
    if connection.get_transaction() is None and not hasattr(connection, "commit"):
        raise UsageError("begin a transaction first: what is written here belongs to it")


def require_transaction(connection: Connection) -> Any:
    """Return the transaction that a Connection is in. Raises UsageError if it is in none."""
    transaction = connection.get_transaction()
    if transaction is None:
        raise UsageError("begin a transaction first: what is set here ends with it")
    return transaction


def refuse_autocommit() -> NoReturn:
    """Raise UsageError: SQLAlchemy has a transaction, the database has none."""
    raise UsageError(
        "the connection commits each statement by itself (AUTOCOMMIT), and what is set here ends"
        " with the transaction: write in one"
    )
