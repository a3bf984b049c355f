"""Whether more processes of a group that is not ordered do more in a second."""

import contextlib
import os
from typing import Any

from .backlog import PostgresBacklog
from .members import PAUSE, Member, countdown, first
from .report import Report, interleaved, medians, ratio, spread

PROCESSES = (1, 2, 4, 8)
EACH = 2000  # events for each process of a round
OPTIONS = {"ordered": False, "batch_size": 50}  # 50 ms: no process is left alone with a long rest
NEARLY = 0.8  # of what as many processes would do that knew nothing of each other


def measure(server: Any, report: Report) -> None:
    """Measure from the first one's beginning to the last event."""
    backlog = PostgresBacklog(server)
    backlog.define(**OPTIONS)
    each = EACH // 4 if report.quick else EACH
    found = interleaved(
        report.rounds(5),
        {
            str(number): (lambda number=number: _rate(backlog, number, each))  # type: ignore[misc]
            for number in PROCESSES
        },
    )
    report.table(
        "Groups, PostgreSQL: events in a second by several processes, ordered=False,"
        " batch_size={}, a handler that sleeps {:.0f} ms, {} cores".format(
            OPTIONS["batch_size"], PAUSE * 1000, os.cpu_count()
        ),
        ("processes", "median", "rounds", "to one"),
        [
            (
                name,
                "{:,.0f}".format(median),
                spread(found[name]),
                "{:.2f}".format(ratio(found, name, "1")),
            )
            for name, median in medians(found).items()
        ],
    )
    for number in PROCESSES[1:]:
        measured = ratio(found, str(number), "1")
        report.target(
            "{} processes".format(number),
            "≥ {:.1f} × one".format(NEARLY * number),
            "{:.2f} ×".format(measured),
            measured >= NEARLY * number,
        )


def _rate(backlog: PostgresBacklog, number: int, each: int) -> float:
    backlog.refill(number * each)
    left = countdown(number * each)
    with contextlib.ExitStack() as stack:
        members = [
            stack.enter_context(Member(backlog.url, "pause", left, **OPTIONS))
            for _ in range(number)
        ]
        begun = min([member.begin() for member in members])
        _, last = first(members, 300)
        return number * each / (last - begun)
