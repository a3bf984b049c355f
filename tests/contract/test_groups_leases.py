"""Leases: renewed while a listener runs, taken over when nobody does, fenced when lost."""

import socket
import subprocess
import threading
import time

import pytest

from pgevents import Hub, Registry, signals

from ..orders import insert, leases
from ..waiting import wait_for

TIMEOUT = 20.0  # seconds
DAY = 86400


def hub_of(database, listener, **options):
    """A hub of the group "mailer", not started."""
    registry = Registry()
    registry.listen("orders", "after_insert", listener, group="mailer")
    hub = Hub(database.url, registry)
    hub.group("mailer", **options)
    return hub


def test_a_listener_slower_than_its_lease_is_not_run_a_second_time(orders):
    began, go_on = threading.Semaphore(0), threading.Event()
    calls = []

    def slow(event):
        calls.append(event)
        began.release()
        assert go_on.wait(TIMEOUT)

    with hub_of(orders, slow, lease=1), hub_of(orders, slow, lease=1):
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


def move(database, seconds):
    """Make the times of the leases those of a clock that was set since."""
    table = "pgevents_leases" if database.kind == "sqlite" else "pgevents.leases"
    database.execute(
        "UPDATE {} SET due = due + {}, renewed = renewed + {}".format(table, seconds, seconds)
    )


def test_an_event_that_ended_its_processes_is_told_as_a_dead_letter_too(orders, registry):
    began, go_on = threading.Event(), threading.Event()
    told = []

    def slow(event):
        began.set()
        assert go_on.wait(TIMEOUT)

    registry.listen("orders", "after_insert", slow, group="mailer")
    hub = Hub(orders.url, registry)
    group = hub.group("mailer", max_attempts=5)

    def tell(hub, **details):
        told.append(details)

    with hub, signals.dead_lettered.connected_to(tell, sender=hub):
        insert(orders, "a")
        assert began.wait(TIMEOUT)
        table = "pgevents_leases" if orders.kind == "sqlite" else "pgevents.leases"
        # As a fifth process does that takes over, and dies of it.
        orders.execute("UPDATE {} SET owner = 'elsewhere:1:1', due = 0, attempt = 5".format(table))
        go_on.set()
        wait_for(lambda: told)
        (letter,) = group.dead_letters()

    assert letter.attempts == 5
    assert [(one["event"], str(one["error"])) for one in told] == [(letter.event, letter.error)]


def test_an_event_that_waits_is_tried_again_though_the_clock_was_set_back(orders, registry, heard):
    def fail_once(event):
        if event.attempt == 1:
            raise ValueError("not now")
        heard(event)

    registry.listen("orders", "after_insert", fail_once, group="mailer")
    hub = Hub(orders.url, registry)
    hub.group("mailer", backoff=(60, 120))
    with hub:
        insert(orders, "a")
        wait_for(lambda: leases(orders, "owner") == [None])
        move(orders, DAY)
        event = heard.next(TIMEOUT)

    assert event.attempt == 2


def test_who_died_before_the_clock_was_set_back_is_taken_over_from(orders, registry, heard):
    registry.listen("orders", "after_insert", heard, group="mailer")
    hub = Hub(orders.url, registry)
    with hub:
        insert(orders, "a")
        first = heard.next(TIMEOUT)
        wait_for(lambda: leases(orders, "id") == [])
    dead = subprocess.Popen(["true"])
    dead.wait()
    owner = "{}:{}:1".format(socket.gethostname(), dead.pid)
    table = "pgevents_leases" if orders.kind == "sqlite" else "pgevents.leases"
    orders.execute(
        "INSERT INTO {} (group_name, seqs, attempt, owner, renewed, due)"
        " VALUES ('mailer', %s, 1, %s, %s, %s)".format(table),
        str(first.position),
        owner,
        time.time() + DAY,
        time.time() + DAY + 10,
    )

    with hub:
        event = heard.next(TIMEOUT)

    assert (event.attempt, event.redelivered) == (2, True)


def leave(database, positions, **values):
    """Leave a lease behind as a process does that is killed."""
    dead = subprocess.Popen(["true"])
    dead.wait()
    values = {
        "group_name": "mailer",
        "seqs": ",".join(map(str, positions)),
        "attempt": 1,
        "again": False,
        "owner": "{}:{}:1".format(socket.gethostname(), dead.pid),
        "renewed": time.time() - 5,
        "due": time.time() + 60,
        **values,
    }
    database.execute(
        "INSERT INTO {} ({}) VALUES ({})".format(
            "pgevents_leases" if database.kind == "sqlite" else "pgevents.leases",
            ", ".join(values),
            ", ".join(["%s"] * len(values)),
        ),
        *values.values(),
    )


def handled(database, registry, heard, number):
    """Let a group that has a single attempt handle some events; return it and their positions."""
    registry.listen("orders", "after_insert", heard, group="mailer")
    hub = Hub(database.url, registry)
    hub.group("mailer", max_attempts=1)
    with hub:
        insert(database, *"abcdefgh"[:number])
        positions = [event.position for event in heard.take(number, TIMEOUT)]
        wait_for(lambda: leases(database, "id") == [])
    return hub, positions


