"""What an earlier release has installed is upgraded in place, beside processes of it that run."""

import json
import os
import pathlib
import queue
import subprocess
import sys
import threading

import pytest

from pgevents import Hub, Registry
from pgevents.testing import wait_until

from .contract.test_install_together import PROCESSES, starting_together

RELEASES = pathlib.Path(__file__).parent / "releases"
FORMER = "0.1.0"
TIMEOUT = 60  # seconds in which a line has to come, on a machine that does other things too


class Former:
    """A running hub of an earlier release; `lines` is what it has reported."""

    def __init__(self, url, group="mailer", release=FORMER):
        archive = RELEASES / "pgevents-{}.zip".format(release)
        self.lines = []
        self._queue = queue.Queue()
        self._process = subprocess.Popen(
            [sys.executable, str(RELEASES / "hub.py"), url, group],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": str(archive)},
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        # What waited for a group may be reported before the hub says that it has started.
        while "started" not in (line := self.next()):
            pass
        assert line == {"started": release}

    def next(self):
        line = self._queue.get(timeout=TIMEOUT)
        assert line is not None, "the former release's hub has ended"
        return line

    def said(self, what):
        return sorted(line[what] for line in self.lines if what in line)

    def stop(self):
        self._process.stdin.close()
        try:
            self._process.wait(TIMEOUT)
        finally:
            self._process.kill()
            self._reader.join()
            self._process.stdout.close()

    def _read(self):
        for text in self._process.stdout:
            line = json.loads(text)
            self.lines.append(line)
            self._queue.put(line)
        self._queue.put(None)


@pytest.fixture
def former(orders):
    """A hub of the former release, which has installed what it needs."""
    former = Former(orders.url)
    yield former
    former.stop()


def triggers(database):
    """Each trigger there is, as it was made: another one of the same name shows."""
    if database.kind == "sqlite":
        return database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
    return database.execute("SELECT oid, tgname, tgargs::text, xmin::text FROM pg_trigger")


def rounds(database):
    """How often somebody has kept house."""
    table = "pgevents_retention" if database.kind == "sqlite" else "pgevents.retention"
    return database.execute("SELECT count(*) FROM {}".format(table))[0][0]


def test_six_processes_upgrade_a_database_beside_a_hub_of_the_former_release(orders, former):
    with starting_together(orders.url) as heard:
        orders.execute("INSERT INTO orders (item) VALUES ('tea')")
        items = [heard.get(timeout=20) for _ in range(PROCESSES)]

    assert items == ["tea"] * PROCESSES
    assert wait_until(lambda: former.said("plain") == former.said("group") == ["tea"], TIMEOUT)


def test_two_releases_beside_each_other_let_the_triggers_be(orders, former, registry, heard):
    registry.listen("orders", "after_change", heard)

    with Hub(orders.url, registry):
        orders.execute("INSERT INTO orders (item) VALUES ('tea')")
        heard.next()
        settled = rounds(orders) + 2
        wait_until(lambda: rounds(orders) >= settled, TIMEOUT)
        before = triggers(orders)
        orders.execute("UPDATE orders SET item = 'mint tea'")
        heard.next()
        wait_until(lambda: rounds(orders) >= settled + 4, TIMEOUT)
        after = triggers(orders)

    assert before == after
    assert wait_until(lambda: former.said("plain") == ["mint tea", "tea"], TIMEOUT)


def test_triggers_that_the_former_release_puts_back_are_kept_with_a_warning(
    sqlite, registry, heard, caplog
):
    sqlite.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, item text)")
    former = Former(sqlite.url)
    registry.listen("orders", "after_change", heard)
    try:
        with Hub(sqlite.url, registry) as hub:
            assert wait_until(lambda: hub.status()["warnings"], TIMEOUT)
            sqlite.execute("INSERT INTO orders (item) VALUES ('tea')")
            told = heard.next(timeout=TIMEOUT).new
            (warning,) = hub.status()["warnings"]
            before = triggers(sqlite)
            hub._upkeep.check()
            after = triggers(sqlite)
    finally:
        former.stop()
    with Hub(sqlite.url, registry) as hub:
        healed = triggers(sqlite)
        warnings = hub.status()["warnings"]

    assert told == {"id": 1, "item": "tea"}
    assert "main.orders are those of release 0.1" in warning
    assert caplog.text.count("are those of release 0.1") == 1
    assert before == after != healed
    assert warnings == []


def test_what_waits_for_a_group_of_the_former_release_is_handled_after_the_upgrade(
    orders, registry, heard
):
    former = Former(orders.url)
    former.stop()
    orders.execute("INSERT INTO orders (item) VALUES ('tea')")
    registry.listen("orders", "after_change", heard, group="mailer")

    with Hub(orders.url, registry):
        orders.execute("INSERT INTO orders (item) VALUES ('coffee')")
        items = [heard.next().new["item"] for _ in range(2)]

    assert items == ["tea", "coffee"]


def test_a_table_that_was_uninstalled_is_installed_again_by_the_former_release(orders, heard):
    Former(orders.url).stop()  # its group is what the log stays for
    registry = Registry()
    registry.listen("orders", "after_insert", heard)
    hub = Hub(orders.url, registry)
    hub.install()
    hub.uninstall()
    between = hub.installed()

    former = Former(orders.url)
    try:
        orders.execute("INSERT INTO orders (item) VALUES ('tea')")
        assert wait_until(lambda: former.said("plain") == former.said("group") == ["tea"], TIMEOUT)
    finally:
        former.stop()

    assert between == []
    assert hub.installed()[0]["operations"] == ["insert", "update", "delete"]
    assert hub.installed()[0]["include"] is None


def test_a_hub_of_the_former_release_starts_on_an_upgraded_database(orders, heard):
    registry = Registry()
    registry.listen("orders", "after_change", heard)

    with Hub(orders.url, registry):
        former = Former(orders.url)
        try:
            orders.execute("INSERT INTO orders (item) VALUES ('tea')")
            assert heard.next().new["item"] == "tea"
            assert wait_until(lambda: former.said("plain") == ["tea"], TIMEOUT)
        finally:
            former.stop()


def test_a_note_of_a_truncated_partition_is_nothing_to_the_former_release(
    postgres, registry, heard, gaps
):
    postgres.execute("CREATE TABLE orders (id serial, item text) PARTITION BY RANGE (id)")
    postgres.execute("CREATE TABLE low PARTITION OF orders DEFAULT")
    former = Former(postgres.url)
    try:
        registry.listen("orders", ["after_insert", "after_truncate"], heard)
        with Hub(postgres.url, registry, service="young"):
            before = triggers(postgres)
            postgres.execute("TRUNCATE low")
            wait_until(lambda: gaps)
            postgres.execute("INSERT INTO orders (item) VALUES ('tea')")
            heard.next()
            wait_until(lambda: former.said("plain") == former.said("group") == ["tea"], TIMEOUT)
            settled = rounds(postgres)
            wait_until(lambda: rounds(postgres) >= settled + 4, TIMEOUT)
            after = triggers(postgres)
    finally:
        former.stop()

    assert ["public.low, a partition of public.orders" in gap for gap in gaps] == [True]
    assert former.said("gap") == []
    assert sorted(after) == sorted(before)
