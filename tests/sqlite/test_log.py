"""Reading the log of a file: several processes, locks, and files that change."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.parse

import pytest
import sqlalchemy

from pgevents import Denied, Hub, Registry, Unavailable, UsageError, signals
from pgevents.sqlite import log
from pgevents.sqlite.connection import BUSY
from pgevents.testing import Recorder

from .. import command, processes
from ..orders import insert
from ..waiting import TIMEOUT, wait_for

SEQUENCE = "SELECT seq FROM sqlite_sequence WHERE name = 'pgevents_log'"


@pytest.fixture
def orders(sqlite):
    sqlite.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT)")
    return sqlite


def read(url, ready, results):
    """One of the processes: say that it listens, then which keys it got."""
    recorder, registry = Recorder(), Registry()
    registry.listen("orders", "after_insert", recorder)
    with Hub(url, registry):
        ready.release()
        results.put([event.key for event in recorder.wait_for(60, TIMEOUT)])


@pytest.mark.parametrize("mode", ["delete", "wal", "truncate", "persist"])
def test_every_process_on_the_file_hears_every_event(orders, mode):
    orders.execute("PRAGMA journal_mode = {}".format(mode))
    context = processes.context()
    ready, results = context.Semaphore(0), context.Queue()
    readers = [
        context.Process(target=read, args=(orders.url, ready, results), daemon=True)
        for _ in range(3)
    ]
    for reader in readers:
        reader.start()
    for _ in readers:
        assert ready.acquire(timeout=TIMEOUT)

    writers = [
        threading.Thread(target=insert, args=(orders, *map(str, range(20)))) for _ in range(3)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    received = [results.get(timeout=TIMEOUT) for _ in readers]
    for reader in readers:
        reader.join(TIMEOUT)

    assert received == [[*range(1, 61)]] * 3


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_writer_that_locks_the_file_for_long_is_waited_for(orders, registry, heard, mode):
    orders.execute("PRAGMA journal_mode = {}".format(mode))
    registry.listen("orders", "after_insert", heard)
    with Hub(orders.url, registry) as hub:
        writer = orders.connect()
        writer.execute("BEGIN EXCLUSIVE")
        writer.execute("INSERT INTO orders (item) VALUES ('a')")
        assert not hub.drain(1) or mode == "wal"  # it cannot know what is under way
        state = hub.status()["state"]
        writer.commit()
        event = heard.next()

    assert state == "listening"
    assert event.new["item"] == "a"


def test_vacuum_and_checkpoints_disturb_nothing(orders, registry, heard):
    orders.execute("PRAGMA journal_mode = wal")
    registry.listen("orders", "after_insert", heard)
    with Hub(orders.url, registry):
        for statement in ("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)", "ANALYZE"):
            insert(orders, "before")
            orders.execute(statement)
            insert(orders, "after")
        events = heard.take(6)

    assert [event.key for event in events] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    "form",
    [
        "sqlite:///{path}",
        "sqlite:///file:{quoted}?uri=true",
        "sqlite:///file://{quoted}?mode=rw&uri=true",
    ],
)
def test_a_file_may_be_named_as_sqlite_names_it(tmp_path, registry, heard, form):
    path = tmp_path / "my shop.db"
    url = form.format(path=path, quoted=urllib.parse.quote(str(path)))
    with contextlib.closing(sqlite3.connect(str(path))) as connection:
        connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT)")
    engine = sqlalchemy.create_engine(url)
    registry.listen("orders", "after_insert", heard)

    for bind in (url, engine):
        with Hub(bind, registry):
            with engine.begin() as connection:
                connection.execute(sqlalchemy.text("INSERT INTO orders (item) VALUES ('tea')"))
            assert heard.next().new["item"] == "tea"
    engine.dispose()


def test_a_file_that_is_deleted_is_noticed_and_one_in_its_place_is_followed(
    orders, registry, heard, gaps, tmp_path
):
    lost = threading.Event()

    def tell_lost(hub, **details):
        lost.set()

    registry.listen("orders", "after_insert", heard)
    hub = Hub(orders.url, registry)
    signals.disconnected.connect(tell_lost, sender=hub)
    with hub:
        insert(orders, "a")
        heard.next()
        backup = tmp_path / "backup.db"
        shutil.copy(str(orders.path), str(backup))
        insert(orders, "b")
        heard.next()
        os.unlink(str(orders.path))
        assert lost.wait(20)
        os.rename(str(backup), str(orders.path))
        assert hub.wait_ready(30)
        wait_for(lambda: gaps)
        insert(orders, "c")
        event = heard.next()

    assert "replaced" in gaps[0]
    assert event.new["item"] == "c"


def test_a_table_that_a_migration_makes_anew_is_captured_again(orders, registry, heard, gaps):
    registry.listen("orders", "after_insert", heard)
    with Hub(orders.url, registry) as hub:
        migration = orders.connect()
        migration.executescript(
            "BEGIN; CREATE TABLE new_orders (id INTEGER PRIMARY KEY, item TEXT, price REAL);"
            "INSERT INTO new_orders (id, item) SELECT id, item FROM orders;"
            "DROP TABLE orders; ALTER TABLE new_orders RENAME TO orders; COMMIT"
        )
        wait_for(lambda: hub.installed()[0]["state"] == "ok")
        orders.execute("INSERT INTO orders (item, price) VALUES ('a', 0.1)")
        event = heard.next()

    assert event.new == {"id": 1, "item": "a", "price": 0.1}
    assert gaps


def test_a_read_only_file_is_one_clear_error(orders, registry, heard, monkeypatch):
    registry.listen("orders", "after_insert", heard)
    hub = Hub(orders.url, registry)
    # Not by the file's mode: root may write whatever it is.
    real = sqlite3.connect

    def read_only(name, **options):
        return real(str(name).replace("mode=rw", "mode=ro"), **options)

    monkeypatch.setattr(sqlite3, "connect", read_only)
    with pytest.raises(Denied, match="cannot be written"):
        hub.start()


def test_an_attached_database_needs_a_hub_of_its_own(orders, registry):
    registry.listen("archive.orders", "after_insert", print)

    with pytest.raises(UsageError, match="archive.orders.*hub of its own"):
        Hub(orders.url, registry).start()


def test_a_commit_through_the_hub_s_own_engine_is_heard(orders, registry, heard):
    registry.listen("orders", "after_insert", heard)
    engine = orders.engine()
    with Hub(engine, registry):
        with engine.begin() as connection:
            connection.exec_driver_sql("INSERT INTO orders (item) VALUES ('a')")
        event = heard.next()

    assert event.new["item"] == "a"


def test_a_backfill_that_is_cleaned_away_is_no_gap_to_others(orders, registry, heard):
    insert(orders, "tea")
    registry.listen("orders", "after_insert", heard)
    filled = Registry()
    filled.listen("orders", "after_insert", heard, group="filled")
    hub, keeper = Hub(orders.url, registry), Hub(orders.url, filled, retention=1)
    keeper.group("filled", start="backfill")

    with hub, keeper:
        heard.next()
        wait_for(lambda: orders.execute("SELECT count(*) FROM pgevents_log") == [(0,)])
        assert hub.drain()

    assert hub.status()["gaps"] == 0


def test_an_idle_hub_costs_next_to_nothing(orders):
    script = """
