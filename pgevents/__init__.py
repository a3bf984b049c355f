"""Tell ordinary synchronous programs that rows in their database changed, whoever changed them.

    your app       INSERT INTO orders …; COMMIT
    trigger        one row in the log for each changed row; ring the bell if somebody sleeps
    source         a thread, asleep; wakes, reads what its cursor has not seen, fills a queue
    dispatcher     a thread; takes from the queue, calls who listens
    your listener  def send_receipt(event): …

The modules in reading order; each imports only what stands above it. The two
rooms do not see each other.

    errors         what is raised
    display        text that is safe to show
    discreet       errors as they may stand in a log
    checks         what callers give, checked
    retry          how often and how soon again
    metrics        what a hub counts
    warnings       what works, but not as it should
    kinds          of which type a column's values are, and what they can equal
    values         rows: from the log's text to Python values
    tagged         values outside JSON, as JSON with tags
    envelope       the JSON of an event: its fields, checked
    identity       which object of a mapped class a row is
    event          a change, as a listener is told it
    notes          rows of the log that are no events
    target         what somebody listens to
    columns        what a listener names as a column
    signals        what a hub tells about itself
    registry       who listens to what
    changes        the same through sqlalchemy.event
    tables         every table of ours, declared once
    migrations     which tables Alembic is to let be
    grouplog       a log as groups read it
    standing       a lease that is kept, so that a group writes seldom
    ledger         what is written down of groups: cursors, leases, dead letters
    threads        threads that can be woken and end when told to
    writers        the Session or Connection that an application writes with
    backend        what a database must be able to do
    source         the thread that reads
    topics         what a hub knows of the tables in its log
    strangers      rows of a newer release, which are skipped
    delivery       how listeners are called
    dispatcher     the threads that call them, and the queue before
    calls          how a group's listeners are called, and what is kept of a failure
    runner         the thread in which a group's listeners are called
    groups         groups: one process of many gets each event
    housekeeper    the thread that cleans
    wishes         what a hub wants captured
    upkeep         sees to it that it is, and stays so
    postgres       the room for PostgreSQL
    sqlite         the room for SQLite
    bind           which room a URL or an Engine means
    hub            the house: where all of it comes together
    testing        for the tests of applications
    cli            the command
"""

from .changes import changes
from .errors import (
    DatabaseError,
    Denied,
    NotInstalled,
    PgEventsError,
    Unavailable,
    Unsupported,
    UsageError,
)
from .event import Event
from .hub import Hub
from .registry import Registry, contains, listen, listens_for, remove
from .retry import Retry
from .target import ANY

__version__ = "0.2.0"

__all__ = [
    "ANY",
    "DatabaseError",
    "Denied",
    "Event",
    "Hub",
    "NotInstalled",
    "PgEventsError",
    "Registry",
    "Retry",
    "Unavailable",
    "Unsupported",
    "UsageError",
    "changes",
    "contains",
    "listen",
    "listens_for",
    "remove",
]
