"""What psycopg2's errors mean, in pgevents' own."""

import contextlib
import re
from typing import Any, Iterator, Tuple

import psycopg2
from sqlalchemy.exc import SQLAlchemyError

from ..errors import DatabaseError, Denied, NotInstalled, PgEventsError, Unavailable, Unsupported

#: What a server that is no primary needs.
PRIMARY = "Give the address of the primary, or target_session_attrs=read-write"

_NO_TABLE = "42P01"
#: The code of a missing right; the message may be in any language.
_DENIED = {"42501", "28000", "28P01", "3D000"}
#: An error while connecting comes without its code, so it is known by its English words alone.
_DENIED_WORDS = re.compile(
    "authentication failed|no pg_hba.conf entry|no password supplied"
    '|(role|database) ".*" (does not exist|is not permitted to log in)'
)
#: … and when it cannot be had now: shutdown, start, too many connections, lost, cancelled.
_UNAVAILABLE_CLASSES = ("08", "53", "57", "58")
#: … and when it ended a session that was idle in a transaction, or whose transaction was too long.
_ENDED = {"25P03", "25P04"}
_READ_ONLY = "25006"


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn psycopg2's errors into ours. The server's sentence is kept, values are not."""
    try:
        yield
    except psycopg2.Error as error:
        raise _translation(error) from error
    except SQLAlchemyError as error:
        # It wraps the driver's errors; its own errors are about a connection that was lost.
        cause = getattr(error, "orig", None)
        if isinstance(cause, psycopg2.Error):
            raise _translation(cause) from error
        raise Unavailable(f"the connection to PostgreSQL was lost: {error}") from error


def sentence_of(error: psycopg2.Error) -> str:
    """Return the server's sentence; not its DETAIL, which holds values of the row."""
    primary = error.diag.message_primary
    return " ".join((primary or str(error)).split()) or type(error).__name__


def of_another_driver(error: Any) -> PgEventsError:
    """Return our error for one of psycopg's or pg8000's, raised while connecting."""
    return _meaning(*code_of(error), True)


def code_of(error: Any) -> Tuple[str, str]:
    """Return the code and the sentence of an error of psycopg2, psycopg or pg8000."""
    if isinstance(error, psycopg2.Error):
        return error.pgcode or "", sentence_of(error)
    fields = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
    code = getattr(error, "sqlstate", None) or fields.get("C", "")
    return code, " ".join(str(fields.get("M", error)).split())


def _translation(error: psycopg2.Error) -> PgEventsError:
    lost = isinstance(error, (psycopg2.OperationalError, psycopg2.InterfaceError))
    return _meaning(error.pgcode or "", sentence_of(error), lost)


def _meaning(code: str, sentence: str, lost: bool) -> PgEventsError:
    if code == _NO_TABLE:
        return NotInstalled(f"the log is not there: {sentence}")
    if code in _DENIED or (not code and _DENIED_WORDS.search(sentence)):
        return Denied(f"PostgreSQL refuses: {sentence}")
    if code == _READ_ONLY:
        return Unsupported(f"this server is a standby, or set to be read only. {PRIMARY}")
    if code in _ENDED or code.startswith(_UNAVAILABLE_CLASSES):
        return Unavailable(f"PostgreSQL is not available: {sentence}")
    if not code and lost:
        return Unavailable(f"no connection to PostgreSQL: {sentence}")
    if "pg_notification_queue_usage" in sentence or "could not access status" in sentence:
        sentence += " (a known fault of the server: SELECT pg_notification_queue_usage() cures it)"
    return DatabaseError(f"PostgreSQL reports: {sentence}")
