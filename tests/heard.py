"""A listener that remembers what it heard, and lets a test wait for it."""

import queue

TIMEOUT = 10.0  # seconds in which what was committed has to be heard


class Heard:
    """Call it with events; take them one after the other with `next()`."""

    def __init__(self):
        self._queue = queue.Queue()

    def __call__(self, event):
        self._queue.put(event)

    def next(self, timeout=TIMEOUT):
        """Return the next event; fail when none comes."""
        try:
            return self._queue.get(timeout=timeout)
        except queue.Empty:
            raise AssertionError("nothing was heard for {} s".format(timeout)) from None

    def take(self, count, timeout=TIMEOUT):
        """Return the next `count` events."""
        return [self.next(timeout) for _ in range(count)]

    def rest(self):
        """Return what was heard and not taken yet, without waiting: drain the hub first."""
        found = []
        while not self._queue.empty():
            found.append(self._queue.get())
        return found
