"""What the triggers cost those who write: pgbench, one row in each transaction."""

import contextlib
import re
import shutil
from typing import Any, Dict, List

from tests.servers import Installation, home, installations

from .handwritten import TRIGGER
from .latency import INSERT
from .listeners import Listening
from .report import Report, interleaved, medians, ratio, spread
from .server import Database

CLIENTS = (1, 16)
SECONDS = 4  # of a round
FOR_EVER = 1 << 60  # events

#: What it is called → microseconds by which each flush is made longer. Disks
#: that keep what they were told take one or more milliseconds; many a virtual
#: machine's does not, and then all that counts is the processor. With
#: commit_siblings = 0 the server sleeps commit_delay in each flush, with the
#: lock held, which is just what a slower disk does.
DISKS = {"this disk": 0, "a disk slower by 2 ms": 2000}

PLAIN, BY_HAND = "no trigger", "hand-written, loop attached"
OURS, BEHIND = "pgevents, hub attached", "pgevents, hub behind (slow listener)"


def measure(server: Any, report: Report) -> None:
    """Measure commits in a second by one and by sixteen clients."""
    plain, by_hand, ours = (Database(server) for _ in range(3))
    by_hand.execute(TRIGGER)
    ours.watch()
    bench = Pgbench(server, 2 if report.quick else SECONDS)

    def commits(database: Database, clients: int, kind: str, *handler: Any) -> float:
        return bench.run(database, clients, Listening(kind, database.url, *handler))

    for disk, delay in DISKS.items():
        slow_down(server, delay)
        for clients in CLIENTS:
            found = interleaved(
                report.rounds(5),
                {
                    PLAIN: lambda: bench.run(plain, clients),
                    BY_HAND: lambda: commits(by_hand, clients, "handwritten", "count", FOR_EVER),
                    OURS: lambda: commits(ours, clients, "pgevents", "count", FOR_EVER),
                    BEHIND: lambda: commits(ours, clients, "pgevents", "slow"),
                },
            )
            _tell(report, disk, clients, found)
    slow_down(server, 0)


def slow_down(server: Any, microseconds: int) -> None:
    """Make each flush take longer."""
    server.execute("ALTER SYSTEM SET commit_delay = {}".format(microseconds))
    server.execute("ALTER SYSTEM SET commit_siblings = 0")
    server.execute("SELECT pg_reload_conf()")


def _tell(report: Report, disk: str, clients: int, found: Dict[str, List[float]]) -> None:
    rows = [
        (
            name,
            "{:,.0f}".format(median),
            spread(found[name]),
            "{:.2f}".format(ratio(found, name, PLAIN)),
            "{:.2f}".format(ratio(found, name, BY_HAND)),
        )
        for name, median in medians(found).items()
    ]
    report.table(
        "Writers: commits in a second by {} client{}, {}".format(
            clients, "s" * (clients > 1), disk
        ),
        ("", "median", "rounds", "to no trigger", "to hand-written"),
        rows,
    )
    if clients > 1:
        for name in (OURS, BEHIND):
            to_plain, to_hand = ratio(found, name, PLAIN), ratio(found, name, BY_HAND)
            what = "{} writers, {}, {}".format(clients, disk, name)
            report.target(what, "≥ 0.70 of no trigger", "{:.2f}".format(to_plain), to_plain >= 0.7)
            report.target(what, "≥ 2 × hand-written", "{:.2f} ×".format(to_hand), to_hand >= 2)


class Pgbench:
    """The program pgbench: clients that are not Python."""

    def __init__(self, server: Any, seconds: int) -> None:
        self._server = server
        self._seconds = seconds
        self._installation = _with_pgbench(server.installation)
        self._script = home().directory("pgbench") / "insert.sql"
        self._script.write_text(INSERT + ";\n")

    def run(self, database: Database, clients: int, listening: Any = None) -> float:
        """Return the commits in a second, while somebody listens."""
        database.empty()
        with listening or contextlib.ExitStack():
            printed = self._installation.run(
                "pgbench",
                "-n",
                "-f",
                self._script,
                "-c",
                clients,
                "-j",
                min(clients, 2),
                "-T",
                self._seconds,
                "-h",
                self._server.socket_directory,
                "-p",
                self._server.port,
                "-U",
                "postgres",
                database.name,
            )
        return float(re.search(r"tps = ([\d.]+)", printed).group(1))


def _with_pgbench(installation: Installation) -> Installation:
    """Return a PostgreSQL that has pgbench, the server's own if possible."""
    for one in [installation, *installations().values()]:
        if (one.bin / "pgbench").exists():
            return one
    raise SystemExit(
        "there is no pgbench: install a PostgreSQL of the system, such as "
        "postgresql-15 ({})".format(shutil.which("pgbench") or "not on the PATH")
    )
