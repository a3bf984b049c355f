"""A dump restored into a younger cluster: its transactions' numbers lie in the future."""

import json

import pytest

from pgevents import Hub, Registry

from ..orders import insert
from ..waiting import wait_for

FAR = 10**12  # a transaction's number that no test reaches


@pytest.fixture
def orders(postgres):
    postgres.execute("CREATE TABLE orders (id serial PRIMARY KEY, item text)")
    return postgres


def hub_of(database, listener, group=None, **options):
    """A hub that listens to orders, not started."""
    registry = Registry()
    registry.listen("orders", "after_insert", listener, group=group)
    return Hub(database.url, registry, **options)


def restore(database):
    """Let all numbers of transactions be those of an older cluster."""
    database.execute("UPDATE pgevents.log SET xid = (xid::text::int8 + %s)::text::xid8", FAR)
    snapshot = "{0}:{0}:".format(FAR + 10**6)
    database.execute("UPDATE pgevents.retention SET upto = %s", snapshot)
    for name, text in database.execute("SELECT name, cursor FROM pgevents.groups"):
        cursor = dict(json.loads(text), since=snapshot)
        cursor["upto"] = cursor["upto"] and snapshot
        database.execute(
            "UPDATE pgevents.groups SET cursor = %s WHERE name = %s", json.dumps(cursor), name
        )


def items(heard):
    return [event.new["item"] for event in heard.rest()]


def test_rows_of_another_cluster_are_told_of_and_count_as_read(orders, heard, gaps):
    hub_of(orders, heard).install()
    insert(orders, "old", "older")
    restore(orders)

    with hub_of(orders, heard) as hub:
        insert(orders, "new")
        assert hub.drain()
        insert(orders, "newer")
        assert hub.drain()

    assert items(heard) == ["new", "newer"]
    assert len(gaps) == 1 and "another cluster" in gaps[0]


def test_they_are_told_of_once(orders, heard, gaps):
    hub_of(orders, heard).install()
    insert(orders, "old")
    restore(orders)
    with hub_of(orders, heard):
        pass
    first = list(gaps)

    with hub_of(orders, heard):
        pass

    assert len(first) == 1
    assert gaps == first


def test_a_group_goes_on_where_it_was(orders, heard, gaps):
    with hub_of(orders, heard, "mailer") as hub:
        insert(orders, "handled")
        heard.next()
    insert(orders, "waited", "waits")
    restore(orders)

    with hub_of(orders, heard, "mailer") as hub:
        heard.wait_for(3)
        insert(orders, "new")
        heard.wait_for(4)
        wait_for(lambda: hub.group("mailer").lag()[0] == 0)

    assert items(heard) == ["waited", "waits", "new"]
    assert len(gaps) == 1


def test_a_group_that_had_nothing_yet_begins_where_it_was_defined(orders, heard, gaps):
    hub_of(orders, heard).install()
    insert(orders, "before")
    with hub_of(orders, heard, "mailer"):
        pass
    insert(orders, "waits")
    restore(orders)

    with hub_of(orders, heard, "mailer") as hub:
        insert(orders, "new")
        heard.wait_for(2)
        wait_for(lambda: hub.group("mailer").lag()[0] == 0)

    assert items(heard) == ["waits", "new"]
    assert len(gaps) == 1


def test_a_group_whose_rows_are_all_gone_hears_what_is_new(orders, heard, gaps):
    with hub_of(orders, heard, "mailer"):
        insert(orders, "handled")
        heard.next()
    restore(orders)
    orders.execute("DELETE FROM pgevents.log")

    with hub_of(orders, heard, "mailer"):
        insert(orders, "new")
        heard.next()

    assert len(gaps) == 1


@pytest.mark.parametrize("start", ["beginning", "backfill"])
def test_a_group_that_had_only_begun_reads_on(orders, heard, start):
    hub_of(orders, heard).install()
    insert(orders, *map(str, range(30)))
    hub = hub_of(orders, heard, "mailer")
    group = hub.group("mailer", batch_size=7, start=start)
    handled = []

    def handle(event):
        handled.append(event.new["item"])
        if len(handled) == 7:
            group.pause()

    hub.registry.remove("orders", "after_insert", heard)
    hub.registry.listen("orders", "after_insert", handle, group="mailer")
    with hub:
        wait_for(lambda: len(handled) >= 7 and group.lag()[0] == 23)
    restore(orders)
    with hub:
        group.resume()
        wait_for(lambda: group.lag()[0] == 0)
        insert(orders, "new")
        wait_for(lambda: "new" in handled)

    assert handled == [*map(str, range(30)), "new"]


def test_notes_of_another_cluster_do_not_clean_what_is_new(orders, heard, gaps):
    with hub_of(orders, heard, retention=1):
        wait_for(lambda: orders.execute("SELECT 1 FROM pgevents.retention"))
    orders.execute("UPDATE pgevents.retention SET at = at - interval '1 hour', cleaned = true")
    restore(orders)

    with hub_of(orders, heard, retention=60) as hub:
        insert(orders, "new")
        hub._parts.chores.clean()
        heard.next()

    assert orders.execute("SELECT count(*) FROM pgevents.log") == [(1,)]
    assert gaps == []
