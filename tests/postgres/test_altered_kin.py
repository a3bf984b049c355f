"""A table that becomes a partition or an inheritance child under a running hub is heard."""

import pytest

from pgevents import Hub, Registry, signals
from pgevents.testing import wait_until

pytestmark = pytest.mark.usefixtures("attentive")

PARENT = "CREATE TABLE parent (id int NOT NULL, item text) PARTITION BY RANGE (id)"
ATTACH = "ALTER TABLE parent ATTACH PARTITION orders FOR VALUES FROM (0) TO (100)"
#: How a table becomes a child, and what is written through the parent then.
KIN = {
    "partition": (PARENT, ATTACH, "INSERT INTO parent VALUES (7, 'tea')", "insert"),
    "child": (
        "CREATE TABLE parent (id int NOT NULL, item text)",
        "ALTER TABLE orders INHERIT parent",
        "UPDATE parent SET item = 'tea' WHERE id = 1",
        "update",
    ),
}


@pytest.fixture
def orders(postgres):
    """A table of orders with one in it."""
    postgres.execute("CREATE TABLE orders (id int NOT NULL, item text)")
    postgres.execute("INSERT INTO orders VALUES (1, 'salt')")
    return postgres


def by_row(database, table="orders"):
    """Tell for each trigger of ours whether it fires for each row."""
    return {
        row[0]
        for row in database.execute(
            "SELECT tgtype & 1 = 1 FROM pg_trigger WHERE tgrelid = %s::regclass"
            " AND tgname LIKE 'pgevents%%' AND tgname NOT LIKE '%%truncate%%'",
            table,
        )
    }


@pytest.mark.every_server
@pytest.mark.parametrize("parent, alter, write, operation", KIN.values(), ids=KIN)
def test_what_is_written_through_the_parent_is_heard(
    orders, registry, heard, gaps, parent, alter, write, operation
):
    registry.listen("orders", "after_change", heard)
    orders.execute(parent)

    with Hub(orders.url, registry) as hub:
        orders.execute(alter)
        wait_until(lambda: by_row(orders) == {True})
        wait_until(lambda: hub.installed()[0]["state"] == "ok")
        orders.execute(write)
        event = heard.next()

    assert (event.operation, event.new["item"]) == (operation, "tea")
    assert "public.orders became a partition or an inheritance child" in gaps[0]


def test_every_hub_reports_it_whoever_changes_the_triggers(orders):
    told = []

    def tell(hub, reason):
        told.append((hub, reason))

    hubs = []
    for _ in range(2):
        registry = Registry()
        registry.listen("orders", "after_insert", print)
        hubs.append(Hub(orders.url, registry))
    orders.execute(PARENT)
    with hubs[0], hubs[1], signals.gap.connected_to(tell):
        orders.execute(ATTACH)
        wait_until(lambda: {hub for hub, _ in told} == set(hubs))

    assert all("became a partition" in reason for _, reason in told)


def test_a_table_that_is_detached_misses_nothing_and_gets_quick_triggers_again(
    orders, registry, heard, gaps
):
    registry.listen("orders", "after_insert", heard)
    orders.execute(PARENT)
    orders.execute(ATTACH)

    with Hub(orders.url, registry):
        assert by_row(orders) == {True}
        orders.execute("ALTER TABLE parent DETACH PARTITION orders")
        orders.execute("INSERT INTO orders VALUES (2)")
        wait_until(lambda: by_row(orders) == {False})
        orders.execute("INSERT INTO orders VALUES (3)")
        events = heard.take(2)

    assert [event.new["id"] for event in events] == [2, 3]
    assert gaps == []


def test_a_parent_that_gets_a_child_goes_on(orders, registry, heard, gaps):
    registry.listen("orders", "after_update", heard)

    with Hub(orders.url, registry) as hub:
        orders.execute("CREATE TABLE child () INHERITS (orders)")
        orders.execute("INSERT INTO child VALUES (2, 'rye')")
        orders.execute("UPDATE orders SET item = 'tea'")
        events = heard.take(2)
        hub._life.housekeeper.wake()
        assert hub.drain()

    assert sorted(event.new["id"] for event in events) == [1, 2]
    assert gaps == []


def test_a_trigger_that_is_disabled_on_one_partition_is_noticed_at_once(
    postgres, registry, heard, gaps
):
    postgres.execute(PARENT)
    postgres.execute(
        "CREATE TABLE low PARTITION OF parent FOR VALUES FROM (0) TO (10)"
        " PARTITION BY RANGE (id)"
    )
    postgres.execute("CREATE TABLE lowest PARTITION OF low DEFAULT")
    registry.listen("parent", "after_insert", heard)

    with Hub(postgres.url, registry) as hub:
        postgres.execute("ALTER TABLE lowest DISABLE TRIGGER USER")
        wait_until(lambda: gaps)
        wait_until(lambda: hub.installed()[0]["state"] == "ok")
        postgres.execute("INSERT INTO parent VALUES (1)")
        heard.next()

    assert "a trigger of public.parent is missing, disabled or outdated" in gaps[0]


def test_what_does_not_concern_the_capture_is_no_gap(orders, registry, heard, gaps):
    registry.listen("orders", "after_insert", heard)

    with Hub(orders.url, registry) as hub:
        for statement in (
            "ALTER TABLE orders SET UNLOGGED",
            "ALTER TABLE orders SET LOGGED",
            "CLUSTER orders USING orders_id",
            "ALTER TABLE orders RENAME item TO it",
        ):
            if "CLUSTER" in statement:
                orders.execute("CREATE INDEX orders_id ON orders (id)")
            orders.execute(statement)
        hub._life.housekeeper.wake()
        orders.execute("INSERT INTO orders VALUES (2)")
        heard.next()
        assert hub.drain()

    assert gaps == []
