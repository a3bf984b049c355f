"""Everything that pgevents raises.

    PgEventsError
    ├── UsageError          the call was wrong: an unknown moment, column, table … (a ValueError)
    ├── NotInstalled        the log or a trigger is missing, and the hub may not install
    └── DatabaseError       the database refused, or did not answer
        ├── Unavailable     no connection, or it was lost: trying again may help
        ├── Denied          wrong password, no such user or database, or a right is missing
        └── Unsupported     this server cannot serve: a standby, too old, a transaction pooler

A driver's exception never leaves ``postgres/`` or ``sqlite/`` untranslated; it is
kept as ``__cause__``.
"""


class PgEventsError(Exception):
    """Whatever pgevents raises is one of these."""


class UsageError(PgEventsError, ValueError):
    """The call was wrong; the message names the value and the choices."""


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
