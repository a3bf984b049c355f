"""A row that lacks a column fails no listener where the table has the column."""

from pgevents import ANY, Hub
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
