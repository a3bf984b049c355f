"""Waiting, in a test, for what other threads do."""

import threading
import time
from typing import Callable, List, TypeVar, Union

from ..events.event import Event

TIMEOUT = 10.0  # seconds in which what was committed has to arrive
LOOK = 0.01  # seconds between two looks at a condition

Found = TypeVar("Found")


def wait_until(condition: Callable[[], Found], timeout: float = TIMEOUT) -> Found:
    """Wait until ``condition()`` is true; return what it returned.

    Raises AssertionError after ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {timeout} s: {condition!r}, but {found!r}")
        time.sleep(LOOK)


class Recorder:
    """A listener that remembers: register it, then ask for the events, in the order they came.

    As a listener with ``batch`` it remembers the events one by one. The test
    may ask while a hub's threads call it.
    """

    def __init__(self) -> None:
        self._events: List[Event] = []
        self._taken = 0  # how many of them the test has taken
        self._heard = threading.Condition()

    def __call__(self, received: Union[Event, List[Event]]) -> None:
        with self._heard:
            self._events += received if isinstance(received, list) else [received]
            self._heard.notify_all()

    @property
    def events(self) -> List[Event]:
        """All that was received so far."""
        with self._heard:
            return list(self._events)

    def wait_for(self, count: int, timeout: float = TIMEOUT) -> List[Event]:
        """Wait until ``count`` events were received in all; return all. Raises AssertionError."""
        with self._heard:
            if not self._heard.wait_for(lambda: len(self._events) >= count, timeout):
                raise AssertionError(
                    f"{len(self._events)} of {count} events were received within {timeout} s:"
                    f" {self._events}"
                )
            return list(self._events)

    def next(self, timeout: float = TIMEOUT) -> Event:
        """Wait for an event that was not taken yet, and take it. Raises AssertionError."""
        return self.take(1, timeout)[0]

    def take(self, count: int, timeout: float = TIMEOUT) -> List[Event]:
        """Wait for the next ``count`` events, and take them. Raises AssertionError."""
        first, self._taken = self._taken, self._taken + count
        return self.wait_for(self._taken, timeout)[first : self._taken]

    def rest(self) -> List[Event]:
        """Take what was received and not taken yet, without waiting: drain the hub first."""
        return self.take(len(self.events) - self._taken, timeout=0)
