"""What the triggers cost one statement that inserts many rows."""

import time
from typing import Any

from .handwritten import TRIGGER
from .report import Report, interleaved, medians, ratio, spread
from .server import Database

ROWS = 100_000

INSERT = (
    "INSERT INTO orders (item, price) SELECT 'book ' || n, n / 100.0"
    " FROM generate_series(1, {}) n".format(ROWS)
)


def measure(server: Any, report: Report) -> None:
    """Measure the seconds until the statement is committed."""
    plain, by_hand, ours = (Database(server) for _ in range(3))
    by_hand.execute(TRIGGER)
    ours.watch()
    found = interleaved(
        report.rounds(9),
        {
            "no trigger": lambda: insert(plain),
            "hand-written": lambda: insert(by_hand),
            "pgevents": lambda: insert(ours),
        },
    )
    rows = [
        (
            name,
            "{:.2f}".format(median),
            spread(found[name], "{:.2f}"),
            "{:.2f}".format(ratio(found, name, "no trigger")),
        )
        for name, median in medians(found).items()
    ]
    report.table(
        "Bulk: seconds to insert {:,} rows in one statement".format(ROWS),
        ("", "median", "rounds", "to no trigger"),
        rows,
    )
    measured = ratio(found, "pgevents", "no trigger")
    report.target("bulk insert", "≤ 2.5 × no trigger", "{:.2f} ×".format(measured), measured <= 2.5)


def insert(database: Database, empty: bool = True) -> float:
    """Insert the rows and return the seconds it took."""
    if empty:
        database.empty()
    connection = database.connect()
    begun = time.monotonic()
    connection.cursor().execute(INSERT)
    connection.commit()
    took = time.monotonic() - begun
    connection.close()
    return took
