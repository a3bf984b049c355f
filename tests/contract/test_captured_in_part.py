"""Columns that were left out stay out; and what start() says when it cannot."""

import warnings

import pytest

from pgevents import DatabaseError, Hub, Registry, UsageError, signals

from ..waiting import wait_for


def test_a_hub_without_rights_hears_what_the_owner_installed_in_part(orders, registry, heard):
    owner = Hub(orders.url, Registry())
    owner.watch("orders", exclude=["item"])
    owner.install()
    registry.listen("orders", "after_insert", heard)

    with Hub(orders.url, registry, install=False):
        orders.execute("INSERT INTO orders (item) VALUES ('secret')")
        assert heard.next().new == {"id": 1, "status": "new"}


def test_a_listener_does_not_capture_what_was_left_out(orders, registry, heard):
    owner = Hub(orders.url, Registry())
    owner.watch("orders", exclude=["item"])
    owner.install()
    registry.listen("orders", "after_insert", heard)

    with Hub(orders.url, registry):
        orders.execute("INSERT INTO orders (item) VALUES ('secret')")
        assert heard.next().new == {"id": 1, "status": "new"}


def test_an_error_that_start_raises_is_not_logged_as_tried_again(orders, registry, heard, caplog):
    registry.listen("ordes", "after_insert", heard)

    with pytest.raises(UsageError):
        Hub(orders.url, registry).start()

    assert "trying again" not in caplog.text


def test_a_table_with_a_numeric_column_makes_no_warning(sqlite, registry, heard):
    sqlite.execute("CREATE TABLE prices (id INTEGER PRIMARY KEY, price NUMERIC)")
    registry.listen("prices", "after_insert", heard)

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with Hub(sqlite.url, registry):
            pass

    assert [str(w.message) for w in seen if "Decimal" in str(w.message)] == []


def test_a_file_that_is_not_there_is_named(tmp_path, registry):
    with pytest.raises(DatabaseError, match="no.db"):
        Hub("sqlite:///{}/no.db".format(tmp_path), registry).installed()


def test_a_listener_that_asks_for_what_was_left_out_is_told(orders, registry, heard):
    owner = Hub(orders.url, Registry())
    owner.watch("orders", exclude=["item"])
    owner.install()
    registry.listen("orders", "after_insert", heard, where={"item": "tea"})

    with pytest.raises(UsageError, match="orders.item.*not captured"):
        Hub(orders.url, registry).start()


def test_with_include_the_key_is_captured_all_the_same(orders, registry, heard):
    registry.listen("orders", "after_insert", heard)
    hub = Hub(orders.url, registry)
    hub.watch("orders", include=["status"])

    with hub:
        orders.execute("INSERT INTO orders (item) VALUES ('tea')")
        event = heard.next()

    assert event.key == 1
    assert event.new == {"id": 1, "status": "new"}


def test_a_table_that_goes_while_the_hub_runs_is_told_and_disturbs_no_other(
    orders, registry, heard
):
    told = []

    def tell(hub, reason):
        told.append(reason)

    orders.execute("CREATE TABLE customers (id integer PRIMARY KEY)")
    registry.listen("orders", "after_insert", heard)
    registry.listen("customers", "after_insert", heard)
    hub = Hub(orders.url, registry, retention=1)
    signals.gap.connect(tell, sender=hub)

    with hub:
        orders.execute("DROP TABLE customers")
        wait_for(lambda: told)
        orders.execute("INSERT INTO orders (item) VALUES ('tea')")
        event = heard.next()

    assert "customers" in told[0]
    assert event.table == "orders"
