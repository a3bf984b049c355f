"""Numbers that a hub counts about itself."""

import threading
from typing import Dict


class Metrics:
    """Counters of one hub, but for what its groups do.

    Several threads may add to those of ``add()``; each of the others has one
    that writes it. Readers may see a value that is a moment old.
    """

    NAMES = ("read", "handled", "delivered", "failed", "retried", "connects", "gaps", "expired")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Begin at 0: the hub is new, or this is a forked child."""
        self._lock = threading.Lock()  # of the parent's, another thread may have held it
        self.read = 0  # events taken from the log
        self.handled = 0  # events that all their listeners are done with
        self.delivered = 0  # calls of listeners that returned
        self.failed = 0  # calls given up after the last attempt
        self.retried = 0  # calls that raised and were made again
        self.connects = 0  # connections made, the first included
        self.expired = 0  # messages that were not delivered, because their time was over
        self.gaps = 0  # times that events were cleaned away before they were read

    def add(self, name: str, number: int = 1) -> None:
        """Count something that workers do beside each other."""
        with self._lock:
            self.__dict__[name] += number  # quicker than setattr(), and there is one for each call

    def as_dict(self) -> Dict[str, int]:
        """Return name → count."""
        return {name: getattr(self, name) for name in self.NAMES}


class GroupMetrics:
    """Counters of one group in one process; its thread writes them."""

    __slots__ = ("read", "handled", "delivered", "failed", "retried", "dead")

    def __init__(self) -> None:
        self.read = 0  # events taken, those that are tried again each time
        self.handled = 0  # events acknowledged
        self.delivered = 0  # calls of listeners that returned
        self.failed = 0  # attempts that raised …
        self.retried = 0  # … of which these are tried again …
        self.dead = 0  # … and these were given up

    def as_dict(self) -> Dict[str, int]:
        """Return name → count."""
        return {name: getattr(self, name) for name in self.__slots__}

    def in_all(self) -> Dict[str, int]:
        """Return what they add to the counters of the hub."""
        return {
            "read": self.read,
            "handled": self.handled + self.dead,
            "delivered": self.delivered,
            "failed": self.dead,
            "retried": self.retried,
        }
