"""Columns that were left out stay out; and what start() says when it cannot."""

import warnings

import pytest
from sqlalchemy import Column, Integer, String
from sqlalchemy.orm import column_property, declarative_base

from pgevents import DatabaseError, Hub, Registry, UsageError

from .. import command
from ..waiting import wait_for


def listening(database, *moments, listener=print, service="default", columns=None, **spec):
    """A hub that listens to orders and, where there is a spec, watches them."""
    registry = Registry()
    registry.listen("orders", moments or "after_insert", listener, columns=columns)
    hub = Hub(database.url, registry, service=service)
    if spec:
        hub.watch("orders", **spec)
    return hub


def test_a_hub_without_rights_hears_what_the_owner_installed_in_part(orders, registry, heard):
    owner = Hub(orders.url, Registry())
    owner.watch("orders", exclude=["item"])
    owner.install()
    registry.listen("orders", "after_insert", heard)

    with Hub(orders.url, registry, install=False):
        orders.execute("INSERT INTO orders (item) VALUES ('secret')")
        assert heard.next().new == {"id": 1, "status": "new"}


def test_a_column_may_be_left_out_by_its_attribute(orders, registry, heard):
    class Order(declarative_base()):
        __tablename__ = "orders"
        id = Column(Integer, primary_key=True)
        secret = Column("item", String)
        status = Column(String)
        shown = column_property(status + "!")

    registry.listen("orders", "after_insert", heard)
    hub = Hub(orders.url, registry)
    hub.watch(Order, exclude=[Order.secret])
    with pytest.raises(UsageError, match="Order.shown is computed"):
        hub.watch(Order, include=[Order.shown])

    with hub:
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
    orders, registry, heard, gaps
):
    orders.execute("CREATE TABLE customers (id integer PRIMARY KEY)")
    registry.listen("orders", "after_insert", heard)
    registry.listen("customers", "after_insert", heard)

    with Hub(orders.url, registry, retention=1):
        orders.execute("DROP TABLE customers")
        wait_for(lambda: gaps)
        orders.execute("INSERT INTO orders (item) VALUES ('tea')")
        event = heard.next()

    assert "customers" in gaps[0]
    assert event.table == "orders"


@pytest.mark.parametrize("service", ["default", "another"])
def test_a_listener_of_an_earlier_release_does_not_widen_what_is_left_out_now(
    orders, heard, service, caplog
):
    listening(orders, "after_change", service=service).install()

    with listening(orders, "after_change", listener=heard, exclude=["item"], old=False) as hub:
        orders.execute("INSERT INTO orders (item) VALUES ('secret')")
        orders.execute("UPDATE orders SET item = 'other', status = 'sent'")
        inserted, updated = heard.take(2)
        state = hub.installed()[0]

    assert inserted.new == {"id": 1, "status": "new"}
    assert (updated.old, updated.new) == ({"id": 1}, {"id": 1, "status": "sent"})
    assert (state["include"], state["exclude"], state["old"]) == (None, ["item"], False)
    assert state["state"] == "ok"
    assert "left out" not in caplog.text


def test_listeners_that_come_later_do_not_widen_it_again(orders):
    listening(orders, exclude=["item"]).install()

    for service in ("default", "another"):
        listening(orders, "after_change", service=service).install()

    assert listening(orders).installed()[0]["exclude"] == ["item"]


def test_a_column_that_a_listener_names_is_not_taken_from_it(orders, heard, caplog):
    stock = listening(orders, "after_update", listener=heard, service="stock", columns=["status"])

    with stock:
        listening(orders, exclude=["item", "status"], old=False).install()
        orders.execute("INSERT INTO orders (item) VALUES ('secret')")
        orders.execute("UPDATE orders SET status = 'paid'")
        event = heard.next()

    assert (event.old, event.new) == ({"id": 1, "status": "new"}, {"id": 1, "status": "paid"})
    assert "left out here, and captured all the same: status, old rows; wanted by" in caplog.text
    assert "'stock'" in caplog.text


def test_watching_without_columns_means_all_of_them_and_another_is_told(orders, caplog):
    whole = Hub(orders.url, Registry(), service="stock")
    whole.watch("orders")
    whole.install()

    with listening(orders, exclude=["item"]) as hub:
        captured = hub.installed()[0]
    (told,) = [text for _, _, text in caplog.record_tuples if "left out" in text]

    assert (captured["include"], captured["exclude"]) == (None, [])
    assert told.endswith(
        "orders: left out here, and captured all the same: item; wanted by the service 'stock'"
    )


def test_what_the_same_service_asked_for_earlier_stays_until_it_is_uninstalled(orders, caplog):
    listening(orders, include=["item", "status"]).install()

    narrow = listening(orders, include=["status"])
    narrow.install()
    told = caplog.text
    wide = narrow.installed()[0]["include"]
    caplog.clear()
    narrow.uninstall()
    narrow.install()

    assert "item; the service 'default' itself asked for it earlier, which only uninstall()" in told
    assert wide == ["id", "item", "status"]
    assert narrow.installed()[0]["include"] == ["id", "status"]
    assert "left out" not in caplog.text


def test_the_command_tells_what_is_captured_although_it_was_excluded(orders):
    assert command.run("install", orders.url, "orders", "--service", "stock")[0] == 0

    code, out, err = command.run("install", orders.url, "orders", "--exclude", "item")

    assert code == 0
    assert "item; wanted by the service 'stock'" in err


def test_a_hub_that_may_not_install_tells_what_nobody_left_out(orders, caplog):
    listening(orders).install()
    registry = Registry()
    registry.listen("orders", "after_insert", print)
    hub = Hub(orders.url, registry, install=False)
    hub.watch("orders", "after_insert", exclude=["item"])

    with hub:
        pass

    assert "item; whoever installed it did not leave it out" in caplog.text


def test_a_key_cannot_be_left_out(orders):
    with pytest.raises(UsageError, match=r"leaves out .*orders\.id, which is its key"):
        listening(orders, exclude=["id"]).install()


def test_a_column_that_becomes_the_key_is_captured_from_the_next_install_on(database, heard):
    database.execute("CREATE TABLE orders (id int, item text)")
    listening(database, exclude=["id"]).install()
    database.execute("DROP TABLE orders")
    database.execute("CREATE TABLE orders (id int PRIMARY KEY, item text)")

    with listening(database, listener=heard, service="another"):
        database.execute("INSERT INTO orders VALUES (7, 'tea')")

        assert heard.next().key == 7
