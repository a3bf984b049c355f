"""Rows that a newer release has written to the log are skipped, and told once."""

import pytest

from pgevents import ANY, Hub

from ..waiting import wait_for

TIMEOUT = 20.0  # seconds


def log(database):
    return "pgevents_log" if database.kind == "sqlite" else "pgevents.log"


def write(database, topic, operation):
    database.execute(
        "INSERT INTO {} (topic, operation, new) VALUES (%s, %s, '{{}}')".format(log(database)),
        topic,
        operation,
    )


@pytest.mark.parametrize("workers", [1, 3])
def test_who_listens_skips_rows_of_a_newer_release_and_says_so_once(
    orders, registry, heard, caplog, workers
):
    known = "main.orders" if orders.kind == "sqlite" else "public.orders"
    grouped, everything = [], []
    registry.listen("orders", ["after_insert", "after_delete"], heard)
    registry.listen("orders", ["after_insert", "after_delete"], grouped.append, group="mailer")
    registry.listen(ANY, "after_insert", everything.append)

    with Hub(orders.url, registry, workers=workers) as hub:
        for _ in range(2):
            write(orders, known, "merge")
            write(orders, known, "\x1b[31m")
            write(orders, "news", "insert")
        orders.execute("INSERT INTO orders (item) VALUES ('tea')")
        event = heard.next(TIMEOUT)
        wait_for(lambda: grouped, TIMEOUT)
        assert hub.drain(TIMEOUT)
        status, letters = hub.status(), hub.group("mailer").dead_letters()

    assert [one.new["item"] for one in (event, *grouped, *everything)] == ["tea"] * 3
    assert (status["state"], status["threads_ended"], letters) == ("listening", [], [])
    for kind in ("operation 'merge'", r"operation '\x1b[31m'", "topic 'news'"):
        told = [one for one in status["warnings"] if kind in one]
        logged = [one for one in caplog.messages if kind in one]
        assert len(told) == len(logged) == 1


def test_no_more_than_some_kinds_of_such_rows_are_told(orders, registry, heard):
    known = "main.orders" if orders.kind == "sqlite" else "public.orders"
    registry.listen("orders", "after_insert", heard)

    with Hub(orders.url, registry) as hub:
        for number in range(30):
            write(orders, known, "x" * 200 + str(number))
            write(orders, known, str(number))
        orders.execute("INSERT INTO orders (item) VALUES ('tea')")
        heard.next(TIMEOUT)
        warnings = hub.status()["warnings"]

    assert len(warnings) == 20
    assert max(map(len, warnings)) < 200
