"""Tables are altered while rows of theirs wait: each row is read as its table was."""

import datetime
import threading
from decimal import Decimal

import pytest

from pgevents import ANY, Hub, Retry
from pgevents.testing import wait_until


def test_a_delete_of_which_only_the_key_is_kept(orders, registry, heard):
    registry.listen("orders", "after_delete", heard, where={"id": 1})
    hub = Hub(orders.url, registry)
    hub.watch("orders", old=False)

    with hub:
        orders.execute("INSERT INTO orders (item) VALUES ('tea')")
        orders.execute("DELETE FROM orders")
        assert hub.drain()
        status = hub.status()

    assert (status["failed"], status["handled"]) == (0, 2)
    assert [dict(event.old) for event in heard.rest()] == [{"id": 1}]


def test_rows_from_before_a_column_was_added(orders, registry, heard):
    registry.listen("orders", "after_insert", print, group="g")
    with Hub(orders.url, registry):
        pass
    orders.execute("INSERT INTO orders (item) VALUES ('tea')")
    orders.execute("ALTER TABLE orders ADD COLUMN paid integer")
    registry.remove("orders", "after_insert", print)
    registry.listen("orders", "after_insert", heard, where={"paid": None}, group="g")
    hub = Hub(orders.url, registry)
    hub.group("g", max_attempts=1)

    with hub:
        orders.execute("INSERT INTO orders (item) VALUES ('milk')")
        event = heard.next()
        wait_until(lambda: hub.group("g").lag()[0] == 0)
        letters = hub.group("g").dead_letters()

    assert (event.key, letters) == (2, [])


def test_a_column_that_some_tables_have_may_be_asked_of_any(orders, registry, heard):
    orders.execute("CREATE TABLE customers (id integer PRIMARY KEY)")
    registry.listen(ANY, "after_insert", heard, where={"item": "tea"})
    hub = Hub(orders.url, registry)
    hub.watch("orders")
    hub.watch("customers")

    with hub:
        orders.execute("INSERT INTO customers VALUES (7)")
        orders.execute("INSERT INTO orders (item) VALUES ('tea')")
        assert hub.drain()
        status = hub.status()

    assert status["failed"] == 0
    assert [event.table for event in heard.rest()] == ["orders"]


#: A table whose day becomes a moment, and its key another column.
ALTERED = {
    "postgresql": [
        "ALTER TABLE orders ALTER day TYPE timestamp, DROP CONSTRAINT orders_pkey,"
        " ADD PRIMARY KEY (item)"
    ],
    "sqlite": [
        "CREATE TABLE young (id int, item text PRIMARY KEY, status text, day timestamp)",
        "DROP TABLE orders",
        "ALTER TABLE young RENAME TO orders",
    ],
}


def captured_again(hub):
    """Wait until the table's triggers fit it."""
    wait_until(lambda: [table["state"] for table in hub.installed()] == ["ok"])


@pytest.mark.parametrize("group", [None, "g"])
def test_rows_from_before_an_alteration_keep_their_types_and_key(orders, registry, heard, group):
    orders.execute("ALTER TABLE orders ADD COLUMN day date")
    registry.listen("orders", "after_insert", heard, group=group)
    hub = Hub(orders.url, registry)
    insert = "INSERT INTO orders (id, item, day) VALUES (7, %s, %s)"

    with hub:
        if group:
            hub.group("g").pause()
        orders.execute(insert, "tea", "2024-05-06")
        assert hub.drain()
        for statement in ALTERED[orders.kind]:
            orders.execute(statement)
        captured_again(hub)
        orders.execute(insert, "milk", "2024-05-06 07:08:09")
        if group:
            hub.group("g").resume()
        before, after = heard.take(2)

    assert (before.key, before.new["day"]) == (7, datetime.date(2024, 5, 6))
    assert (after.key, after.new["day"]) == ("milk", datetime.datetime(2024, 5, 6, 7, 8, 9))


def test_a_column_that_was_added_has_its_type_at_once(orders, registry, heard):
    registry.listen("orders", "after_insert", heard)

    with Hub(orders.url, registry) as hub:
        orders.execute("INSERT INTO orders (item) VALUES ('tea')")
        heard.next()
        orders.execute("ALTER TABLE orders ADD COLUMN price numeric(30, 10)")
        captured_again(hub)
        orders.execute("INSERT INTO orders (price) VALUES (0.1)")
        event = heard.next()

    assert event.new["price"] == Decimal("0.1")


def test_neither_who_reads_nor_who_calls_asks_the_catalog(orders, registry, heard, monkeypatch):
    orders.execute("CREATE TABLE customers (id integer PRIMARY KEY)")
    registry.listen(ANY, "after_change", heard)
    registry.listen("orders", "after_update", print, where={"status": "paid"})
    hub = Hub(orders.url, registry, retry=Retry(attempts=1))
    hub.watch("customers")
    hub.watch("orders")
    asking = []

    with hub:
        connect = hub._backend._connect
        monkeypatch.setattr(
            hub._backend,
            "_connect",
            lambda: asking.append(threading.current_thread().name) or connect(),
        )
        orders.execute("INSERT INTO customers VALUES (7)")  # a table that no listener names
        orders.execute("INSERT INTO orders (item) VALUES ('tea')")
        orders.execute("ALTER TABLE orders RENAME COLUMN status TO state")
        orders.execute("UPDATE orders SET item = 'milk'")  # lacks what a listener asks for
        assert hub.drain()
        status = hub.status()

    assert len(heard.take(3)) == 3
    if orders.kind == "postgresql":  # SQLite's triggers keep the name that they were made with
        assert status["failed"] == 1
    assert "pgevents-source-lookup" in asking
    assert not {"pgevents-source", "pgevents-dispatcher"} & {*asking}
