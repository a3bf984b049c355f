"""The thread that keeps leases while listeners run, however long they take."""

import logging
import threading
from typing import Any, Callable, Protocol, Sequence

from ..errors import DatabaseError
from ..threads import Worker
from .lease import RENEWAL

logger = logging.getLogger("pgevents")


class Kept(Protocol):
    """What is renewed: the lease of a group's thread, or those of a box."""

    group: str

    @property
    def renewal(self) -> float:
        """In how many seconds it has to be renewed; now, if that is not above 0."""

    def renew(self) -> Any:
        """Renew it. Raises a DatabaseError."""


class Renewer(Worker):
    """Renews the leases that the groups of a hub hold, each when it is time."""

    def __init__(self, leases: Callable[[], Sequence[Kept]]) -> None:
        super().__init__("pgevents-renewer")
        self._leases = leases
        self._woken = threading.Event()

    def wake(self) -> None:
        self._woken.set()

    def run(self) -> None:
        wait = RENEWAL
        while not self._woken.wait(wait):
            wait = min([RENEWAL, *(self._renew(lease) for lease in self._leases())])

    def _renew(self, lease: Kept) -> float:
        """Renew a lease if it is time; return in how many seconds to look again."""
        left = lease.renewal
        if left > 0:
            return left
        try:
            lease.renew()
        except DatabaseError as error:
            logger.warning("the lease of group %s was not renewed: %s", lease.group, error)
        except Exception:  # the leases of the others are to be renewed, too
            logger.exception(
                "the lease of group %s was not renewed by a mistake in pgevents, please report it",
                lease.group,
            )
        return RENEWAL
