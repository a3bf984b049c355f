"""Groups whose file is replaced by another, or deleted and made again, while they run."""

import os
import sqlite3
import threading

import pytest

from pgevents import Hub

from ..orders import insert
from ..waiting import wait_for

TIMEOUT = 30.0  # seconds


@pytest.fixture
def orders(sqlite):
    create(sqlite.path)
    return sqlite


def create(path):
    connection = sqlite3.connect(str(path))
    connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT)")
    connection.close()


def backup(database, path):
    """Copy the file as it is now, as SQLite's own backup does."""
    source, target = database.connect(), sqlite3.connect(str(path))
    source.backup(target)
    source.close()
    target.close()
    return path


def replace(database, path):
    """Put a file in the place of the database's, with all that belongs to it."""
    for suffix in ("-wal", "-shm"):
        if os.path.exists(str(database.path) + suffix):
            os.unlink(str(database.path) + suffix)
    os.replace(str(path), str(database.path))


def cursor(path):
    connection = sqlite3.connect(str(path))
    try:
        return connection.execute("SELECT cursor FROM pgevents_groups").fetchall()
    finally:
        connection.close()


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_group_goes_on_in_the_file_that_replaces_its_own(
    orders, registry, heard, gaps, tmp_path, mode
):
    orders.execute("PRAGMA journal_mode = {}".format(mode))
    registry.listen("orders", "after_insert", heard, group="mailer")
    with Hub(orders.url, registry) as hub:
        group = hub.group("mailer")
        insert(orders, "a", "b")
        heard.take(2)
        wait_for(lambda: group.lag() == (0, 0.0))
        copy = backup(orders, tmp_path / "backup.db")
        insert(orders, "lost")
        heard.next()
        wait_for(lambda: group.lag() == (0, 0.0))
        os.link(str(orders.path), str(tmp_path / "former.db"))
        replace(orders, copy)
        insert(orders, "c")
        event = heard.next(TIMEOUT)
        wait_for(lambda: group.lag() == (0, 0.0))
        wait_for(lambda: gaps)
        insert(orders, "d")
        later = heard.next(TIMEOUT)
        status = hub.status()

    assert (event.new["item"], event.position, event.redelivered) == ("c", 3, False)
    assert (later.new["item"], later.position) == ("d", 4)
    assert "replaced" in gaps[0]
    assert status["groups"]["mailer"]["error"] is None
    assert cursor(tmp_path / "former.db") <= [("3",)]  # nobody has written there since


def test_a_group_is_defined_again_in_a_file_that_does_not_know_it(
    orders, registry, heard, gaps, tmp_path
):
    empty = tmp_path / "empty.db"
    create(empty)
    registry.listen("orders", "after_insert", heard, group="mailer")
    with Hub(orders.url, registry) as hub:
        insert(orders, "a")
        heard.next()
        replace(orders, empty)
        wait_for(
            lambda: hub.status()["connects"] > 1 and hub.status()["state"] == "listening", TIMEOUT
        )
        wait_for(lambda: orders.execute("SELECT name FROM pgevents_groups") == [("mailer",)])
        insert(orders, "b")
        event = heard.next(TIMEOUT)
        lag = hub.group("mailer").lag()

    assert event.new["item"] == "b"
    assert lag[0] <= 1
    assert gaps


def test_a_group_waits_for_a_file_that_is_deleted(orders, registry, heard, tmp_path):
    registry.listen("orders", "after_insert", heard, group="mailer")
    with Hub(orders.url, registry) as hub:
        insert(orders, "a")
        heard.next()
        wait_for(lambda: hub.group("mailer").lag() == (0, 0.0))
        copy = backup(orders, tmp_path / "backup.db")
        os.unlink(str(orders.path))
        error = wait_for(lambda: hub.status()["groups"]["mailer"]["error"], TIMEOUT)
        replace(orders, copy)
        insert(orders, "b")
        event = heard.next(TIMEOUT)

    assert "cannot be opened" in error
    assert event.new["item"] == "b"


def test_what_was_taken_from_the_former_file_is_not_acknowledged_in_the_other(
    orders, registry, heard, tmp_path
):
    began, go_on = threading.Event(), threading.Event()

    def slow(event):
        if not began.is_set():
            began.set()
            assert go_on.wait(TIMEOUT)
        heard(event)

    registry.listen("orders", "after_insert", slow, group="mailer")
    with Hub(orders.url, registry) as hub:
        insert(orders, "a")
        assert began.wait(TIMEOUT)
        # Its lease is in the copy, with the same number and owner, but nothing of it is done.
        copy = backup(orders, tmp_path / "backup.db")
        connection = sqlite3.connect(str(copy))
        connection.execute("UPDATE pgevents_leases SET due = 0")
        connection.commit()
        connection.close()
        replace(orders, copy)
        go_on.set()
        events = heard.take(2, TIMEOUT)
        wait_for(lambda: hub.group("mailer").lag() == (0, 0.0))

    assert [event.new["item"] for event in events] == ["a", "a"]
    assert [event.redelivered for event in events] == [False, True]
