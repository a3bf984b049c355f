"""The log keeps what a group needs."""

from pgevents import Hub

from ..orders import log_size
from ..waiting import wait_for


def insert(database, count):
    for n in range(count):
        database.execute("INSERT INTO orders (item) VALUES (%s)", str(n))


def test_what_a_group_has_not_passed_stays(orders, registry, heard):
    registry.listen("orders", "after_insert", heard, group="mailer")
    hub = Hub(orders.url, registry, retention=1)
    group = hub.group("mailer")
    with hub:
        group.pause()
        insert(orders, 3)
        wait_for(lambda: group.lag()[1] > 2.5)  # several rounds of housekeeping
        kept = log_size(orders)
        group.resume()
        heard.take(3)
        wait_for(lambda: log_size(orders) == 0)

    assert kept == 3


def test_what_a_group_has_not_passed_goes_in_the_end_and_it_is_told(orders, registry, heard, gaps):
    registry.listen("orders", "after_insert", heard, group="mailer")
    hub = Hub(orders.url, registry, retention=1, group_retention=1)
    group = hub.group("mailer")
    with hub:
        group.pause()
        insert(orders, 3)
        wait_for(lambda: log_size(orders) == 0)
    with Hub(orders.url, registry):
        wait_for(lambda: gaps)

    assert "mailer" in gaps[0]
