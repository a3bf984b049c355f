"""A group's writes are in everybody's way on SQLite: they are few, and begin when nobody minds."""

import pathlib
import socket
import subprocess
import sys
import threading
import time

import pytest

from pgevents import Hub
from pgevents.sqlite.connection import BUSY
from pgevents.sqlite.courtesy import Courtesy
from pgevents.warnings import Warnings

from ..orders import insert, leases
from ..test_upgrade import Former
from ..waiting import wait_for

LAST = 2**63 - 1  # what a lease names besides its events when others may follow
WRITES = """
import sys
with open(sys.argv[1], "rb") as file:
    file.seek(24)
    print(int.from_bytes(file.read(4), "big"))
"""

#: What Django does for requests that change something, by default; says how many went well.
REQUESTS = """
import contextlib, sqlite3, sys, time
done = 0
for _ in range(200):
    with contextlib.closing(sqlite3.connect(sys.argv[1], isolation_level=None)) as own:
        try:
            own.execute("BEGIN")
            own.execute("SELECT count(*) FROM orders").fetchone()
            time.sleep(0.001)
            own.execute("INSERT INTO orders (item) VALUES ('a')")
            own.execute("COMMIT")
            done += 1
        except sqlite3.OperationalError:
            pass
    time.sleep(0.001)
print(done)
"""


@pytest.fixture
def orders(sqlite):
    sqlite.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT)")
    return sqlite


def writes(database):
    """How many transactions have written to the file, which counts them itself."""
    # In a process of its own: to close the file drops this one's locks.
    out = subprocess.run(
        [sys.executable, "-c", WRITES, str(database.path)],
        stdout=subprocess.PIPE,
        encoding="utf-8",
        check=True,
    ).stdout
    return int(out)


def test_an_idle_group_writes_nothing_and_waits_for_no_writer(orders, registry, heard):
    orders.execute("PRAGMA journal_mode = wal")
    registry.listen("orders", "after_insert", heard, group="mailer")
    writer = orders.connect()
    with Hub(orders.url, registry) as hub:
        insert(orders, "a")
        heard.next()
        wait_for(lambda: not leases(orders))
        writer.execute("BEGIN IMMEDIATE")
        begun = time.monotonic()
        for _ in range(5):
            assert hub.drain()
            assert hub.group("mailer").lag() == (0, 0.0)
        took = time.monotonic() - begun
        writer.rollback()

    assert took < BUSY


def test_an_event_costs_a_group_two_writes(orders, registry, heard):
    registry.listen("orders", "after_insert", heard, group="mailer")
    with Hub(orders.url, registry):
        before = writes(orders)
        insert(orders, "a")
        heard.next()
        wait_for(lambda: not leases(orders))
        after = writes(orders)

    assert after - before <= 1 + 2


def test_events_that_come_one_after_the_other_cost_a_group_hardly_any_writes(
    orders, registry, heard
):
    registry.listen("orders", "after_insert", heard, group="mailer")
    with Hub(orders.url, registry):
        before = writes(orders)
        for _ in range(50):
            insert(orders, "a")
            heard.next()
        after = writes(orders)

    assert after - before < 50 * 1.5  # two for each event, if each had its own


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_requests_that_read_and_then_write_do_not_fail_beside_a_group(
    orders, registry, heard, mode
):
    orders.execute("PRAGMA journal_mode = {}".format(mode))
    registry.listen("orders", "after_insert", heard, group="mailer")

    with Hub(orders.url, registry):
        out = subprocess.run(
            [sys.executable, "-c", REQUESTS, str(orders.path)],
            stdout=subprocess.PIPE,
            encoding="utf-8",
            check=True,
        ).stdout
        done = int(out)
        events = heard.take(done, 30)

    print("done:", done)
    assert done >= 180  # on a very busy machine; the benchmark measures it
    assert [event.key for event in events] == sorted(event.key for event in events)


@pytest.mark.skipif(not pathlib.Path("/proc/locks").exists(), reason="no list of locks here")
@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_write_of_ours_waits_for_a_transaction_that_has_read(orders, mode):
    orders.execute("PRAGMA journal_mode = {}".format(mode))
    request, ours = orders.connect(), orders.connect()
    request.isolation_level = ours.isolation_level = None
    request.execute("BEGIN")
    request.execute("SELECT count(*) FROM orders").fetchone()
    begins = threading.Event()

    def write():
        begins.set()
        Courtesy(str(orders.path), Warnings()).begin(ours, brief=True)
        ours.execute("INSERT INTO orders (item) VALUES ('ours')")
        ours.execute("COMMIT")

    thread = threading.Thread(target=write)
    thread.start()
    assert begins.wait(20)
    request.execute("INSERT INTO orders (item) VALUES ('theirs')")  # would fail at once
    request.execute("COMMIT")
    thread.join()

    assert orders.execute("SELECT item FROM orders") == [("theirs",), ("ours",)]


def test_who_reads_for_long_holds_up_no_group_and_is_named_in_status(orders, registry, heard):
    registry.listen("orders", "after_insert", heard, group="mailer")
    reader = orders.connect()
    with Hub(orders.url, registry) as hub:
        orders.execute("PRAGMA journal_mode = wal")
        insert(orders, "a")
        heard.next()
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM orders").fetchone()
        for _ in range(20):
            insert(orders, "b")
            heard.next()
        wait_for(lambda: not leases(orders))
        (warning,) = hub.status()["warnings"]
        reader.rollback()

    assert "BEGIN IMMEDIATE" in warning


def leave(database, seqs, cursor):
    """Leave a lease behind as a process does that was killed."""
    dead = subprocess.Popen(["true"])
    dead.wait()
    database.execute("UPDATE pgevents_groups SET cursor = %s", str(cursor))
    database.execute(
        "INSERT INTO pgevents_leases (group_name, seqs, attempt, owner, renewed, due)"
        " VALUES ('mailer', %s, 1, %s, %s, %s)",
        seqs,
        "{}:{}:1".format(socket.gethostname(), dead.pid),
        time.time() - 5,
        time.time() + 60,
    )


def test_what_a_dead_process_may_have_handled_unnamed_comes_again_and_says_so(
    orders, registry, heard
):
    registry.listen("orders", "after_insert", heard, group="mailer")
    hub = Hub(orders.url, registry)
    hub.group("mailer", max_attempts=1)
    with hub:
        insert(orders, "a", "b", "c")
        first = [event.position for event in heard.take(3)]
        wait_for(lambda: not leases(orders))
    leave(orders, "{},{}".format(first[0], LAST), first[0])

    with hub:
        events = heard.take(3)
        wait_for(lambda: not leases(orders))
        lag = hub.group("mailer").lag()

    assert [event.position for event in events] == first
    # Nobody knows of which event it died: none is blamed, though each has one attempt only.
    assert {(event.attempt, event.redelivered) for event in events} == {(1, True)}
    assert lag == (0, 0.0)
    assert hub.group("mailer").dead_letters() == []


def test_the_former_release_takes_over_a_lease_that_others_follow(orders):
    former = Former(orders.url)
    try:
        insert(orders, "a")
        wait_for(lambda: former.said("group") == ["a"])
        wait_for(lambda: not leases(orders))
    finally:
        former.stop()
    insert(orders, "b", "c")
    leave(orders, "2,{}".format(LAST), 2)  # named: b; what follows: c

    former = Former(orders.url)
    try:
        wait_for(lambda: former.said("group") == ["b", "c"])
        wait_for(lambda: not leases(orders))
    finally:
        former.stop()
