"""How many events a group handles in a second, and whether that depends on what else is there."""

import contextlib
from typing import Any, Callable, Dict

from . import processes, rivals, takeover, waiting
from .backlog import Backlog, PostgresBacklog, SqliteBacklog
from .members import Member
from .report import Report, interleaved, medians, ratio, spread

EVENTS = 100_000
KEPT = {"PostgreSQL": 1_000_000, "SQLite": 200_000}  # rows in the log that the group has passed
TARGET = {"PostgreSQL": 30_000, "SQLite": 20_000}  # events in a second
BESIDE = {
    "PostgreSQL": "a write transaction open since the first round, another since before the events",
    "SQLite": "a read transaction open since before the events",
}

NOTHING, BATCH, READING = "handler does nothing", "a handler with batch=True", "reads event.new"
BEHIND = "as many more wait behind"


def measure(server: Any, report: Report) -> None:
    """Measure one process, several, one that is killed, and other people's queues."""
    events = EVENTS // 5 if report.quick else EVENTS
    _throughput("PostgreSQL", lambda: PostgresBacklog(server), events, report)
    _throughput("SQLite", SqliteBacklog, events, report)
    waiting.measure(server, report)
    processes.measure(server, report)
    takeover.measure(server, report)
    rivals.measure(server, report)


def _throughput(where: str, make: Callable[[], Backlog], events: int, report: Report) -> None:
    plain, kept, beside = make(), make(), make()
    passed = KEPT[where] // 5 if report.quick else KEPT[where]
    keeping = "{:,} rows or more kept that it has passed".format(passed)
    open_beside = "open beside: " + BESIDE[where]
    with contextlib.ExitStack() as stack:
        plain.define()
        _keep(kept, passed)
        beside.define()
        if where == "PostgreSQL":
            stack.enter_context(beside.transaction())
        variants: Dict[str, Callable[[], float]] = {
            NOTHING: lambda: _rate(plain, events),
            BATCH: lambda: _rate(plain, events, "count_batches", batch=True),
            READING: lambda: _rate(plain, events, "read"),
            BEHIND: lambda: _rate(plain, events // 2, behind=events),
            keeping: lambda: _rate(kept, events, keep=True),
            open_beside: lambda: _beside(where, beside, events),
        }
        found = interleaved(report.rounds(5), variants)
    report.table(
        "Groups, {}: events in a second through one process of an ordered group,"
        " {:,} in one commit".format(where, events),
        ("", "median", "rounds", "to the first"),
        [
            (
                name,
                "{:,.0f}".format(median),
                spread(found[name]),
                "{:.2f}".format(ratio(found, name, NOTHING)),
            )
            for name, median in medians(found).items()
        ],
    )
    rate = medians(found)[NOTHING]
    report.target(
        "a group's events, " + where,
        "≥ {:,}/s".format(TARGET[where]),
        "{:,.0f}/s".format(rate),
        rate >= TARGET[where],
    )


def _keep(backlog: Backlog, number: int) -> None:
    """Let the log keep rows from before the group was there."""
    backlog.define()
    backlog.insert(number)


def _beside(where: str, backlog: Backlog, events: int) -> float:
    if where == "SQLite":  # on PostgreSQL that would wait for who is open all the time
        backlog.empty()
    with backlog.transaction():
        return _rate(backlog, events, keep=True)


def _rate(
    backlog: Backlog,
    number: int,
    handler: str = "count",
    behind: int = 0,
    keep: bool = False,
    batch: bool = False,
) -> float:
    """Return how many of the first ``number`` events are handled in a second."""
    backlog.refill(number + behind, keep)
    with Member(backlog.url, handler, number, batch=batch) as member:
        begun = member.begin()
        return number / (member.next(300) - begun)
