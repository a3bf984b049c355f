"""Each signal of a hub has a method, which sends what the receivers were promised."""

import pytest

from pgevents import signals
from pgevents.metrics import Metrics
from pgevents.reporter import Reporter

ERROR = ValueError("broken")
EVENT = object()

REPORTS = {
    "started": {},
    "stopped": {},
    "connected": {},
    "disconnected": {"error": ERROR, "retry_in": 0.5},
    "gap": {"reason": "the log was cleaned"},
    "listener_failed": {"listener": print, "events": [EVENT], "error": ERROR},
    "dead_lettered": {"group": "mailer", "event": EVENT, "error": ERROR, "letter": 7},
    "fallen_behind": {"seconds": 12.5},
}


def test_each_signal_has_a_method():
    assert {*REPORTS} == {*signals.NAMES}
    assert all(callable(getattr(Reporter, name)) for name in signals.NAMES)


@pytest.mark.parametrize("name", signals.NAMES)
def test_a_report_reaches_the_receivers_of_its_hub(name):
    received = []

    def receiver(hub, **details):
        received.append((hub, details))

    with getattr(signals, name).connected_to(receiver):
        getattr(Reporter("a hub", Metrics()), name)(*REPORTS[name].values())

    assert received == [("a hub", REPORTS[name])]


def test_connections_and_gaps_are_counted():
    metrics = Metrics()
    reporter = Reporter("a hub", metrics)

    reporter.connected()
    reporter.gap("the log was cleaned")

    counts = metrics.as_dict()
    assert (counts["connects"], counts["gaps"]) == (1, 1)
