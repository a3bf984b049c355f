"""What a hub is bound to: the backend for a URL or an Engine, and its address in print."""

import contextlib
import re
from typing import Any, Optional, Union

from sqlalchemy.engine import URL, Engine, make_url

from .database.backend import Backend
from .errors import UsageError

_PLAIN = re.compile(r"[\w.-]+")  # a part of a URL that can hold nothing else


def backend_for(bind: Any, schema: str, bell: Optional[bool], poll_interval: float) -> Backend:
    """Return the backend that a URL or an Engine needs. Raises UsageError."""
    if isinstance(bind, str):
        bind = _url(bind)
    if not isinstance(bind, (URL, Engine)):
        raise UsageError(f"a hub is bound to a URL or an Engine, not to {type(bind).__name__}")
    name = bind.dialect.name if isinstance(bind, Engine) else bind.get_backend_name()
    if name == "postgresql":
        from .postgres.postgresql import PostgreSQL

        return PostgreSQL(bind, schema, bell, poll_interval)
    if name == "sqlite":
        from .sqlite.sqlite import SQLite

        return SQLite(bind, schema)
    raise UsageError(f"no backend for {name!r}: write postgresql://… or sqlite:///…")


def _url(text: str) -> URL:
    # No part of any URL can be a NUL; libpq would end there.
    with contextlib.suppress(Exception):
        if "%00" not in text and "\0" not in text:
            return make_url(text)
    # The text may hold a password, and so may the error's: neither is repeated, nor kept.
    raise UsageError(
        "that is no database URL: write postgresql://… or sqlite:///…, special characters of a"
        " password as % and two digits, but never %00"
    )


def address_of(bind: Union[str, URL, Engine]) -> str:
    """Return which database that is, without the password: it may stand in odd places."""
    url = bind.url if isinstance(bind, Engine) else make_url(bind)
    if url.get_backend_name() == "sqlite":
        return f"sqlite:///{url.database}"
    user, host, database = (
        "…" if part and not _PLAIN.fullmatch(part) else part or ""
        for part in (url.username, url.host, url.database)
    )
    return f"postgresql://{user and user + '@'}{host}/{database}"
