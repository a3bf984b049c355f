"""Everything that pgevents raises.

    PgEventsError
    ├── UsageError          the call was wrong: an unknown moment, column, table … (a ValueError)
    ├── ConcurrencyError    a stream is not at the version that was expected
    ├── LeaseLost           a message is somebody else's by now
    ├── NotInstalled        the log or a trigger is missing, and the hub may not install
    └── DatabaseError       the database refused, or did not answer
        ├── Unavailable     no connection, or it was lost: trying again may help
        ├── Denied          wrong password, no such user or database, or a right is missing
        └── Unsupported     this server cannot serve: a standby, too old, a transaction pooler

A driver's exception never leaves ``postgres/`` or ``sqlite/`` untranslated; it is
kept as ``__cause__``.
"""

from typing import Any


class PgEventsError(Exception):
    """Whatever pgevents raises is one of these."""


class UsageError(PgEventsError, ValueError):
    """The call was wrong; the message names the value and the choices."""


class ConcurrencyError(PgEventsError):
    """A stream is at ``version``, not at the one that an append has ``expected``.

    Nothing was written, and no statement failed: the transaction may go on. Whoever wants to
    try again loads the stream again.
    """

    def __init__(self, stream: str, expected: int, version: int) -> None:
        self.stream, self.expected, self.version = stream, expected, version
        super().__init__(
            f"the stream {stream} is at version {version}, not at {expected}: load it again"
        )

    def __reduce__(self) -> Any:
        return ConcurrencyError, (self.stream, self.expected, self.version)


class LeaseLost(PgEventsError):
    """A message is somebody else's by now: what was to be said of it does not count."""


class NotInstalled(PgEventsError):
    """The log or a trigger is missing in the database."""


class DatabaseError(PgEventsError):
    """The database refused."""


class Unavailable(DatabaseError):
    """There is no connection to the database now."""


class Denied(DatabaseError):
    """The database does not let this user do that."""


class Unsupported(DatabaseError):
    """This server cannot do what pgevents needs."""
