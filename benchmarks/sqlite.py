"""SQLite across processes: how soon a listener is called, and what waiting costs."""

import contextlib
import random
import sqlite3
import time
from pathlib import Path
from typing import Any, List

from tests.servers import home

from .latency import COMMITS, PAUSE
from .listeners import Listening
from .report import Report, interleaved, percentile

AWAKENINGS = 5  # commits in a round that come after …
SILENCE = (1.2, 1.4)  # … so many seconds without one: a hub looks less often by then
IDLE = 10.0  # seconds for which the hub's use of a core is measured
QUIET = 2.0  # seconds until a hub takes it that nothing happens

BY_HAND, OURS, SILENT = (
    "hand-written (every 10 ms)",
    "pgevents",
    "pgevents, after a silent second",
)

ORDERS = (
    "CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT NOT NULL, price REAL NOT NULL,"
    " status TEXT NOT NULL DEFAULT 'new')"
)


def measure(_: Any, report: Report) -> None:
    """Measure pgevents and a loop that polls every ten milliseconds."""
    paths = [orders() for _ in range(2)]
    urls = ["sqlite:///{}".format(path) for path in paths]
    with contextlib.ExitStack() as stack:
        loop = stack.enter_context(Listening("polling", urls[0], "stamp"))
        hub = stack.enter_context(Listening("pgevents", urls[1], "stamp"))
        found = interleaved(
            report.rounds(10),
            {
                BY_HAND: lambda: commits(paths[0], loop, COMMITS, PAUSE),
                OURS: lambda: commits(paths[1], hub, COMMITS, PAUSE),
                SILENT: lambda: commits(paths[1], hub, AWAKENINGS, SILENCE),
            },
        )
        seconds = IDLE / 3 if report.quick else IDLE
        busy = _idle(hub, seconds)
    rows, reached = [], {}
    for name, rounds in found.items():
        latencies = [one for round in rounds for one in round]
        p50, p99 = reached[name] = percentile(latencies, 0.5), percentile(latencies, 0.99)
        rows.append((name, len(latencies), "{:.2f}".format(p50), "{:.2f}".format(p99)))
    report.table(
        "SQLite (WAL): milliseconds from another process's commit until the listener is called",
        ("", "commits", "p50", "p99"),
        rows,
    )
    for name in (OURS, SILENT):
        p50, p99 = reached[name]
        report.target("SQLite p50, " + name, "≤ 2 ms", "{:.2f} ms".format(p50), p50 <= 2)
        report.target("SQLite p99, " + name, "≤ 10 ms", "{:.2f} ms".format(p99), p99 <= 10)
    report.target("SQLite, idle", "≤ 1 % of a core", "{:.2f} %".format(busy * 100), busy <= 0.01)


def orders() -> Path:
    """Make a file with a table of orders."""
    path = home().directory("sqlite") / "orders.db"
    with contextlib.closing(sqlite3.connect(str(path))) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(ORDERS)
    return path


def commits(path: Path, listening: Any, number: int, pause: Any) -> List[float]:
    """Commit a row again and again; return the milliseconds from each until it was heard."""
    latencies = []
    with contextlib.closing(sqlite3.connect(str(path), timeout=10)) as connection:
        for _ in range(number):
            time.sleep(random.uniform(*pause))
            connection.execute("INSERT INTO orders (item, price) VALUES ('a book', 9.9)")
            connection.commit()
            after = time.monotonic()
            latencies.append((listening.next() - after) * 1000)
    return latencies


def _idle(hub: Listening, seconds: float) -> float:
    """Return the share of a core that a hub uses while nothing happens."""
    time.sleep(QUIET)
    before = hub.cpu()
    time.sleep(seconds)
    return (hub.cpu() - before) / seconds
