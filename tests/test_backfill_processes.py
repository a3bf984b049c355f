"""A backfill while others write, by processes that are stopped and killed in the middle.

PGEVENTS_TEST_BACKFILL_ROWS makes the table larger; PGEVENTS_TEST_BACKFILL_SEED does what a run
that failed has done.
"""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from pgevents import Hub, Registry

from . import command
from .waiting import wait_for

ROWS = int(os.environ.get("PGEVENTS_TEST_BACKFILL_ROWS", "6000"))
TIMEOUT = 60 + ROWS / 500  # seconds for each part
MEMORY = 50_000  # kB that a process may take beyond what it has after its imports
PAGE = 50_000  # rows that are compared at once

FILL = """INSERT INTO items WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n
WHERE i < %s) SELECT i, 'a row that was there' FROM n"""


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.copier", *arguments],
        cwd=str(command.ROOT),
        env=command.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def ready(process):
    assert process.stdout.readline() == "ready\n"
    return process


def end(process, how):
    """Return its exit code."""
    if how is not None:
        process.send_signal(how)
    process.stdin.close()
    process.stdout.close()
    return process.wait(TIMEOUT)


@pytest.fixture
def items(database):
    database.execute("CREATE TABLE items (id integer PRIMARY KEY, body text)")
    if database.kind == "sqlite":
        database.execute("PRAGMA journal_mode = wal")
    database.execute(FILL, ROWS)
    return database


@pytest.fixture
def copy(tmp_path):
    """A function that asks the copy."""
    path = str(tmp_path / "copy.db")

    def ask(sql, *params):
        connection = sqlite3.connect(path, timeout=30)
        try:
            return connection.execute(sql, params).fetchall()
        finally:
            connection.close()

    ask.path = path
    return ask


def test_a_copy_begun_by_a_backfill_equals_the_table_though_its_processes_end(items, copy):
    seed = os.environ.get("PGEVENTS_TEST_BACKFILL_SEED") or str(random.randrange(10**6))
    print("PGEVENTS_TEST_BACKFILL_SEED={}".format(seed))
    chance = random.Random(seed)
    began = time.monotonic()
    hub = Hub(items.url, Registry())  # never started: it looks
    group = hub.group("copy")

    def done(least):
        progress = group.progress()
        return progress is None or progress["done"] >= least

    writer = ready(start("write", items.url, seed))
    worker = ready(start("copy", items.url, copy.path))
    try:
        total = group.info()["backfilled"]
        for part, how in ((0.1, signal.SIGTERM), (0.3, signal.SIGKILL)):
            least = int((part + chance.uniform(0, 0.2)) * total)
            wait_for(lambda: done(least), TIMEOUT)
            assert group.progress() is not None  # it is in the middle
            assert end(worker, how) == (0 if how == signal.SIGTERM else -how)
            worker = ready(start("copy", items.url, copy.path))
        wait_for(lambda: group.progress() is None, TIMEOUT)
        backfilled = time.monotonic() - began
        assert end(writer, None) == 0
        wait_for(lambda: group.lag()[0] == 0, TIMEOUT)
        assert end(worker, signal.SIGTERM) == 0
    finally:
        hub.stop()
        for process in (writer, worker):
            if process.poll() is None:
                end(process, signal.SIGKILL)

    counts = dict(copy("SELECT backfill, count(*) FROM seen GROUP BY 1"))
    memory = copy("SELECT first, peak FROM memory")
    print(
        "{} rows in {:.0f} s, {} changes, kB at first and at most: {}".format(
            counts[1], backfilled, counts.get(0), memory
        )
    )
    assert copy("SELECT * FROM mistakes") == []
    assert counts[1] == total >= 0.9 * ROWS
    assert counts[0] > 0
    assert differences(items, copy) == []
    assert [peak for first, peak in memory if peak > first + MEMORY] == []


def differences(items, copy):
    """Rows that are in one of the two alone."""
    found = []
    last = max(
        items.execute("SELECT max(id) FROM items")[0][0], copy("SELECT max(id) FROM copy")[0][0]
    )
    for first in range(0, last + 1, PAGE):
        pages = [
            set(
                ask(
                    "SELECT id, body FROM {} WHERE id >= {} AND id < {}".format(
                        table, first, first + PAGE
                    )
                )
            )
            for ask, table in ((items.execute, "items"), (copy, "copy"))
        ]
        found += sorted(pages[0] ^ pages[1])
    return found[:10]
