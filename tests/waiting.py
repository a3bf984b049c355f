"""Waiting for a state."""

import time

TIMEOUT = 20.0  # seconds


def wait_for(condition, timeout=TIMEOUT):
    """Return the condition's value as soon as it is true; fail if it never is."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, "not within {} s".format(timeout)
        time.sleep(0.01)
