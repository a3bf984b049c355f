"""That a lease is somebody else's now."""

from typing import Any

from ..database.grouplog import GroupLog


class Lost(Exception):
    """Somebody else has the lease: what we did with it does not count."""


def require_place(place: Any, log: GroupLog) -> None:
    """Raise ``Lost`` if a lease is of another database than there is now."""
    # Its number may be that of somebody else's lease there, or of one that was ours.
    if place != log.place():
        raise Lost()
