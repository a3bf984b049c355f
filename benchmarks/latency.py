"""How long after a commit a listener in another process is called, when all is quiet."""

import contextlib
import random
import time
from typing import Any, List, Tuple

from .handwritten import TRIGGER
from .listeners import Listening
from .report import Report, interleaved, percentile
from .server import Database

COMMITS = 100  # in a round
PAUSE = (0.02, 0.06)  # seconds between two commits: everybody sleeps again

INSERT = "INSERT INTO orders (item, price) VALUES ('a book', 9.90)"


def measure(server: Any, report: Report) -> None:
    """Measure pgevents and the loop written by hand."""
    ours, theirs = Database(server), Database(server)
    theirs.execute(TRIGGER)
    with contextlib.ExitStack() as stack:
        hub = stack.enter_context(Listening("pgevents", ours.url, "stamp"))
        loop = stack.enter_context(Listening("handwritten", theirs.url, "stamp"))
        found = interleaved(
            report.rounds(10),
            {
                "hand-written": lambda: commits(theirs.connect(), loop),
                "pgevents": lambda: commits(ours.connect(), hub),
            },
        )
    rows = []
    for name, rounds in found.items():
        returned, sent = ([time for one in rounds for time in one[n]] for n in (0, 1))
        p50, p99 = percentile(returned, 0.5), percentile(returned, 0.99)
        rows.append(
            (
                name,
                len(returned),
                "{:.2f}".format(p50),
                "{:.2f}".format(p99),
                "{:.2f}".format(percentile(sent, 0.5)),
                "{:.2f}".format(percentile(sent, 0.99)),
            )
        )
    report.table(
        "Latency: milliseconds until the listener is called",
        ("", "commits", "p50 after COMMIT returned", "p99", "p50 after COMMIT was sent", "p99"),
        rows,
    )
    report.target("latency p50", "≤ 1 ms", "{:.2f} ms".format(p50), p50 <= 1)
    report.target("latency p99", "≤ 5 ms", "{:.2f} ms".format(p99), p99 <= 5)


def commits(connection: Any, listening: Any) -> Tuple[List[float], List[float]]:
    """Commit a row again and again; return milliseconds from the return and from the sending."""
    returned, sent = [], []
    for _ in range(COMMITS):
        time.sleep(random.uniform(*PAUSE))
        connection.cursor().execute(INSERT)
        before = time.monotonic()
        connection.commit()
        after = time.monotonic()
        called = listening.next()
        # Below zero where the listener was faster than the writer's own connection.
        returned.append((called - after) * 1000)
        sent.append((called - before) * 1000)
    connection.close()
    return returned, sent
