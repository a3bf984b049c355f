"""How long a hub takes to start, and to look whether all is still captured, with many tables."""

import sqlite3
import statistics
import time
from typing import Any, Callable, List, Tuple

from pgevents import Hub, Registry
from tests.servers import home
from tests.statements import statements

from .report import Report
from .server import Database

COLUMNS = 12
TABLES = (25, 100, 200, 300)
LISTENERS = 5000


def measure(server: Any, report: Report) -> None:
    """Measure both databases, and many listeners on one table."""
    rows = []
    for kind in ("SQLite", "PostgreSQL"):
        for tables in TABLES[:2] if report.quick else TABLES:
            url = _sqlite(tables) if kind == "SQLite" else _postgres(server, tables)
            first, _ = _start(url, tables)
            starts = [_start(url, tables) for _ in range(report.rounds(3))]
            checks = [_check(url, tables) for _ in range(report.rounds(3))]
            rows.append((kind, tables, "{:.2f}".format(first), *_both(starts), *_both(checks)))
    report.table(
        "Starting: seconds and statements, for tables by name with {} columns".format(COLUMNS),
        (
            "",
            "tables",
            "first start, s",
            "start, s",
            "statements",
            "periodic check, s",
            "statements",
        ),
        rows,
    )
    last = rows[-1]
    report.target(
        "a start with {} tables on PostgreSQL".format(last[1]),
        "≤ 12 statements, < 1 s",
        "{}, {} s".format(last[4], last[3]),
        last[4] <= 12 and float(last[3]) < 1,
    )
    url = _sqlite(1)
    took = [_listeners(url) for _ in range(report.rounds(3))]
    report.table(
        "{:,} listeners on one table: seconds".format(LISTENERS),
        ("", "registering", "starting"),
        [("SQLite", *("{:.2f}".format(statistics.median(each)) for each in zip(*took)))],
    )


def _both(found: List[Tuple[float, int]]) -> Tuple[str, int]:
    return (
        "{:.2f}".format(statistics.median(seconds for seconds, _ in found)),
        max(count for _, count in found),
    )


def _start(url: str, tables: int) -> Tuple[float, int]:
    hub = _hub(url, tables)
    try:
        return _measured(hub.start)
    finally:
        hub.stop()


def _check(url: str, tables: int) -> Tuple[float, int]:
    hub = _hub(url, tables)
    hub._upkeep.begin()
    return _measured(hub._parts.chores.check_capture)


def _listeners(url: str) -> Tuple[float, float]:
    registry = Registry()
    before = time.perf_counter()
    for number in range(LISTENERS):
        registry.listen("table_0", "after_change", _listener(number))
    registered = time.perf_counter()
    hub = Hub(url, registry).start()
    started = time.perf_counter()
    hub.stop()
    return registered - before, started - registered


def _listener(number: int) -> Callable[[Any], int]:
    return lambda event: number


def _hub(url: str, tables: int) -> Hub:
    registry = Registry()
    for number in range(tables):
        registry.listen("table_{}".format(number), "after_change", print)
    return Hub(url, registry)


def _measured(step: Callable[[], Any]) -> Tuple[float, int]:
    with statements() as sent:
        before = time.perf_counter()
        step()
        return time.perf_counter() - before, len(sent)


def _sqlite(tables: int) -> str:
    path = home().directory("starting") / "shop.db"
    connection = sqlite3.connect(str(path))
    connection.executescript("".join(_table(number, "INTEGER") for number in range(tables)))
    connection.close()
    return "sqlite:///{}".format(path)


def _postgres(server: Any, tables: int) -> str:
    database = Database(server)
    database.execute("".join(_table(number, "bigint") for number in range(tables)))
    return str(database.url)


def _table(number: int, key: str) -> str:
    columns = ", ".join("column_{} text".format(n) for n in range(1, COLUMNS))
    return "CREATE TABLE table_{} (id {} PRIMARY KEY, {});\n".format(number, key, columns)
