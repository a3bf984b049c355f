"""How an event gets from the dispatcher to the plain listeners; the next one in spite of errors."""

import itertools
import logging
import threading
from typing import Any, Callable, Dict, List, Optional, Tuple, Union

from ..discreet import discreet, said
from ..events.entry import Entry
from ..listening.listener import Listener
from ..listening.registry import Registry
from ..metrics import Metrics
from ..reporter import Reporter
from ..retry import Retry
from .around import Around
from .call import call, let_through
from .topics import Topics

logger = logging.getLogger("pgevents")

PLACES = 1000  # topics and operations of which it is kept who receives them


class Audience:
    """Who receives an event: the plain listeners, or those of one group."""

    def __init__(self, registry: Registry, topics: Topics, group: Optional[str] = None) -> None:
        self._registry = registry
        self._topics = topics
        self._group = group
        self._known: Dict[Tuple[str, str], List[Listener]] = {}
        self._versions = (-1, -1)

    def of(self, event: Entry) -> List[Listener]:
        """Return them in the order they were registered."""
        versions = (self._registry.version, self._topics.version)
        if versions != self._versions:
            self._known = {}
            self._versions = versions
        place = (event.topic, event.operation)
        found = self._known.get(place)
        if found is None:
            if len(self._known) >= PLACES:  # channels may be as many as an application's users
                self._known.clear()
            keys = event.keys or self._topics.keys(event.topic)
            listeners = self._registry.listeners(keys, event.moment)
            found = [listener for listener in listeners if listener.group == self._group]
            self._known[place] = found
        return found


class Delivery:
    """Calls the listeners of events, one after the other, in the order they were registered.

    A listener that raises is called again, then given up for this event and
    reported; the others are not affected. ``stop`` ends the pauses between two
    calls, and skips the events that have not begun. ``connection`` is for
    transactional listeners, which only the FakeHub of tests calls like this.
    """

    def __init__(
        self,
        registry: Registry,
        topics: Topics,
        retry: Retry,
        metrics: Metrics,
        reporter: Reporter,
        around: Around,
        connection: Any = None,
        expired: Optional[Callable[[Entry], bool]] = None,
    ) -> None:
        self._expired = expired
        self._around = around
        self._connection = connection
        self._registry = registry
        self._audience = Audience(registry, topics)
        self._retry = retry
        self._metrics = metrics
        self._reporter = reporter
        self.stop = threading.Event()

    def __call__(self, events: List[Entry]) -> int:
        """Call everybody for these events; return how many events were handled."""
        batches: Dict[Listener, List[Entry]] = {}
        handled = delivered = 0
        for event in events:
            if self.stop.is_set():
                break
            delivered += self._deliver(event, batches)
            handled += 1
        for listener, batch in batches.items():
            if not (listener.once and self._spent(listener)):
                delivered += self._call(listener, batch, batch)
        # Once for all: the lock of the counters takes longer than a call.
        self._metrics.add("delivered", delivered)
        self._metrics.add("handled", handled)
        return handled

    def _deliver(self, event: Entry, batches: Dict[Listener, List[Entry]]) -> int:
        """Call everybody for an event, or keep it for a batch; return how many calls returned."""
        returned = 0
        try:
            if event.until is not None and self._expired is not None and self._expired(event):
                return 0
            for listener in self._audience.of(event):
                for one in listener.calls() if listener.stands_in else (listener,):
                    if one.batch:
                        self._collect(one, event, batches)
                    elif (not one.picks or self._wanted(one, event)) and not (
                        one.once and self._spent(one)
                    ):
                        returned += self._call(one, event, [event])
        except Exception:
            # Our own mistake, or a row that nobody foresaw: the events behind it go on.
            self._metrics.add("failed")
            logger.exception(
                "event %s was not delivered by a mistake in pgevents, please report it", event.id
            )
        return returned

    def _collect(
        self, listener: Listener, event: Entry, batches: Dict[Listener, List[Entry]]
    ) -> None:
        if not listener.picks or self._wanted(listener, event):
            batches.setdefault(listener, []).append(event)

    def _wanted(self, listener: Listener, event: Entry) -> bool:
        try:
            return listener.wants(event)
        except BaseException as error:
            let_through(error)
            self._give_up(listener, [event], error)
            return False

    def _spent(self, listener: Listener) -> bool:
        return not self._registry.spend(listener)

    def _call(
        self, listener: Listener, argument: Union[Entry, List[Entry]], events: List[Entry]
    ) -> bool:
        """Call a listener, again if it raises; tell whether it returned in the end."""
        error = call(listener, argument, self._around, self._connection).error
        if error is not None:
            error = self._call_again(listener, argument, events, error)
            if error is not None:
                listener.failing = True
                self._give_up(listener, events, error)
                return False
        listener.failing = False
        return True

    def _call_again(
        self,
        listener: Listener,
        argument: Union[Entry, List[Entry]],
        events: List[Entry],
        error: BaseException,
    ) -> Optional[BaseException]:
        """Call who raised until it returns or has used up its attempts; return the last error."""
        # Who failed for the event before is called once only: a listener that
        # is broken for good would hold up everybody behind it.
        left = 0 if listener.failing else self._retry.attempts - 1
        for pause in itertools.islice(self._retry.backoff, left):
            if self.stop.is_set():
                break
            self._metrics.add("retried")
            logger.warning(
                "%s failed for event %s of %s, trying again in %.2f s: %s",
                listener.name,
                events[0].id,
                events[0].topic,
                pause,
                said(error),
            )
            self.stop.wait(pause)
            again = call(listener, argument, self._around, self._connection)
            if again.error is None:
                return None
            error = again.error
        return error

    def _give_up(self, listener: Listener, events: List[Entry], error: BaseException) -> None:
        self._metrics.add("failed")
        logger.error(
            "%s failed for event %s of %s (%d in all), which it will not get again",
            listener.name,
            events[0].id,
            events[0].topic,
            len(events),
            exc_info=discreet(error),
        )
        self._reporter.listener_failed(listener.fn, events, error)
