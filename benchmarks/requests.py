"""SQLite: how many of an application's requests fail because groups write, too.

A request does what Django's default does: it begins deferred, reads, and then
writes. SQLite refuses that write at once, whatever the timeout, when another
connection has written, or does, since the request has read.
"""

import contextlib
import sqlite3
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

import pgevents

from .listeners import Listening
from .report import Report, interleaved
from .sqlite import orders

REQUESTS = 200
THINKING = 0.002  # seconds between a request's read and its write
BETWEEN = 0.002  # seconds between two requests
TIMEOUT = 5.0  # seconds; Django's default
MODES = ("delete", "wal")
TARGET = 1  # of the requests may fail, with one process

NONE, ONE, SAME, OTHERS = (
    "no group",
    "one process",
    "three processes of one group",
    "three processes of three groups",
)
IMMEDIATE = OTHERS + ", the requests BEGIN IMMEDIATE"


class Process(Listening):
    """A process of a group, for a ``with``."""

    def __init__(self, url: str, group: str) -> None:
        self._spawn(_run, url, group)


def measure(_: Any, report: Report) -> None:
    """Measure without a group, with one process, and with three."""
    for mode in MODES:
        found = interleaved(report.rounds(5), _variants(mode))
        report.table(
            "SQLite ({}): of {} requests that read and then write, those that failed"
            " (database is locked)".format(mode, REQUESTS),
            ("", "rounds", "worst"),
            [(name, ", ".join(map(str, failed)), max(failed)) for name, failed in found.items()],
        )
        failed = max(found[ONE])
        report.target(
            "requests that fail beside a group, SQLite, " + mode,
            "≤ {} of {}".format(TARGET, REQUESTS),
            "{} of {}".format(failed, REQUESTS),
            failed <= TARGET,
        )


def _variants(mode: str) -> Dict[str, Callable[[], int]]:
    return {
        NONE: lambda: _failed(mode, []),
        ONE: lambda: _failed(mode, ["a"]),
        SAME: lambda: _failed(mode, ["a", "a", "a"]),
        OTHERS: lambda: _failed(mode, ["a", "b", "c"]),
        IMMEDIATE: lambda: _failed(mode, ["a", "b", "c"], "BEGIN IMMEDIATE"),
    }


def _failed(mode: str, groups: List[str], begin: str = "BEGIN") -> int:
    """Return how many requests failed beside a process of each of these groups."""
    path = orders()
    with contextlib.closing(sqlite3.connect(str(path))) as connection:
        connection.execute("PRAGMA journal_mode = {}".format(mode))
    with contextlib.ExitStack() as stack:
        for group in groups:
            stack.enter_context(Process("sqlite:///{}".format(path), group))
        return sum(not _request(path, begin) for _ in range(REQUESTS))


def _run(pipe: Any, url: str, group: str) -> None:
    registry = pgevents.Registry()
    registry.listen("orders", "after_insert", lambda event: None, group=group)
    with pgevents.Hub(url, registry):
        pipe.send("ready")
        pipe.recv()


def _request(path: Path, begin: str) -> bool:
    """Read, think, write; tell whether that went well."""
    time.sleep(BETWEEN)
    with contextlib.closing(
        sqlite3.connect(str(path), timeout=TIMEOUT, isolation_level=None)
    ) as connection:
        try:
            connection.execute(begin)
            connection.execute("SELECT count(*) FROM orders").fetchone()
            time.sleep(THINKING)
            connection.execute("INSERT INTO orders (item, price) VALUES ('a book', 9.9)")
            connection.execute("COMMIT")
        except sqlite3.OperationalError:
            return False
    return True
