"""How long events wait after the process that handles them has been killed."""

import random
import statistics
import time
from typing import Any, List

from pgevents.groups.options import LEASE

from .backlog import Backlog, PostgresBacklog, SqliteBacklog
from .members import Member, first
from .report import Report, interleaved

ORDERS = 1000  # more than a process gets done before it is killed
ALIVE = (0.7, 1.7)  # seconds that it handles events; its lease has been renewed once or more


def measure(server: Any, report: Report) -> None:
    """Kill the process that handles, and wait for the other one's first call."""
    backlogs = {"PostgreSQL": PostgresBacklog(server), "SQLite": SqliteBacklog()}
    for backlog in backlogs.values():
        backlog.define()
    found = interleaved(
        report.rounds(5),
        {
            where: (lambda backlog=backlog: _seconds(backlog))  # type: ignore[misc]
            for where, backlog in backlogs.items()
        },
    )
    report.table(
        "Groups: seconds from kill -9 until the process that stood by calls its handler,"
        " lease {:.0f} s".format(LEASE),
        ("", "kills", "median", "max"),
        [(where, len(values), *_shown(values)) for where, values in found.items()],
    )
    for where, values in found.items():
        report.target(
            "taking over, " + where,
            "≤ {:.0f} s".format(LEASE + 1),
            "{:.2f} s".format(max(values)),
            max(values) <= LEASE + 1,
        )


def _shown(values: List[float]) -> List[str]:
    return ["{:.2f}".format(of(values)) for of in (statistics.median, max)]


def _seconds(backlog: Backlog) -> float:
    backlog.refill(ORDERS)
    with Member(backlog.url, "work") as one, Member(backlog.url, "work") as other:
        for member in (one, other):
            member.begin()
        busy, _ = first([one, other])
        idle = other if busy is one else one
        time.sleep(random.uniform(*ALIVE))
        killed = time.monotonic()
        busy.kill()
        return float(idle.next()) - killed
