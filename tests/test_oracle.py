"""A copy of the tables, kept from events alone, equals the tables, whatever happens meanwhile.

PGEVENTS_TEST_ORACLE_SECONDS makes it run for longer; PGEVENTS_TEST_ORACLE_SEED does what a run
that failed has done, as far as threads let it.
"""

import os
import random
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

import pgevents.postgres.log
import pgevents.sqlite.log
from pgevents import Hub

from .workload import TABLES, Writer

SECONDS = float(os.environ.get("PGEVENTS_TEST_ORACLE_SECONDS", "12"))
THREADS = 3
PROCESSES = 2
DRAIN_TIMEOUT = 60  # seconds; what the writers wrote may be a good deal ahead


class Copy:
    """What the tables hold, as far as events tell. Everything that does not fit is a mistake."""

    def __init__(self):
        self.tables = {"items": {}, "bins": {}}
        self.notes = Counter()
        self.positions = []
        self.mistakes = []
        self._last = {}

    def __call__(self, event):
        self.positions.append(event.position)
        old, new = (None if row is None else tuple(row.values()) for row in (event.old, event.new))
        if event.table == "notes":
            self._note(old, new, event)
        elif event.operation == "truncate":
            self.tables[event.table].clear()
        else:
            self._keyed(self.tables[event.table], old, new, event)

    def _keyed(self, rows, old, new, event):
        for key in {row[0] for row in (old, new) if row is not None}:
            self._check(event.position > self._last.get((event.table, key), 0), "order", event)
            self._last[event.table, key] = event.position
        if old is not None:
            self._check(rows.pop(old[0], None) == old, "old", event)
        if new is not None:
            self._check(new[0] not in rows, "new", event)
            rows[new[0]] = new

    def _note(self, old, new, event):
        if old is not None:
            self.notes[old] -= 1
            self._check(self.notes[old] >= 0, "old", event)
        if new is not None:
            self.notes[new] += 1

    def _check(self, right, what, event):
        if not right and len(self.mistakes) < 10:
            self.mistakes.append((what, event.position, event.operation, event.old, event.new))


@pytest.fixture
def seed(monkeypatch):
    """What this run does; it also decides how much is read at once."""
    seed = os.environ.get("PGEVENTS_TEST_ORACLE_SEED") or str(random.randrange(10**6))
    rows = random.Random(seed).choice((7, 50, 500))
    monkeypatch.setattr(pgevents.postgres.log, "PAGE_ROWS", rows)
    monkeypatch.setattr(pgevents.sqlite.log, "PAGE_ROWS", rows)
    print("PGEVENTS_TEST_ORACLE_SEED={} ({} rows at once)".format(seed, rows))
    return seed


def test_a_copy_kept_from_events_equals_the_tables(database, registry, seed):
    copy = Copy()
    for table in TABLES:
        database.execute(table)
    if database.kind == "sqlite":
        database.execute(
            "PRAGMA journal_mode = {}".format(random.Random(seed).choice(("wal", "delete")))
        )
    for table in ("items", "notes", "bins"):
        registry.listen(table, ["after_change", "after_truncate"], copy)

    with Hub(database.url, registry) as hub:
        with one_stays_open(database), connections_die(database, seed):
            write(database.url, seed)
        assert hub.drain(DRAIN_TIMEOUT), hub.status()
        status = hub.status()

    print("{} events, {} connections".format(len(copy.positions), status["connects"]))
    assert copy.mistakes == []
    assert repeated(copy.positions) == []
    assert sorted(copy.positions) == positions(database)
    for table in ("items", "bins"):
        assert sorted(copy.tables[table].values()) == rows(database, table)
    assert sorted(copy.notes.elements()) == rows(database, "notes")
    assert status["failed"] == 0 and status["gaps"] == 0


def write(url, seed):
    """Let all writers work at once; return when they are done."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.workload", url, "{}-p{}".format(seed, n), str(SECONDS)],
            cwd=str(Path(__file__).parent.parent),
        )
        for n in range(PROCESSES)
    ]
    threads = [
        threading.Thread(target=Writer(url, "{}-t{}".format(seed, n)).work, args=(SECONDS,))
        for n in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait(60) for process in processes] == [0] * PROCESSES


class one_stays_open:
    """Within the block a transaction that has written is open; it commits last."""

    def __init__(self, database):
        # SQLite has one writer at a time.
        self._writer = Writer(database.url, 0) if database.kind != "sqlite" else None

    def __enter__(self):
        if self._writer:
            self._writer.begin()
            self._writer.insert(100000, "first to begin")

    def __exit__(self, *exc_info):
        if self._writer:
            self._writer.insert(100001, "last to commit")
            self._writer.end(True)
            self._writer.work(0)


class connections_die:
    """Within the block, on PostgreSQL, the hub's connections are terminated again and again."""

    def __init__(self, database, seed):
        self._database = database
        self._random = random.Random(seed)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()

    def __exit__(self, *exc_info):
        self._over.set()
        self._thread.join()

    def _run(self):
        while self._database.kind != "sqlite":
            if self._over.wait(self._random.choice((0.02, 0.3, 1.5))):
                return
            self._database.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'pgevents' AND datname = %s",
                self._database.name,
            )


def repeated(positions):
    return [position for position, times in Counter(positions).items() if times > 1]


def positions(database):
    log = "pgevents_log" if database.kind == "sqlite" else "pgevents.log"
    return [position for position, in database.execute("SELECT seq FROM {} ORDER BY 1".format(log))]


def rows(database, table):
    return sorted(database.execute("SELECT * FROM {}".format(table)))
