"""What one hub reports: a method for each signal, which also counts and logs where that is due."""

import logging
from typing import Any, Callable, List, Optional

from . import signals
from .events.entry import Entry
from .metrics import Metrics

logger = logging.getLogger("pgevents")


class Reporter:
    """Sends the signals of ``hub``. Each method is called in the thread where it happened."""

    def __init__(self, hub: Any, metrics: Metrics) -> None:
        self._hub = hub
        self._metrics = metrics

    def started(self) -> None:
        """``start()`` is about to return."""
        signals.send("started", self._hub)

    def stopped(self) -> None:
        """The threads have ended."""
        signals.send("stopped", self._hub)

    def connected(self) -> None:
        """The hub listens, for the first time or again."""
        self._metrics.connects += 1
        signals.send("connected", self._hub)

    def disconnected(self, error: Exception, retry_in: float) -> None:
        """The connection is lost; the hub connects again in so many seconds."""
        signals.send("disconnected", self._hub, error=error, retry_in=retry_in)

    def gap(self, reason: str) -> None:
        """Events were not captured, or cleaned away before they were read."""
        self._metrics.gaps += 1
        logger.error("events were missed: %s", reason)
        signals.send("gap", self._hub, reason=reason)

    def listener_failed(
        self, listener: Callable[..., Any], events: List[Any], error: BaseException
    ) -> None:
        """A plain listener raised at its last attempt."""
        signals.send("listener_failed", self._hub, listener=listener, events=events, error=error)

    def dead_lettered(
        self, group: str, event: Entry, error: BaseException, letter: Optional[int]
    ) -> None:
        """A group has given an event up; ``letter`` is the id of the dead letter."""
        signals.send(
            "dead_lettered", self._hub, group=group, event=event, error=error, letter=letter
        )

    def fallen_behind(self, seconds: float) -> None:
        """The queue has been full for so many seconds."""
        signals.send("fallen_behind", self._hub, seconds=seconds)
