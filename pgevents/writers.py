"""The Session or Connection that an application writes with."""

from typing import Any, NoReturn

from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session, scoped_session

from .errors import UsageError


def connection_of(bind: Any) -> Connection:
    """Return the Connection behind what somebody writes with; a Session begins its transaction.

    Raises UsageError for anything else.
    """
    if isinstance(bind, Connection):
        return bind
    if isinstance(bind, (Session, scoped_session)):
        return bind.connection()
    raise UsageError(
        f"give the Session or Connection that writes, not {type(bind).__name__}"
    )


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
