"""Errors as they may stand in a log: without the values of rows that a database adds.

PostgreSQL adds ``DETAIL:  Key (email)=(bob@example.com) already exists.``, SQLAlchemy the
statement's parameters. A listener's error is logged, and logs go where rows may not.
"""

from typing import Any, Optional, Set

from sqlalchemy.exc import StatementError


def said(error: BaseException) -> str:
    """Return ``repr(error)`` for a log, also where its class cannot make one."""
    text = _text(error)
    try:
        if text is None:
            return _without_details(repr(error), error)
        return f"{type(error).__name__}({text!r})"
    except Exception:
        return f"<{type(error).__name__}, whose repr() failed>"


def discreet(error: BaseException) -> BaseException:
    """Return what to give to a logger as ``exc_info``: the error, or another that looks like it.

    The other has the same traceback and causes; its class is another one of the same name.
    """
    return _copy(error, set()) if _has_secrets(error, set()) else error


def _text(error: BaseException) -> Optional[str]:
    """Return the part of a database's error without values; None where all of it is."""
    if isinstance(error, StatementError):
        first = _primary(error.orig) or str(error.args[0] if error.args else "").split("\n")[0]
        kind = "" if error.orig is None else f"({type(error.orig).__name__}) "
        sql = f"\n[SQL: {error.statement}]" if error.statement else ""
        return (kind if _primary(error.orig) else "") + first + sql
    return _primary(error)


def _primary(error: Any) -> Optional[str]:
    """Return the sentence of a PostgreSQL server, without the lines that follow."""
    found = getattr(getattr(error, "diag", None), "message_primary", None)
    return found if isinstance(found, str) else None


def _has_secrets(error: Optional[BaseException], seen: Set[int]) -> bool:
    if error is None or id(error) in seen:
        return False
    seen.add(id(error))
    return (
        _text(error) is not None
        or _has_secrets(error.__cause__, seen)
        or _has_secrets(error.__context__, seen)
    )


def _copy(error: BaseException, seen: Set[int]) -> BaseException:
    seen.add(id(error))
    kind, text = type(error), _text(error)
    if text is None:
        text = _without_details(_str(error), error)
    members = {
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__str__": lambda self: text,
    }
    copy: BaseException = type(kind.__name__, (Exception,), members)()
    copy.__traceback__ = error.__traceback__
    for name in ("__cause__", "__context__"):
        other = getattr(error, name)
        if other is not None and id(other) not in seen:
            setattr(copy, name, _copy(other, seen))
    copy.__suppress_context__ = error.__suppress_context__
    return copy


def _str(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "its str() failed"


def _without_details(text: str, error: BaseException) -> str:
    """Return the text of any other error without the values that it repeats from the database's."""
    for other in (error.__cause__, error.__context__):
        detail = getattr(getattr(other, "orig", other), "diag", None)
        values = getattr(detail, "message_detail", None)
        if isinstance(values, str) and values:
            text = text.replace(values, "…")
    return text
