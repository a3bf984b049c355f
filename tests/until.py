"""Waiting for a state, with a deadline."""

import time

TIMEOUT = 10.0  # seconds in which what is expected has to be so


def until(condition, timeout=TIMEOUT):
    """Return what `condition()` gives as soon as it is true; fail when it is not in time."""
    deadline = time.monotonic() + timeout
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError("it was not so for {} s: {}".format(timeout, condition))
        time.sleep(0.005)
