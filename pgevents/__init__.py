"""Report to ordinary synchronous programs that rows in their database changed, whoever did it.

    your app       INSERT INTO orders …; COMMIT
    trigger        one row in the log for each changed row; ring the bell if somebody sleeps
    source         a thread, asleep; wakes, reads what its cursor has not seen, fills a queue
    dispatcher     a thread; takes from the queue, calls who listens
    your listener  def send_receipt(event): …

The modules and folders in reading order; each imports only what stands above it. A
folder's own map is in its ``__init__``, and counts in the same way. The two rooms,
postgres and sqlite, do not see each other.

    errors         what is raised
    display        text that is safe to show
    discreet       errors as they may stand in a log
    checks         what callers give, checked
    retry          how often and how soon again
    metrics        what a hub counts
    warnings       what works, but not as it should
    signals        what a hub reports about itself
    threads        threads that can be woken and end when asked to
    tables         every table of ours, declared once
    migrations     which tables Alembic leaves alone
    events         what an event is: its values, its key, its JSON
    payloads       what an application writes for itself, as JSON text
    reporter       a method for each signal of a hub
    listening      who listens to what
    database       what a database must be able to do
    channels       messages of the application's own
    streams        streams of events that an application appends
    delivery       from a row of the log to one call of a listener
    groups         groups: one process of many gets each event
    settings       how one hub works: what its caller gave
    capture        what is wanted of a database, and that it stays so
    postgres       the room for PostgreSQL
    sqlite         the room for SQLite
    backends       which room a URL or an Engine means
    parts          what one hub is made of, all but the threads
    life           its threads: start, stop, fork, poll
    status         what hub.status() returns
    hub            what an application starts, asks and stops
    testing        for the tests of applications
    cli            the command
    contrib        adapters for frameworks
"""

from .channels.message import Message
from .channels.native import Notification
from .channels.outgoing import Outgoing
from .channels.receiver import ChannelListener
from .errors import (
    ConcurrencyError,
    DatabaseError,
    Denied,
    LeaseLost,
    NotInstalled,
    PgEventsError,
    Unavailable,
    Unsupported,
    UsageError,
)
from .events.event import Event
from .events.values import Row
from .groups.box import Box
from .groups.dead_letters import DeadLetter
from .groups.group import Group
from .groups.received import Received
from .hub import Hub
from .listening.registry import Registry, contains, listen, listens_for, remove
from .listening.sqlalchemy_events import changes
from .listening.target import ANY
from .payloads.text import fits_notify, payload_size
from .retry import Retry
from .streams.names import NO_STREAM
from .streams.stored import Stored

__version__ = "0.2.0"

__all__ = [
    "ANY",
    "Box",
    "ChannelListener",
    "ConcurrencyError",
    "DatabaseError",
    "DeadLetter",
    "Denied",
    "Event",
    "Group",
    "Hub",
    "LeaseLost",
    "Message",
    "NO_STREAM",
    "NotInstalled",
    "Notification",
    "Outgoing",
    "PgEventsError",
    "Received",
    "Registry",
    "Retry",
    "Row",
    "Stored",
    "Unavailable",
    "Unsupported",
    "UsageError",
    "changes",
    "contains",
    "fits_notify",
    "listen",
    "listens_for",
    "payload_size",
    "remove",
]
