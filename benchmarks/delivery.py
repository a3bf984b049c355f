"""How many events reach a listener in a second, after a commit of many rows."""

import time
from typing import Any

from .bulk import ROWS, insert
from .handwritten import TRIGGER
from .listeners import Listening
from .report import Report, interleaved, medians, ratio, spread
from .server import Database

BY_HAND, TYPED = "hand-written (json.loads)", "hand-written, a Decimal and a datetime made"
NOTHING, READING = "pgevents, listener does nothing", "pgevents, listener reads event.new"


def measure(server: Any, report: Report) -> None:
    """Measure from the commit's return to the last call."""
    by_hand, ours = Database(server), Database(server)
    by_hand.execute(TRIGGER)
    ours.watch()
    found = interleaved(
        report.rounds(7),
        {
            BY_HAND: lambda: _rate(by_hand, "handwritten", "count"),
            TYPED: lambda: _rate(by_hand, "handwritten", "typed"),
            NOTHING: lambda: _rate(ours, "pgevents", "count"),
            READING: lambda: _rate(ours, "pgevents", "read"),
        },
    )
    rows = [
        (
            name,
            "{:,.0f}".format(median),
            spread(found[name]),
            "{:.2f}".format(ratio(found, name, BY_HAND)),
        )
        for name, median in medians(found).items()
    ]
    report.table(
        "Delivery: events in a second, {:,} rows in one commit".format(ROWS),
        ("", "median", "rounds", "to hand-written"),
        rows,
    )
    rate = medians(found)[NOTHING]
    report.target("delivery", "≥ 100,000/s", "{:,.0f}/s".format(rate), rate >= 100_000)
    for name in (NOTHING, READING):
        measured = ratio(found, name, BY_HAND)
        report.target(name, "≥ 1 × hand-written", "{:.2f} ×".format(measured), measured >= 1)


def _rate(database: Database, kind: str, handler: str) -> float:
    database.empty()
    with Listening(kind, database.url, handler, ROWS) as listening:
        insert(database, empty=False)
        committed = time.monotonic()
        return ROWS / (listening.next(300) - committed)
