"""What a claim costs while events wait to be tried again."""

import json
import time
from typing import Any, Callable

import pgevents
from pgevents.groups.ledger import Ledger
from pgevents.groups.options import Options
from pgevents.groups.settlement import Settlement

from .backlog import Backlog, PostgresBacklog, SqliteBacklog
from .members import GROUP
from .report import Report

WAITING = (0, 8_000, 100_000)  # events that wait for their time
CLAIMS = 200  # one event each
TARGET = 0.5  # of the claims in a second without any


def measure(server: Any, report: Report) -> None:
    """Measure an unordered group on both databases."""
    _rates("PostgreSQL", PostgresBacklog(server), report)
    _rates("SQLite", SqliteBacklog(), report)


def _rates(where: str, backlog: Backlog, report: Report) -> None:
    backlog.define(ordered=False)
    rates = {number: _rate(backlog, number) for number in WAITING}
    report.table(
        "Groups, {}: claims of one event and their acknowledgements in a second".format(where),
        ("events that wait to be tried again", "in a second", "to none"),
        [
            ("{:,}".format(number), "{:,.0f}".format(rate), "{:.2f}".format(rate / rates[0]))
            for number, rate in rates.items()
        ],
    )
    share = rates[WAITING[-1]] / rates[0]
    report.target(
        "claims beside {:,} that wait, {}".format(WAITING[-1], where),
        "≥ {} of those beside none".format(TARGET),
        "{:.2f}".format(share),
        share >= TARGET,
    )


def _rate(backlog: Backlog, waiting: int) -> float:
    backlog.refill(CLAIMS + 1)
    hub = pgevents.Hub(backlog.url, pgevents.Registry())
    ledger = hub._groups.ledger()
    _let_wait(hub, waiting)
    ledger.groups.pause(GROUP, False)
    claim = _claimer(ledger)
    claim()
    began = time.perf_counter()
    for _ in range(CLAIMS):
        claim()
    rate = CLAIMS / (time.perf_counter() - began)
    hub.stop()
    return rate


def _let_wait(hub: pgevents.Hub, number: int) -> None:
    """Write so many leases that wait for an hour, as events do that have failed."""
    rows = [{"seqs": str(n), "due": time.time() + 3600 + n} for n in range(number)]
    insert = hub._backend.tables.leases.insert().values(
        group_name=GROUP, attempt=2, renewed=time.time()
    )
    with hub._groups.ledger().log.transaction() as connection:
        if rows:
            connection.execute(insert, rows)


def _claimer(ledger: Ledger) -> Callable[[], None]:
    found = ledger.groups.described(GROUP)
    assert found is not None
    topics = sorted(found["definition"]["topics"])
    definition = json.dumps(found["definition"], ensure_ascii=False)
    options = Options(ordered=False, batch_size=1)
    done = Settlement([], [], keep=False, attempt=1, done=1)

    def claim() -> None:
        claimed = ledger.claims.claim(GROUP, definition, "bench:1:1", topics, options)
        assert claimed.work is not None
        ledger.settle(GROUP, claimed.work, done)

    return claim
