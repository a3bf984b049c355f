"""SQLite: what triggers cost each connection of the application, whether it writes or reads."""

import contextlib
import sqlite3
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

from pgevents import Hub, Registry
from tests.servers import home

from .report import Report, interleaved, percentile

COLUMNS = 20
CONNECTIONS = 20  # in a round
FIRST, NEW, CACHED = (
    "a connection's first statement",
    "a new UPDATE",
    "an UPDATE that is prepared, and its commit",
)


def measure(_: Any, report: Report) -> None:
    """Measure a file with triggers beside one without."""
    rows = []
    for tables in (1, 10):
        plain, captured = _file(tables, False), _file(tables, True)
        found = interleaved(
            report.rounds(10),
            {
                "plain": lambda: [_connection(plain) for _ in range(CONNECTIONS)],
                "captured": lambda: [_connection(captured) for _ in range(CONNECTIONS)],
            },
        )
        before, after = _middle(found["plain"]), _middle(found["captured"])
        for what in (FIRST, NEW, CACHED):
            rows.append((tables, what, "{:.3f}".format(before[what]), "{:.3f}".format(after[what])))
    report.table(
        "SQLite: milliseconds, without and with triggers on tables of {} columns".format(COLUMNS),
        ("tables", "", "without", "with"),
        rows,
    )
    for what, limit in ((FIRST, 2.0), (NEW, 0.5)):
        more = after[what] - before[what]
        report.target(
            "SQLite, 10 tables: " + what,
            "≤ {} ms more".format(limit),
            "{:.2f} ms".format(more),
            more <= limit,
        )
    times = after[CACHED] / before[CACHED]
    report.target("SQLite: " + CACHED, "≤ 1.5 times", "{:.2f}".format(times), times <= 1.5)


def _file(tables: int, captured: bool) -> Path:
    """Make a file with the journal that SQLite has unless told otherwise."""
    path = home().directory("opening") / "shop.db"
    registry = Registry()
    with contextlib.closing(sqlite3.connect(str(path), isolation_level=None)) as connection:
        connection.execute("CREATE TABLE other (x)")
        for number in range(tables):
            kinds = ["REAL" if n % 3 == 0 else "TEXT" for n in range(1, COLUMNS)]
            values = ["1.5" if kind == "REAL" else "'some text'" for kind in kinds]
            columns = ["column_{} {}".format(n, kind) for n, kind in enumerate(kinds, 1)]
            table = "table_{}".format(number)
            connection.execute(
                "CREATE TABLE {} (id INTEGER PRIMARY KEY, {})".format(table, ", ".join(columns))
            )
            connection.execute("INSERT INTO {} VALUES (1, {})".format(table, ", ".join(values)))
            registry.listen(table, "after_change", print)
    if captured:
        Hub("sqlite:///{}".format(path), registry).install()
    return path


def _connection(path: Path) -> Dict[str, float]:
    """Return the milliseconds that each kind of statement takes on a connection of its own."""
    sql = "UPDATE table_0 SET column_1 = ? WHERE id = 1"
    with contextlib.closing(sqlite3.connect(str(path), isolation_level=None)) as connection:
        first = _timed(lambda: connection.execute("SELECT * FROM other").fetchall())
        connection.execute("BEGIN IMMEDIATE")
        new = _timed(lambda: connection.execute(sql, (time.time(),)))
        connection.execute("COMMIT")
        cached = _timed(lambda: connection.execute(sql, (time.time(),)))
    return {FIRST: first, NEW: new, CACHED: cached}


def _timed(step: Callable[[], Any]) -> float:
    before = time.perf_counter()
    step()
    return (time.perf_counter() - before) * 1000


def _middle(rounds: List[List[Dict[str, float]]]) -> Dict[str, float]:
    every: List[Tuple[str, float]] = [
        item for found in rounds for one in found for item in one.items()
    ]
    return {
        what: percentile([ms for name, ms in every if name == what], 0.5)
        for what in (FIRST, NEW, CACHED)
    }
