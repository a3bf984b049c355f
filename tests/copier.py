"""A process that keeps a copy of `items` from a group's events, and one that keeps changing them.

    python -m tests.copier copy URL FILE    until SIGTERM; or till it is killed, and started again
    python -m tests.copier write URL SEED   until its standard input ends

The copy is in a SQLite file, so it survives its process, and takes no memory. What does not fit
becomes a row of `mistakes` there.
"""

import os
import random
import re
import signal
import sqlite3
import sys
import threading
import time
from pathlib import Path

import psycopg2
from sqlalchemy.engine import make_url

from pgevents import Hub, Registry

COPY = """
PRAGMA journal_mode = wal;
PRAGMA synchronous = off;
CREATE TABLE IF NOT EXISTS copy (id integer PRIMARY KEY, body text);
CREATE TABLE IF NOT EXISTS seen (position integer PRIMARY KEY, backfill integer);
CREATE TABLE IF NOT EXISTS mistakes (what text, position integer);
CREATE TABLE IF NOT EXISTS changes (count integer);
CREATE TABLE IF NOT EXISTS memory (pid integer PRIMARY KEY, first integer, peak integer);
"""
GAUGE = 1000  # events between two looks at the memory


class Copier:
    """The listener."""

    def __init__(self, path):
        self._file = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._file.executescript(COPY)
        self._first = peak_memory()
        self._count = 0
        self._changed = bool(self._file.execute("SELECT 1 FROM changes").fetchone())

    def __call__(self, event):
        do = self._file.execute
        read = event.operation == "read"
        do("BEGIN")
        if not event.redelivered:
            self._check(event, read)
        do("INSERT OR IGNORE INTO seen VALUES (?, ?)", (event.position, read))
        if event.new is None:
            do("DELETE FROM copy WHERE id = ?", (event.old["id"],))
        else:
            do("INSERT OR REPLACE INTO copy VALUES (?, ?)", (event.key, event.new["body"]))
        if not read and not self._changed:
            self._changed = True
            do("INSERT INTO changes VALUES (1)")
        if self._count % GAUGE == 0:
            self.gauge()
        self._count += 1
        do("COMMIT")

    def gauge(self):
        """Write down how much memory this process has taken, in kB."""
        row = (os.getpid(), self._first, peak_memory())
        self._file.execute("INSERT OR REPLACE INTO memory VALUES (?, ?, ?)", row)

    def _check(self, event, read):
        do = self._file.execute
        wrong = []
        if do("SELECT 1 FROM seen WHERE position = ?", (event.position,)).fetchone():
            wrong.append("twice")
        if read and self._changed:
            wrong.append("a row of the backfill after a change")
        if read and do("SELECT 1 FROM copy WHERE id = ?", (event.key,)).fetchone():
            wrong.append("a row twice in the backfill")
        for what in wrong:
            do("INSERT INTO mistakes VALUES (?, ?)", (what, event.position))


def peak_memory():
    """The most memory that this process has taken, in kB.

    Not ru_maxrss: that begins with what the parent had.
    """
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text()).group(1))


def copy(url, path):
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    registry = Registry()
    copier = Copier(path)
    registry.listen("items", "after_change", copier, group="copy")
    hub = Hub(url, registry)
    hub.group("copy", start="backfill", lease=5)
    with hub:
        print("ready", flush=True)
        over.wait()
    copier.gauge()


def write(url, seed):
    chance = random.Random(seed)
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    place = make_url(url)
    if place.get_backend_name() == "postgresql":
        connection = psycopg2.connect(
            host=place.host, port=place.port, dbname=place.database, user=place.username
        )
        mark = "%s"
    else:
        connection = sqlite3.connect(place.database, timeout=600)
        mark = "?"
    cursor = connection.cursor()
    cursor.execute("SELECT max(id) FROM items")
    last = cursor.fetchone()[0]
    connection.commit()
    done = 0
    while not over.is_set():
        done += 1
        cursor.execute(
            "UPDATE items SET body = {0} WHERE id = {0}".format(mark),
            ("u{}".format(done), chance.randint(1, last)),
        )
        cursor.execute("DELETE FROM items WHERE id = {}".format(mark), (chance.randint(1, last),))
        last += 1
        cursor.execute(
            "INSERT INTO items VALUES ({0}, {0})".format(mark), (last, "i{}".format(done))
        )
        if chance.random() < 0.9:
            connection.commit()
        else:
            connection.rollback()
            last -= 1
        if done == 1:
            print("ready", flush=True)
        time.sleep(0.005)  # not faster than the copy can follow
    connection.close()


if __name__ == "__main__":
    {"copy": copy, "write": write}[sys.argv[1]](*sys.argv[2:])