def test_a_death_of_which_nobody_knows_the_cause_is_blamed_on_no_event(orders, registry, heard):
    hub, positions = handled(orders, registry, heard, 3)
    leave(orders, positions)

    with hub:
        events = heard.take(3, TIMEOUT)
        wait_for(lambda: leases(orders, "id") == [])
        dead = hub.group("mailer").dead_letters()

    assert [event.position for event in events] == positions
    assert {(event.attempt, event.redelivered) for event in events} == {(1, True)}
    assert dead == []


def test_a_second_death_is_blamed_on_the_event_that_was_handled(orders, registry, heard):
    hub, positions = handled(orders, registry, heard, 3)
    leave(orders, positions, again=True)

    with hub:
        events = heard.take(2, TIMEOUT)
        (letter,) = hub.group("mailer").dead_letters()

    assert letter.event.position == positions[0]
    assert "attempts that ended with their process: 1" in letter.error
    assert [event.position for event in events] == positions[1:]


def test_what_a_dead_process_may_have_handled_is_redelivered_after_a_hand_over_too(
    orders, registry, heard
):
    hub, positions = handled(orders, registry, heard, 2)
    began, go_on = threading.Event(), threading.Event()
    slow = Registry()

    @slow.listens_for("orders", "after_insert", group="mailer")
    def handle(event):
        began.set()
        assert go_on.wait(TIMEOUT)

    leave(orders, positions)
    first = Hub(orders.url, slow).start()
    assert began.wait(TIMEOUT)
    stopping = threading.Thread(target=first.stop)
    stopping.start()
    wait_for(lambda: first.status()["state"] == "stopped")
    go_on.set()
    stopping.join()

    with hub:
        event = heard.next(TIMEOUT)

    assert (event.position, event.redelivered) == (positions[1], True)


def test_what_is_finished_is_written_down_with_each_renewal(orders, registry, heard):
    began, go_on = threading.Event(), threading.Event()

    def slow_for_c(event):
        if event.new["item"] == "c":
            began.set()
            assert go_on.wait(TIMEOUT)
        heard(event)

    registry.listen("orders", "after_insert", slow_for_c, group="mailer")
    hub = Hub(orders.url, registry)
    with hub:
        hub.group("mailer").pause()
        insert(orders, "a", "b", "c", "d")
        hub.group("mailer").resume()
        assert began.wait(TIMEOUT)
        before = [event.position for event in heard.take(2, TIMEOUT)]
        wait_for(lambda: leases(orders, "seqs")[0].count(",") == 1)
        left = [int(number) for number in leases(orders, "seqs")[0].split(",")]
        go_on.set()
        after = [event.position for event in heard.take(2, TIMEOUT)]

    assert left == after
    assert max(before) < min(after)


@pytest.mark.parametrize("first", ["it raised", "it is in a batch"])
def test_what_is_finished_behind_what_is_not_is_written_down_too(orders, registry, first):
    began, go_on = threading.Event(), threading.Event()

    def handle(event):
        if event.new["item"] == "a" and first == "it raised":
            raise ValueError("not now")
        if event.new["item"] == "c":
            began.set()
            assert go_on.wait(TIMEOUT)

    registry.listen("orders", "after_insert", handle, group="mailer")
    if first == "it is in a batch":
        registry.listen(
            "orders", "after_insert", print, group="mailer", batch=True, where={"item": "a"}
        )
    hub = Hub(orders.url, registry)
    group = hub.group("mailer", ordered=False, lease=2)
    with hub:
        group.pause()
        insert(orders, "a", "b", "c")
        group.resume()
        assert began.wait(TIMEOUT)
        wait_for(lambda: leases(orders, "seqs")[0].count(",") == 1)
        a, c = [int(number) for number in leases(orders, "seqs")[0].split(",")]
        go_on.set()

    assert c - a == 2


@pytest.mark.parametrize("seconds, calls", [(DAY, [False]), (-DAY, [False, True])])
def test_who_works_while_the_clock_is_set(orders, seconds, calls):
    began, go_on = threading.Semaphore(0), threading.Event()
    seen = []

    def slow(event):
        seen.append(event.redelivered)
        began.release()
        assert go_on.wait(TIMEOUT)

    with hub_of(orders, slow, lease=5), hub_of(orders, slow, lease=5):
        insert(orders, "a")
        assert began.acquire(timeout=TIMEOUT)
        before = leases(orders, "due")[0]
        move(orders, seconds)
        # It was renewed after that, or taken over.
        wait_for(lambda: before < leases(orders, "due")[0] < before + DAY / 2)
        go_on.set()
        wait_for(lambda: leases(orders, "id") == [])

    # Set back, it keeps the lease. Set forward, it may lose it, and the other is told.
    assert seen in ([False], calls)
