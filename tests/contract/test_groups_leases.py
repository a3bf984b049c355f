"""Leases: renewed while a listener runs, taken over when nobody does, fenced when lost."""

import threading

from pgevents import Hub, Registry

from ..waiting import wait_for

TIMEOUT = 20.0  # seconds


def insert(database, *items):
    for item in items:
        database.execute("INSERT INTO orders (item) VALUES (%s)", item)


def leases(database, what):
    table = "pgevents_leases" if database.kind == "sqlite" else "pgevents.leases"
    return [row[0] for row in database.execute("SELECT {} FROM {}".format(what, table))]


def test_a_listener_slower_than_its_lease_is_not_run_a_second_time(orders):
    began, go_on = threading.Semaphore(0), threading.Event()
    calls = []

    def slow(event):
        calls.append(event)
        began.release()
        assert go_on.wait(TIMEOUT)

    hubs = []
    for _ in range(2):
        registry = Registry()
        registry.listen("orders", "after_insert", slow, group="mailer")
        hub = Hub(orders.url, registry)
        hub.group("mailer", lease=1)
        hubs.append(hub)

    with hubs[0], hubs[1]:
        insert(orders, "a")
        assert began.acquire(timeout=TIMEOUT)
        first = leases(orders, "due")[0]
        # Its time has been over twice: it was renewed.
        wait_for(lambda: leases(orders, "due")[0] > first + 2)
        go_on.set()
        wait_for(lambda: leases(orders, "id") == [])

    assert len(calls) == 1


def test_who_lost_its_lease_cannot_acknowledge(orders, heard):
    began, go_on = threading.Event(), threading.Event()

    def slow(event):
        if began.is_set():
            heard(event)
        else:
            began.set()
            assert go_on.wait(TIMEOUT)

    registry = Registry()
    registry.listen("orders", "after_insert", slow, group="mailer")
    with Hub(orders.url, registry):
        insert(orders, "a")
        assert began.wait(TIMEOUT)
        table = "pgevents_leases" if orders.kind == "sqlite" else "pgevents.leases"
        # As another process does that takes over, and dies at once.
        orders.execute("UPDATE {} SET owner = 'elsewhere:1:1', due = 0".format(table))
        go_on.set()
        event = heard.next(TIMEOUT)

    assert event.new["item"] == "a"
    assert (event.attempt, event.redelivered) == (2, True)
