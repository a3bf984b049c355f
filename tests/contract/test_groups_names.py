"""What a group is called mixes with nothing else."""

from pgevents import Hub

from ..waiting import wait_for

TIMEOUT = 20.0  # seconds in which a group has to be done
NAMES = ["shop", "shop:mailer", "shop:mailer:x", 'shop:"mailer', '"shop"', ":", "shop:"]


def log_of(database):
    return "pgevents_log" if database.kind == "sqlite" else "pgevents.log"


def keep_from(heard, name):
    def keep(event):
        heard((name, event.topic, event.new["item"]))

    return keep


def topic_of(database):
    return "main.orders" if database.kind == "sqlite" else "public.orders"


def test_a_group_of_any_name_gets_its_backfill_and_no_other(orders, registry, heard):
    orders.execute("INSERT INTO orders (item) VALUES ('tea'), ('milk')")
    hub = Hub(orders.url, registry)
    for name in NAMES:
        registry.listen("orders", "after_insert", keep_from(heard, name), group=name)
        hub.group(name, start="backfill")
    with hub:
        found = heard.take(2 * len(NAMES), TIMEOUT)
        assert hub.drain(TIMEOUT)

    expected = [(name, topic_of(orders), item) for name in NAMES for item in ("tea", "milk")]
    assert sorted(found) == sorted(expected)
    assert heard.rest() == []


def test_a_backfill_that_release_0_1_has_written_down_is_handled(orders, registry, heard):
    name = "shop:mailer"
    orders.execute("INSERT INTO orders (item) VALUES ('tea'), ('milk')")
    registry.listen("orders", "after_insert", keep_from(heard, name), group=name)
    hub = Hub(orders.url, registry)
    group = hub.group(name, start="backfill")
    with hub:
        heard.take(2, TIMEOUT)
        assert hub.drain(TIMEOUT)
        group.pause()
        group.rewind("beginning")
        orders.execute(
            "UPDATE {} SET topic = %s".format(log_of(orders)),
            "backfill:{}:{}".format(name, topic_of(orders)),
        )
        group.resume()
        events = heard.take(2, TIMEOUT)

    assert events == [(name, topic_of(orders), "tea"), (name, topic_of(orders), "milk")]


def test_a_group_that_stands_still_keeps_no_backfill_of_another(orders, registry, heard):
    orders.execute("INSERT INTO orders (item) VALUES ('tea')")
    for name in ("a", "a:b"):
        registry.listen("orders", "after_insert", keep_from(heard, name), group=name)
    hub = Hub(orders.url, registry, retention=1)
    hub.group("a:b", start="backfill")
    with hub:
        heard.take(1, TIMEOUT)
        hub.group("a").pause()
        hub.group("a").rewind("beginning")

        wait_for(lambda: orders.execute("SELECT count(*) FROM " + log_of(orders)) == [(0,)])
