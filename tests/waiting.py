"""Waiting for a state, for as long as a machine that does other things too may take."""

from pgevents.testing import wait_until

TIMEOUT = 20.0  # seconds


def wait_for(condition, timeout=TIMEOUT):
    """Return the condition's value as soon as it is true; fail if it never is."""
    return wait_until(condition, timeout)
