"""The server that is measured: on disk, and with its promises switched on."""

import os
import platform
import sqlite3
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Optional

import psycopg2
import sqlalchemy

import pgevents
from tests.servers import Server, Servers, home

#: What everybody has; a checkpoint in the middle of a round would be luck.
SETTINGS = {"fsync": "on", "synchronous_commit": "on", "max_wal_size": "4GB"}

ORDERS = """
CREATE TABLE orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    item text NOT NULL,
    price numeric(10, 2) NOT NULL,
    status text NOT NULL DEFAULT 'new',
    at timestamptz NOT NULL DEFAULT now())
"""


class Database:
    """A fresh database with a table of orders."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.name = server.create_database()
        self.url = server.url(self.name)
        self.execute(ORDERS)

    def execute(self, sql: str) -> Any:
        """Run a statement in its own transaction; return its rows, if any."""
        return self.server.execute(sql, database=self.name)

    def connect(self) -> Any:
        """Open a connection."""
        return self.server.connect(self.name)

    def watch(self) -> None:
        """Have pgevents capture the orders."""
        hub = pgevents.Hub(self.url, pgevents.Registry())
        hub.watch("orders", "after_insert")
        hub.install()

    def empty(self) -> None:
        """Make the tables as they were at the beginning, so that every round meets the same."""
        tables = "orders"
        if self.execute("SELECT to_regclass('pgevents.log')")[0][0]:
            tables += ", pgevents.log"
        self.execute("TRUNCATE " + tables)
        self.execute("CHECKPOINT")


def running(major: Optional[int]) -> Server:
    """Return a server that is not started yet, for a ``with``."""
    pool = Servers()
    installation = pool.get(major).installation
    pool.close()
    return Server(installation, **SETTINGS)


def described(server: Server) -> str:
    """Say what was measured on what."""
    shown = {name: server.execute("SHOW " + name)[0][0] for name in ("synchronous_commit", "fsync")}
    return (
        "pgevents {}, Python {}, SQLAlchemy {}, psycopg2 {}, PostgreSQL {} "
        "(synchronous_commit {}, fsync {}), SQLite {}; {} cores, {}, a flush takes {:.0f} µs,"
        " load average {:.1f}".format(
            pgevents.__version__,
            platform.python_version(),
            sqlalchemy.__version__,
            psycopg2.__version__.split()[0],
            server.version,
            shown["synchronous_commit"],
            shown["fsync"],
            sqlite3.sqlite_version,
            os.cpu_count(),
            filesystem(home().path),
            flush_time(home().path) * 1e6,
            os.getloadavg()[0],
        )
    )


def filesystem(path: Path) -> str:
    """Name the file system that a path is on."""
    printed = subprocess.run(
        ["df", "--output=fstype", str(path)], stdout=subprocess.PIPE, universal_newlines=True
    ).stdout.split()
    return printed[-1] if printed else "an unknown file system"


def flush_time(path: Path, flushes: int = 200) -> float:
    """Return how many seconds the disk takes to keep 8 kB, the median."""
    took = []
    with tempfile.TemporaryFile(dir=str(path), buffering=0) as file:
        for _ in range(flushes):
            file.seek(0)
            file.write(os.urandom(8192))
            begun = time.monotonic()
            os.fdatasync(file.fileno())
            took.append(time.monotonic() - begun)
    return statistics.median(took)
