"""What changes the data of events on its way to the database and back: to encrypt, to erase."""

from typing import Any, Callable, NamedTuple, Optional

from ..database.store import StreamKey


class About(NamedTuple):
    """Whose data it is, for a codec."""

    stream: str
    category: str
    tenant: Optional[str]
    type: str


def about(key: StreamKey, type: str) -> About:
    """Return what a codec gets besides the data of an event."""
    return About(key.name, key.category, key.tenant or None, type)


#: Gets the data as JSON types, and an ``About``; returns what is to be stored, or was.
Change = Callable[[Any, About], Any]
