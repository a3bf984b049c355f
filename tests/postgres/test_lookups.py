"""A catalog that does not answer keeps the listening connection from nothing."""

import os
import threading
import time

import pytest

from pgevents import Hub

from ..orders import items
from ..waiting import wait_for

FLOOD = 2000  # notifications of 7,900 bytes: far more than a socket keeps that nobody reads
CHILD = 20.0  # seconds until a child is connected
PROMPT = 5.0  # seconds; half of what a connection may take that hangs


@pytest.fixture
def held(postgres, proxy, registry, heard):
    """A running hub that has read a row of an altered table, and cannot ask what it is now."""
    postgres.execute("CREATE TABLE orders (id serial PRIMARY KEY, item text)")
    registry.listen("orders", "after_insert", heard)
    with Hub(postgres.through(proxy), registry) as hub:
        postgres.execute("INSERT INTO orders (item) VALUES ('tea')")
        heard.next()
        proxy.hold()
        postgres.execute("ALTER TABLE orders ADD price numeric")
        postgres.execute("INSERT INTO orders (item, price) VALUES ('milk', 1.10)")
        wait_for(looks_up)
        yield hub


def looks_up():
    return any(thread.name.endswith("-lookup") for thread in threading.enumerate())


def flood(database):
    """Send what the listening connection has to take."""
    log = database.execute("SELECT 'pgevents.log'::regclass::oid::int8")[0][0]
    database.execute(
        "SELECT pg_notify(%s, repeat('x', 7895) || n) FROM generate_series(1, %s) n",
        "pgevents_{}".format(log),
        FLOOD,
    )


def test_the_listening_connection_is_read_while_the_catalog_does_not_answer(
    postgres, proxy, held, heard
):
    before = proxy.passed

    flood(postgres)

    wait_for(lambda: proxy.passed - before > FLOOD * 7900, PROMPT)
    assert heard.rest() == []
    proxy.thaw()
    assert items(heard.take(1)) == ["milk"]


def test_rows_are_read_by_what_is_known_while_the_catalog_cannot_be_asked(
    postgres, proxy, registry, heard
):
    postgres.execute("CREATE TABLE orders (id serial PRIMARY KEY, item text)")
    registry.listen("orders", "after_insert", heard)
    with Hub(postgres.through(proxy), registry) as hub:
        proxy.refuse()
        postgres.execute("ALTER TABLE orders ADD price numeric")
        postgres.execute("INSERT INTO orders (item, price) VALUES ('milk', 1)")
        event = heard.next()
        connected = hub.status()["connects"]
        proxy.accept()

    assert (event.key, event.new["item"], event.new["price"]) == (1, "milk", 1)
    assert connected == 1


def test_a_stop_does_not_wait_for_a_catalog_that_does_not_answer(held):
    begun = time.monotonic()

    held.stop()

    assert time.monotonic() - begun < PROMPT
    assert "pgevents-source" not in [thread.name for thread in threading.enumerate()]


def test_a_fork_meanwhile_keeps_neither_process_from_listening(postgres, proxy, held, heard):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        as_a_child(held, heard, writing)
    proxy.thaw()
    os.read(reading, 1)
    postgres.execute("INSERT INTO orders (item) VALUES ('salt')")

    assert items(heard.take(2)) == ["milk", "salt"]
    assert os.waitpid(child, 0)[1] == 0


def as_a_child(hub, heard, ready):
    """Exit with 0 if the hub of this forked process receives what comes next."""
    received = []
    try:
        if hub.wait_ready(CHILD):
            os.write(ready, b"r")
            received = items(heard.take(1))
    finally:
        os._exit(int(received != ["salt"]))
