"""How long dead letters stay, and what they keep."""

import time

import pytest

from pgevents import Hub, UsageError

from ..orders import insert
from ..waiting import wait_for

TIMEOUT = 20.0  # seconds in which a group has to be done
DAY = 86400


def dead(database):
    return "pgevents_dead" if database.kind == "sqlite" else "pgevents.dead"


def age(database, letter, days):
    database.execute(
        "UPDATE {} SET at = %s WHERE id = %s".format(dead(database)),
        time.time() - days * DAY,
        letter.id,
    )


def fail(event):
    raise ValueError("poison")


def given_up(database, hub, group, number, **options):
    found = hub.group(group, max_attempts=1, **options)
    with hub:
        insert(database, *"abcdef"[:number])
        wait_for(lambda: len(found.dead_letters()) == number, TIMEOUT)
    return found.dead_letters()


def test_dead_letters_stay_for_ever_or_as_long_as_the_hub_says(orders, registry):
    registry.listen("orders", "after_insert", fail, group="mailer")
    registry.listen("orders", "after_delete", print)
    old, new = given_up(orders, Hub(orders.url, registry), "mailer", 2)
    age(orders, old, 40)

    for_ever = Hub(orders.url, registry, retention=1)
    with for_ever:
        orders.execute("DELETE FROM orders")  # what has no listener goes with the next rounds
        log = "pgevents_log" if orders.kind == "sqlite" else "pgevents.log"
        wait_for(lambda: orders.execute("SELECT count(*) FROM " + log) == [(2,)], TIMEOUT)
        assert [one.id for one in for_ever.group("mailer").dead_letters()] == [old.id, new.id]
    hub = Hub(orders.url, registry, dead_letter_retention=30 * DAY, retention=1)
    with hub:
        left = "SELECT id FROM {} ORDER BY id".format(dead(orders))
        wait_for(lambda: orders.execute(left) == [(new.id,)], TIMEOUT)


@pytest.mark.parametrize("value", [0, -1, "30d", True], ids=repr)
def test_a_dead_letters_retention_is_a_number_of_seconds(orders, value):
    with pytest.raises(UsageError, match="dead_letter_retention"):
        Hub(orders.url, dead_letter_retention=value)


def test_dead_letters_of_some_age_are_listed_and_discarded(orders, registry):
    registry.listen("orders", "after_insert", fail, group="mailer")
    hub = Hub(orders.url, registry)
    first, second, third = given_up(orders, hub, "mailer", 3)
    age(orders, first, 40)
    age(orders, second, 40)
    group = hub.group("mailer")

    assert [one.id for one in group.dead_letters(older_than=30 * DAY)] == [first.id, second.id]
    assert group.discard_dead(first, third, older_than=30 * DAY) == 1
    assert group.discard_dead(third, older_than=30 * DAY) == 0
    assert group.discard_dead(older_than=30 * DAY) == 1
    assert [one.id for one in group.dead_letters()] == [third.id]
    with pytest.raises(UsageError, match="older_than"):
        group.discard_dead(older_than="30d")
    hub.stop()


def test_a_group_may_keep_no_rows_in_its_dead_letters_and_retry_them(orders, registry, heard):
    cured = []

    def handle(event):
        if not cured:
            raise ValueError("poison")
        heard(event)

    registry.listen("orders", ["after_insert", "after_update"], handle, group="mailer")
    hub = Hub(orders.url, registry)
    group = hub.group("mailer", max_attempts=1, keep_rows=False)
    with hub:
        with orders.engine().begin() as connection, hub.context(connection, user="secret-user"):
            connection.exec_driver_sql("INSERT INTO orders (item) VALUES ('secret-tea')")
        orders.execute("UPDATE orders SET item = 'secret-milk'")
        letters = wait_for(lambda: len(group.dead_letters()) == 2 and group.dead_letters(), TIMEOUT)
        kept = str(orders.execute("SELECT event, error FROM " + dead(orders)))
        cured.append(True)
        assert group.retry_dead() == 2
        events = heard.take(2, TIMEOUT)

    assert "secret" not in kept
    assert [letter.event.key for letter in letters] == [1, 1]
    assert [dict(letter.event.new) for letter in letters] == [{"id": 1}, {"id": 1}]
    assert [event.new["item"] for event in events] == ["secret-tea", "secret-milk"]
    assert events[0].context == {"user": "secret-user"}
    assert hub.group("mailer", keep_rows=True).name == "mailer"


@pytest.mark.parametrize(
    "kind, literal",
    [
        ("numeric", "12345678901234567890.123456789"),
        ("numeric", "1" + "0" * 5000),
        ("text", "'a\"b ü'"),
        ("real", "0.1"),
        ("bigint", "9223372036854775807"),
    ],
)
def test_the_key_that_a_dead_letter_keeps_is_exact(database, registry, kind, literal):
    database.execute("CREATE TABLE things (id {} PRIMARY KEY, what text)".format(kind))
    registry.listen("things", "after_insert", fail, group="a")
    registry.listen("things", "after_insert", fail, group="b")
    hub = Hub(database.url, registry)
    hub.group("a", max_attempts=1)
    hub.group("b", max_attempts=1, keep_rows=False)
    with hub:
        database.execute("INSERT INTO things VALUES ({}, 'x')".format(literal))
        letters = [wait_for(hub.group(name).dead_letters, TIMEOUT)[0] for name in "ab"]

    keys = [letter.event.key for letter in letters]
    assert keys[0] == keys[1] and type(keys[0]) is type(keys[1])
    assert [set(letter.event.new) for letter in letters] == [{"id", "what"}, {"id"}]