import resource, sys, threading, time
from pgevents import Hub, Registry
registry = Registry()
registry.listen("orders", "after_insert", print)
with Hub(sys.argv[1], registry):
    begin, used = time.monotonic(), time.process_time()
    threading.Event().wait(3)
    print((time.process_time() - used) / (time.monotonic() - begin))
"""
    out = subprocess.run(
        [sys.executable, "-c", script, orders.url],
        stdout=subprocess.PIPE,
        encoding="utf-8",
        env=command.environment(),
        timeout=60,
    ).stdout

    print("of a core:", out)
    assert float(out) < 0.1  # the benchmark measures it; this notices a thread that spins


def test_start_waits_for_a_file_that_is_locked_for_longer_than_sqlite_waits(
    orders, registry, heard
):
    registry.listen("orders", "after_insert", heard)
    release = threading.Timer(BUSY + 1, exclusive(orders).close)
    release.start()

    with Hub(orders.url, registry).start(timeout=40):
        insert(orders, "a")
        event = heard.next()
    release.join()

    assert event.new["item"] == "a"


def test_start_says_what_kept_it_when_its_time_is_over(orders, registry):
    registry.listen("orders", "after_insert", print)
    hub = Hub(orders.url, registry)
    hub.install()
    locker = exclusive(orders)
    begun = time.monotonic()

    with pytest.raises(Unavailable, match="another connection has the SQLite file locked"):
        hub.start(timeout=1)

    took = time.monotonic() - begun
    locker.rollback()
    assert 1 <= took < BUSY


def exclusive(database):
    """A connection that lets nobody read or write."""
    connection = database.connect()
    connection.execute("BEGIN EXCLUSIVE")
    connection.execute("UPDATE orders SET item = item")
    return connection


RESETS = {
    "emptied": ["DELETE FROM sqlite_sequence"],
    "zero": ["UPDATE sqlite_sequence SET seq = 0"],
    "with the log": ["DELETE FROM pgevents_log", "DELETE FROM sqlite_sequence"],
}


@pytest.mark.parametrize("how", RESETS)
def test_numbers_that_somebody_sets_back_go_on(orders, registry, heard, gaps, how):
    grouped = Recorder()
    registry.listen("orders", "after_insert", heard)
    registry.listen("orders", "after_insert", grouped, group="mailer")
    with Hub(orders.url, registry) as hub:
        insert(orders, *"abc")
        before = [event.position for event in heard.take(3)]
        grouped.take(3)
        wait_for(lambda: orders.execute("SELECT cursor FROM pgevents_groups") == [("3",)])
        for statement in RESETS[how]:
            orders.execute(statement)
        wait_for(lambda: orders.execute(SEQUENCE) == [(before[-1],)])
        insert(orders, *"de")
        after = [event.position for event in heard.take(2)]
        grouped.take(2)
        assert hub.drain()

    assert after == [before[-1] + 1, before[-1] + 2]
    assert heard.rest() == grouped.rest() == []
    assert gaps == []


def test_rows_are_delivered_though_the_numbers_cannot_be_raised(
    orders, registry, heard, monkeypatch
):
    registry.listen("orders", "after_insert", heard)

    def full(*_):
        raise sqlite3.OperationalError("database or disk is full")

    with Hub(orders.url, registry) as hub:
        insert(orders, *"abc")
        heard.take(3)
        monkeypatch.setattr(log, "raise_to", full)
        with contextlib.closing(orders.connect()) as connection, connection:
            connection.execute("INSERT INTO orders (item) VALUES ('d')")
            connection.execute("DELETE FROM sqlite_sequence")
        item = heard.next().new["item"]
        wait_for(lambda: any("disk is full" in one for one in hub.status()["warnings"]))

    assert item == "d"


def test_what_is_written_while_the_numbers_are_set_back_is_a_gap(orders, registry, heard, gaps):
    registry.listen("orders", "after_insert", heard)
    with Hub(orders.url, registry):
        insert(orders, *"abc")
        heard.take(3)
        fixture = orders.connect()
        fixture.executescript(
            "BEGIN; DELETE FROM pgevents_log; DELETE FROM sqlite_sequence;"
            "INSERT INTO orders (item) VALUES ('d'); COMMIT"
        )
        wait_for(lambda: gaps)
        wait_for(lambda: orders.execute(SEQUENCE) == [(3,)])
        insert(orders, "e")
        event = heard.next()

    assert event.new["item"] == "e"
    assert len(gaps) == 1
    assert "set back" in gaps[0]


def test_a_group_is_not_deaf_after_its_numbers_were_set_back_while_nobody_ran(
    orders, registry, heard
):
    registry.listen("orders", "after_insert", heard, group="mailer")
    with Hub(orders.url, registry):
        insert(orders, *"abc")
        heard.take(3)
    orders.execute("DELETE FROM pgevents_log")
    orders.execute("DELETE FROM sqlite_sequence")

    with Hub(orders.url, registry):
        insert(orders, "d")
        event = heard.next()

    assert event.position == 4
