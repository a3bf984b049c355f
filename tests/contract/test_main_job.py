"""The main job, on every database: a committed change reaches its listener."""

from pgevents import Hub


def test_an_insert_by_another_connection_is_heard(orders, registry, heard):
    registry.listens_for("orders", "after_insert")(heard)

    with Hub(orders.url, registry):
        orders.execute("INSERT INTO orders (item) VALUES ('tea')")
        event = heard.next()

    assert event.moment == "after_insert"
    assert event.table == "orders"
    assert event.key == 1
    assert event.new == {"id": 1, "item": "tea", "status": "new"}
    assert event.old is None


def test_an_update_tells_both_rows_and_what_changed(orders, registry, heard):
    orders.execute("INSERT INTO orders (item) VALUES ('tea')")
    registry.listens_for("orders", "after_update")(heard)

    with Hub(orders.url, registry):
        orders.execute("UPDATE orders SET status = 'paid'")
        event = heard.next()

    assert event.old["status"] == "new"
    assert event.new["status"] == "paid"
    assert event.changed == ("status",)


def test_a_delete_tells_the_old_row(orders, registry, heard):
    orders.execute("INSERT INTO orders (item) VALUES ('tea')")
    registry.listens_for("orders", "after_delete")(heard)

    with Hub(orders.url, registry):
        orders.execute("DELETE FROM orders")
        event = heard.next()

    assert event.key == 1
    assert event.old["item"] == "tea"
    assert event.new is None


def test_what_is_rolled_back_is_not_heard(orders, registry, heard):
    registry.listens_for("orders", "after_insert")(heard)

    with Hub(orders.url, registry) as hub:
        writer = orders.connect()
        writer.cursor().execute("INSERT INTO orders (item) VALUES ('never')")
        writer.rollback()
        orders.execute("INSERT INTO orders (item) VALUES ('tea')")
        assert hub.drain(10)

    assert [event.new["item"] for event in heard.rest()] == ["tea"]


def test_a_hub_may_be_bound_to_an_engine(orders, registry, heard):
    registry.listens_for("orders", "after_insert")(heard)

    with Hub(orders.engine(), registry):
        orders.execute("INSERT INTO orders (item) VALUES ('tea')")

        assert heard.next().key == 1


def test_a_bulk_insert_is_heard_in_order(orders, registry, heard):
    registry.listens_for("orders", "after_insert")(heard)

    with Hub(orders.url, registry) as hub:
        writer = orders.connect()
        cursor = writer.cursor()
        mark = "?" if orders.kind == "sqlite" else "%s"
        cursor.executemany(
            "INSERT INTO orders (item) VALUES ({})".format(mark), [(str(n),) for n in range(3000)]
        )
        writer.commit()
        assert hub.drain(30)

    assert [event.new["item"] for event in heard.rest()] == [str(n) for n in range(3000)]
