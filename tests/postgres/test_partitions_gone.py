"""Partitions that are truncated, detached, dropped or attached with rows are reported by a gap."""

import pytest

from pgevents import ANY, Hub, Registry
from pgevents.delivery import source
from pgevents.postgres import alterations
from pgevents.testing import wait_until

NOTE = "pgevents_truncate_"


@pytest.fixture(autouse=True)
def look_often(monkeypatch):
    """Let a hub look at the catalog ten times a second instead of every four seconds."""
    monkeypatch.setattr(alterations, "LOOK", 0.1)
    monkeypatch.setattr(source, "IDLE", 0.1)


def parted(database):
    """Make a table with two partitions, one of which has a partition of its own."""
    for statement in (
        "CREATE TABLE orders (id int, item text) PARTITION BY RANGE (id)",
        "CREATE TABLE low PARTITION OF orders FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE high PARTITION OF orders FOR VALUES FROM (10) TO (20)"
        " PARTITION BY RANGE (id)",
        "CREATE TABLE highest PARTITION OF high DEFAULT",
        "INSERT INTO orders VALUES (1), (11)",
    ):
        database.execute(statement)
    return database


@pytest.fixture
def orders(postgres):
    return parted(postgres)


def notes(database):
    """Which tables have a trigger that notes when they are truncated."""
    return {
        row[0]
        for row in database.execute(
            "SELECT relname FROM pg_trigger JOIN pg_class c ON c.oid = tgrelid"
            " JOIN pg_proc p ON p.oid = tgfoid WHERE proname = 'partition_truncated'"
        )
    }


def test_the_truncation_of_a_partition_is_a_gap_and_no_event(orders, registry, heard, gaps):
    registry.listen("orders", ["after_truncate", "after_delete"], heard)
    registry.listen(ANY, "after_truncate", heard)

    with Hub(orders.url, registry) as hub:
        orders.execute("TRUNCATE low")
        wait_until(lambda: gaps)
        orders.execute("TRUNCATE high")
        wait_until(lambda: len(gaps) == 2)
        assert hub.drain()

    assert "public.low, a partition of public.orders, was truncated" in gaps[0]
    assert "public.highest, a partition of public.orders" in gaps[1]
    assert heard.rest() == []


def test_the_truncation_of_the_whole_table_is_one_event_and_no_gap(orders, registry, heard, gaps):
    registry.listen("orders", "after_truncate", heard)

    with Hub(orders.url, registry) as hub:
        orders.execute("TRUNCATE orders")
        orders.execute("BEGIN; TRUNCATE orders; TRUNCATE low; COMMIT")
        assert hub.drain()

    assert [event.table for event in heard.rest()] == ["orders"] * 2
    assert gaps == []


def test_a_partition_that_is_watched_itself_has_its_event(orders, registry, heard, gaps):
    registry.listen("orders", "after_truncate", heard)
    registry.listen("low", "after_truncate", heard)

    with Hub(orders.url, registry) as hub:
        orders.execute("TRUNCATE low")
        wait_until(lambda: gaps)
        assert hub.drain()

    assert [event.table for event in heard.rest()] == ["low"]


def test_a_group_is_told_of_a_truncation_while_no_process_ran(orders, registry, heard, gaps):
    registry.listen("orders", ["after_insert", "after_truncate"], heard, group="g")
    with Hub(orders.url, registry):
        pass
    orders.execute("TRUNCATE low")
    orders.execute("INSERT INTO orders VALUES (2)")

    with Hub(orders.url, registry) as hub:
        event = heard.next()
        wait_until(lambda: hub.group("g").lag()[0] == 0)

    assert event.key is None and event.new["id"] == 2
    assert len(gaps) == 1
    assert "the group g: public.low, a partition of public.orders, was truncated" in gaps[0]


def test_who_listens_to_something_else_is_not_told(orders, registry, heard, gaps):
    other = Registry()
    other.listen("orders", "after_truncate", print)
    Hub(orders.url, other, service="other").install()
    registry.listen("orders", "after_insert", heard)

    with Hub(orders.url, registry) as hub:
        orders.execute("TRUNCATE low")
        assert hub.drain()

    assert gaps == []


@pytest.mark.parametrize("statement", ["ALTER TABLE orders DETACH PARTITION low", "DROP TABLE low"])
def test_a_partition_that_is_detached_or_dropped_is_a_gap_that_names_it(
    orders, registry, gaps, statement
):
    registry.listen("orders", "after_delete", print)

    with Hub(orders.url, registry):
        orders.execute(statement)
        wait_until(lambda: gaps)

    assert "the partition public.low of public.orders was detached or dropped" in gaps[0]


def test_a_partition_that_comes_with_rows_is_a_gap_and_a_new_one_is_not(
    orders, registry, heard, gaps
):
    registry.listen("orders", ["after_insert", "after_truncate"], heard)

    with Hub(orders.url, registry):
        orders.execute("CREATE TABLE new PARTITION OF orders FOR VALUES FROM (20) TO (30)")
        wait_until(lambda: "new" in notes(orders))
        before = list(gaps)
        orders.execute("CREATE TABLE late (id int, item text)")
        orders.execute("INSERT INTO late VALUES (31)")
        orders.execute("ALTER TABLE orders ATTACH PARTITION late FOR VALUES FROM (30) TO (40)")
        wait_until(lambda: gaps)
        wait_until(lambda: "late" in notes(orders))

    assert before == []
    assert "public.late was attached to public.orders: the rows that it had" in gaps[0]


def test_the_triggers_leave_with_the_last_service_also_a_partition_that_was_detached(
    orders, registry, gaps
):
    registry.listen("orders", "after_truncate", print)

    with Hub(orders.url, registry) as hub:
        everywhere = notes(orders)
        orders.execute("ALTER TABLE orders DETACH PARTITION low")
        orders.execute("TRUNCATE low")
        assert hub.drain()
        state = hub.installed()[0]["state"]
    hub.uninstall()

    assert everywhere == {"low", "high", "highest"}
    assert state == "ok"
    assert not any("truncated" in gap for gap in gaps)
    assert notes(orders) == set()
    assert orders.execute("SELECT to_regclass('pgevents.log')") == [(None,)]


def test_the_printed_sql_has_them_and_a_hub_without_rights_warns_of_new_ones(
    orders, registry, gaps
):
    registry.listen("orders", "after_truncate", print)
    orders.execute(Hub(orders.url, registry).install(sql_only=True))

    with Hub(orders.url, registry, install=False) as hub:
        before = hub.status()["warnings"]
        orders.execute("CREATE TABLE new PARTITION OF orders FOR VALUES FROM (20) TO (30)")
        wait_until(lambda: hub.status()["warnings"])
        (warning,) = hub.status()["warnings"]

    assert before == gaps == []
    assert "nobody would notice that public.new, a partition of public.orders, is tr" in warning
