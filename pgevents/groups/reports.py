"""What a group reports of its leases: counters, log lines and signals."""

import logging
from typing import Callable, Optional

from ..discreet import discreet, said
from ..events.entry import Entry
from ..events.logrow import POSITION, LogRow
from ..metrics import GroupMetrics
from ..reporter import Reporter
from .calls import ENDED
from .failure import Failure
from .settlement import Settlement

logger = logging.getLogger("pgevents")


class Reports:
    """Reports for one group in one process.

    ``event(row, attempt, redelivered)`` makes the event of a row.
    """

    def __init__(
        self,
        group: str,
        event: Callable[[LogRow, int, bool], Entry],
        reporter: Reporter,
        metrics: GroupMetrics,
    ) -> None:
        self._group = group
        self._event = event
        self._reporter = reporter
        self._metrics = metrics

    def settled(self, settlement: Settlement) -> None:
        """This is written down."""
        metrics = self._metrics
        metrics.handled += settlement.done
        for failure in settlement.failures:
            metrics.failed += 1
            if failure.delay is None:
                metrics.dead += 1
                self._dead(failure, settlement.letters.get(failure.row[POSITION]))
            else:
                metrics.retried += 1
                logger.warning(
                    "group %s failed for event %s (attempt %d), trying again in %.1f s: %s",
                    self._group,
                    failure.row[POSITION],
                    failure.attempt,
                    failure.delay,
                    _without_values(failure),
                )

    def lost(self, events: int) -> None:
        """A lease is somebody else's now."""
        logger.warning(
            "group %s lost its lease of %d events: another process handles them again",
            self._group,
            events,
        )

    def gap(self, reason: str) -> None:
        """Something was not captured, or cleaned away before the group had read it."""
        self._reporter.gap(reason)

    def _dead(self, failure: Failure, letter: Optional[int]) -> None:
        event = self._event(failure.row, failure.attempt, failure.attempt > 1)
        logger.error(
            "group %s gives up event %s after %d attempts",
            self._group,
            event.id,
            failure.attempt,
            exc_info=discreet(failure.cause),
        )
        self._reporter.dead_lettered(self._group, event, failure.cause, letter)


def _without_values(failure: Failure) -> str:
    """Return a failure's error for the log: what is written down may hold values of rows."""
    return said(failure.cause) + (ENDED if failure.error.endswith(ENDED) else "")
