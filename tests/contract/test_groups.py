"""What a group promises, on every database."""

import json
import os
import socket
import subprocess
import threading

import pytest
import sqlalchemy

from pgevents import Hub, Registry, UsageError, signals
from pgevents.groups import consumer, succession
from pgevents.groups.claims import Claims

from ..orders import insert, items
from ..waiting import wait_for

TIMEOUT = 20.0  # seconds in which a group has to be done


def test_what_was_committed_while_no_process_ran_is_handled_later(orders, registry, heard):
    registry.listen("orders", "after_insert", heard, group="mailer")
    with Hub(orders.url, registry):
        pass

    insert(orders, "tea", "milk")
    with Hub(orders.url, registry):
        events = heard.take(2)

    assert items(events) == ["tea", "milk"]
    assert [event.redelivered for event in events] == [False, False]


def test_of_two_hubs_one_gets_each_event(orders, heard):
    registries = [Registry(), Registry()]
    for registry in registries:
        registry.listen("orders", "after_insert", heard, group="mailer")

    with Hub(orders.url, registries[0]), Hub(orders.url, registries[1]):
        insert(orders, *map(str, range(50)))
        events = heard.take(50, TIMEOUT)

    assert sorted(int(item) for item in items(events)) == list(range(50))
    assert heard.rest() == []


def test_a_process_whose_listener_is_removed_takes_nothing_more(orders, heard):
    def other(event):
        heard(event)

    registries = [Registry(), Registry()]
    registries[0].listen("orders", "after_insert", other, group="mailer")
    registries[1].listen("orders", "after_insert", heard, group="mailer")

    with Hub(orders.url, registries[0]) as hub, Hub(orders.url, registries[1]):
        insert(orders, "first")
        heard.next(TIMEOUT)
        registries[0].remove("orders", "after_insert", other)
        insert(orders, *map(str, range(50)))
        events = heard.take(50, TIMEOUT)
        left = hub.status()["groups"]

    assert items(events) == [str(n) for n in range(50)]
    assert left == {}


def test_a_group_goes_on_without_the_listener_that_is_removed(orders, registry, heard):
    def other(event):
        heard(event)

    registry.listen("orders", ["after_insert", "after_delete"], heard, group="mailer")
    registry.listen("orders", ["after_insert", "after_update"], other, group="mailer")

    with Hub(orders.url, registry) as hub:
        registry.remove("orders", ["after_insert", "after_update"], other)
        insert(orders, "tea")
        orders.execute("DELETE FROM orders")
        events = heard.take(2, TIMEOUT)
        topics = hub.group("mailer").info()["topics"]

    assert [event.operation for event in events] == ["insert", "delete"]
    assert list(topics.values()) == [["delete", "insert"]]
    assert heard.rest() == []


def test_two_groups_each_get_every_event(orders, registry, heard):
    registry.listen("orders", "after_insert", heard, group="mailer")
    registry.listen("orders", "after_insert", heard, group="indexer")

    with Hub(orders.url, registry):
        insert(orders, "tea")
        events = heard.take(2)

    assert items(events) == ["tea", "tea"]


def test_an_ordered_group_keeps_the_order_and_tries_again_in_place(orders, registry, heard):
    failing = {"bad": 2}

    def handle(event):
        if failing.get(event.new["item"]):
            failing[event.new["item"]] -= 1
            raise ValueError("not now")
        heard(event)

    registry.listen("orders", "after_insert", handle, group="mailer")
    hub = Hub(orders.url, registry)
    hub.group("mailer", backoff=(0.01, 0.02))
    with hub:
        insert(orders, "a", "bad", "b", "c")
        events = heard.take(4, TIMEOUT)

    assert items(events) == ["a", "bad", "b", "c"]
    assert (events[1].attempt, events[1].redelivered) == (3, True)


def test_in_an_unordered_group_a_failing_event_holds_up_nobody(orders, registry, heard):
    release = threading.Event()

    def handle(event):
        if event.new["item"] == "bad" and not release.is_set():
            raise ValueError("not now")
        heard(event)

    registry.listen("orders", "after_insert", handle, group="mailer")
    hub = Hub(orders.url, registry)
    hub.group("mailer", ordered=False, backoff=(0.05, 0.05), max_attempts=1000)
    with hub:
        insert(orders, "bad", "b", "c")
        first = heard.take(2, TIMEOUT)
        release.set()
        last = heard.next(TIMEOUT)

    assert items(first) == ["b", "c"]
    assert items([last]) == ["bad"]
    assert last.redelivered


@pytest.mark.parametrize("ordered", [True, False])
def test_a_poison_event_becomes_a_dead_letter_that_can_be_retried(orders, registry, heard, ordered):
    calls = []
    cured = threading.Event()
    told = []

    def handle(event):
        if event.new["item"] == "bad" and not cured.is_set():
            calls.append(event.attempt)
            raise ValueError("poison")
        heard(event)

    def tell(hub, **details):
        told.append(details)

    registry.listen("orders", "after_insert", handle, group="mailer")
    hub = Hub(orders.url, registry)
    signals.dead_lettered.connect(tell, sender=hub)
    group = hub.group("mailer", ordered=ordered, max_attempts=3, backoff=(0.01, 0.02))
    with hub:
        insert(orders, "bad", "b", "c")
        assert items(heard.take(2, TIMEOUT)) == ["b", "c"]
        wait_for(group.dead_letters)
        (letter,) = group.dead_letters()
        cured.set()
        assert group.retry_dead(letter) == 1
        event = heard.next(TIMEOUT)

    assert calls == [1, 2, 3]
    assert (letter.attempts, letter.event.new["item"]) == (3, "bad")
    assert "poison" in letter.error and "handle" in letter.traceback
    assert event.new["item"] == "bad"
    assert told[0]["group"] == "mailer"


def test_many_dead_letters_are_retried_and_discarded_in_short_transactions(
    orders, registry, heard, monkeypatch
):
    monkeypatch.setattr("pgevents.groups.pages.PAGE", 2)
    cured = threading.Event()

    def handle(event):
        if not cured.is_set():
            raise ValueError("the mail server is down")
        heard(event)

    registry.listen("orders", "after_insert", handle, group="mailer")
    hub = Hub(orders.url, registry)
    group = hub.group("mailer", max_attempts=1)
    with hub:
        insert(orders, *"abcdefg")
        wait_for(lambda: len(group.dead_letters()) == 7)
        first, second, third, *_ = group.dead_letters()
        cured.set()

        assert group.discard_dead(first, second, third.id, third) == 3
        assert group.retry_dead() == 4
        assert items(heard.take(4, TIMEOUT)) == ["d", "e", "f", "g"]
        assert (group.dead_letters(), group.retry_dead(), group.retry_dead(first)) == ([], 0, 0)


class Wordless(Exception):
    def __repr__(self):
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    "error, said",
    [
        (ValueError("a\0b"), r"ValueError('a\x00b')"),
        (OSError("/scan/\udcfc.pdf"), r"OSError('/scan/\udcfc.pdf')"),
        (ValueError("für 5 € 🐘"), "ValueError('für 5 € 🐘')"),
        (Wordless(), "<Wordless, whose repr() failed>"),
    ],
    ids=["nul", "surrogate", "letters", "wordless"],
)
def test_any_error_can_be_kept(orders, registry, error, said):
    def handle(event):
        raise error

    registry.listen("orders", "after_insert", handle, group="mailer")
    hub = Hub(orders.url, registry)
    group = hub.group("mailer", max_attempts=1)
    with hub:
        insert(orders, "tea")
        (letter,) = wait_for(group.dead_letters, 5)

    assert letter.error == said
    assert type(error).__name__ in letter.traceback


def test_effects_of_a_transactional_listener_are_there_exactly_once(orders, registry):
    orders.execute("CREATE TABLE receipts (item text)")
    failing = {"bad": 2}

    def handle(event, connection):
        connection.execute(
            sqlalchemy.text("INSERT INTO receipts VALUES (:item)"), {"item": event.new["item"]}
        )
        if failing.get(event.new["item"]):
            failing[event.new["item"]] -= 1
            raise ValueError("not now")

    registry.listen("orders", "after_insert", handle, group="mailer", transactional=True)
    hub = Hub(orders.url, registry)
    group = hub.group("mailer", backoff=(0.01, 0.02))
    with hub:
        insert(orders, "a", "bad", "b")
        wait_for(lambda: group.lag()[0] == 0)

    found = [row[0] for row in orders.execute("SELECT item FROM receipts")]
    assert found == ["a", "bad", "b"]


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_transactional_listener_that_ends_the_transaction_is_told_not_to(orders, registry, end):
    orders.execute("CREATE TABLE receipts (item text)")

    def handle(event, connection):
        connection.execute(sqlalchemy.text("INSERT INTO receipts VALUES ('one')"))
        if event.new["item"] == "bad":
            getattr(connection, end)()

    registry.listen("orders", "after_insert", handle, group="mailer", transactional=True)
    hub = Hub(orders.url, registry)
    group = hub.group("mailer", max_attempts=2, backoff=(0.01, 0.02))
    with hub:
        insert(orders, "bad", "good")
        (letter,) = wait_for(group.dead_letters)
        wait_for(lambda: group.lag()[0] == 0)

    assert "neither commits nor rolls back" in letter.error
    assert orders.execute("SELECT count(*) FROM receipts")[0][0] == 1


def test_a_listener_that_overlooks_an_error_of_the_database_holds_nobody_up(orders, registry):
    orders.execute("CREATE TABLE receipts (item text PRIMARY KEY)")
    orders.execute("INSERT INTO receipts VALUES ('tea')")
    calls = []

    def handle(event, connection):
        calls.append(event.new["item"])
        try:
            connection.execute(
                sqlalchemy.text("INSERT INTO receipts VALUES (:item)"), {"item": event.new["item"]}
            )
        except sqlalchemy.exc.IntegrityError:
            pass  # it is there already

    registry.listen("orders", "after_insert", handle, group="mailer", transactional=True)
    hub = Hub(orders.url, registry)
    group = hub.group("mailer", max_attempts=2, backoff=(0.01, 0.02), lease=60)
    with hub:
        insert(orders, "tea", "milk")
        wait_for(lambda: group.lag()[0] == 0)
        errors = [letter.error for letter in group.dead_letters()]

    found = sorted(row[0] for row in orders.execute("SELECT item FROM receipts"))
    assert found == ["milk", "tea"]
    if orders.kind == "sqlite":  # a statement that fails there takes nothing else along
        assert (calls, errors) == (["tea", "milk"], [])
    else:
        assert calls == ["tea", "tea", "milk"]
        assert len(errors) == 1 and "begin_nested" in errors[0]


def test_a_batch_listener_gets_lists_in_order(orders, registry):
    lists = []

    registry.listen("orders", "after_insert", lists.append, group="mailer", batch=True)
    hub = Hub(orders.url, registry)
    group = hub.group("mailer", batch_size=10)
    with hub:
        group.pause()
        insert(orders, *map(str, range(25)))
        group.resume()
        wait_for(lambda: sum(map(len, lists)) == 25)

    assert [item for batch in lists for item in items(batch)] == [str(n) for n in range(25)]
    assert max(map(len, lists)) <= 10


def test_a_paused_group_waits_and_says_how_much(orders, registry, heard):
    registry.listen("orders", "after_insert", heard, group="mailer")
    hub = Hub(orders.url, registry)
    group = hub.group("mailer")
    with hub:
        group.pause()
        insert(orders, "a", "b")
        assert hub.drain(TIMEOUT)
        waiting, age = group.lag()
        group.resume()
        events = heard.take(2, TIMEOUT)
        wait_for(lambda: group.lag() == (0, 0.0))

    assert waiting == 2 and age > 0
    assert items(events) == ["a", "b"]


@pytest.mark.parametrize("to", ["beginning", "position", "time"])
def test_a_rewound_group_handles_again(orders, registry, heard, to):
    registry.listen("orders", "after_insert", heard, group="mailer")
    hub = Hub(orders.url, registry)
    with hub:
        insert(orders, "a", "b", "c")
        events = heard.take(3, TIMEOUT)
        wait_for(lambda: hub.group("mailer").lag()[0] == 0)
        places = {"beginning": "beginning", "position": events[1], "time": events[0].at}
        hub.group("mailer").rewind(places[to])
        again = heard.take(2 if to == "position" else 3, TIMEOUT)

    assert items(again) == (["b", "c"] if to == "position" else ["a", "b", "c"])


def test_a_group_that_is_rewound_to_what_is_to_come_hears_what_is_new(orders, registry, heard):
    registry.listen("orders", "after_insert", heard, group="mailer")

    with Hub(orders.url, registry) as hub:
        insert(orders, "tea")
        heard.next(TIMEOUT)
        assert hub.drain()
        hub.group("mailer").rewind(10**9)
        insert(orders, "milk")
        event = heard.next(TIMEOUT)

    assert event.new["item"] == "milk"


@pytest.mark.parametrize("to", [-1, 2**63, True, 1.5, None, "yesterday"])
def test_a_group_cannot_be_rewound_to_what_is_no_place(orders, registry, heard, to):
    registry.listen("orders", "after_insert", heard, group="mailer")
    with Hub(orders.url, registry) as hub:
        with pytest.raises(UsageError, match="rewind to"):
            hub.group("mailer").rewind(to)


def test_a_group_that_starts_at_the_beginning_gets_what_the_log_has(orders, registry, heard):
    capture = Hub(orders.url, registry)
    capture.watch("orders")
    capture.install()
    insert(orders, "early")

    registry.listen("orders", "after_insert", heard, group="mailer")
    hub = Hub(orders.url, registry)
    hub.group("mailer", start="beginning")
    with hub:
        event = heard.next(TIMEOUT)

    assert event.new["item"] == "early"


def test_who_defines_a_group_otherwise_stands_by_and_says_so(orders, heard):
    old, new = Registry(), Registry()
    old.listen("orders", "after_insert", lambda event: None, group="mailer")
    new.listen("orders", "after_change", heard, group="mailer")

    with Hub(orders.url, old) as first, Hub(orders.url, new):
        insert(orders, "a")
        event = heard.next(TIMEOUT)
        wait_for(lambda: first.status()["groups"]["mailer"]["standing_by"])

    assert event.new["item"] == "a"


def stands_by(hub, word):
    """Tell whether a hub's group takes nothing, and says so with this word."""
    return word in (hub.status()["groups"]["mailer"]["standing_by"] or "")


def test_who_has_more_to_handle_goes_on_when_nobody_of_the_other_definition_is_there(
    orders, registry, heard, monkeypatch
):
    monkeypatch.setattr(succession, "SUCCESSION", 0.1)
    monkeypatch.setattr(consumer, "IDLE", 0.1)
    less = Registry()
    less.listen("orders", "after_insert", lambda event: None, group="mailer")
    registry.listen("orders", "after_change", heard, group="mailer")

    with Hub(orders.url, registry) as hub:
        with Hub(orders.url, less):
            wait_for(lambda: stands_by(hub, "it has no "))
        insert(orders, "a")
        event = heard.next(TIMEOUT)

        assert event.new["item"] == "a"
        assert hub.status()["groups"]["mailer"]["standing_by"] is None


def test_who_went_without_a_word_is_succeeded_too(orders, registry, heard, monkeypatch):
    monkeypatch.setattr(succession, "SUCCESSION", 0.1)
    monkeypatch.setattr(consumer, "IDLE", 0.1)
    dead = subprocess.Popen(["true"])
    dead.wait()
    registry.listen("orders", "after_insert", heard, group="mailer")

    with Hub(orders.url, registry) as hub:
        table = "pgevents_groups" if orders.kind == "sqlite" else "pgevents.groups"
        other = {**hub.group("mailer").info(), "ordered": False}
        definition = json.dumps({name: other[name] for name in ("ordered", "topics")})
        owner = "{}:{}:1".format(socket.gethostname(), dead.pid)
        orders.execute("UPDATE {} SET definition = %s, owner = %s".format(table), definition, owner)
        insert(orders, "a")
        event = heard.next(TIMEOUT)

    assert event.new["item"] == "a"


def test_who_has_less_to_handle_does_not_go_on_in_the_place_of_others(
    orders, registry, heard, monkeypatch
):
    monkeypatch.setattr(succession, "SUCCESSION", 0.1)
    monkeypatch.setattr(consumer, "IDLE", 0.1)
    looks, claim = [], Claims.claim
    monkeypatch.setattr(Claims, "claim", lambda *a, **b: looks.append(1) or claim(*a, **b))
    more = Registry()
    more.listen("orders", "after_change", heard, group="mailer")
    registry.listen("orders", "after_insert", lambda event: None, group="mailer")

    with Hub(orders.url, registry) as hub:
        with Hub(orders.url, more):
            wait_for(lambda: stands_by(hub, "orders (delete)"))
        orders.execute("INSERT INTO orders (item) VALUES ('a')")
        orders.execute("DELETE FROM orders")
        looked = len(looks)
        wait_for(lambda: len(looks) > looked + 4)
        assert stands_by(hub, "orders (delete)")
        with Hub(orders.url, more):
            events = heard.take(2, TIMEOUT)

    assert [event.operation for event in events] == ["insert", "delete"]


def test_what_each_process_may_choose_keeps_nobody_from_working(orders, heard):
    hubs = []
    for options in ({}, {"max_attempts": 9, "batch_size": 7, "backoff": (5, 6), "lease": 3}):
        registry = Registry()
        registry.listen("orders", "after_insert", heard, group="mailer")
        hubs.append(Hub(orders.url, registry))
        hubs[-1].group("mailer", ordered=False, **options)

    with hubs[0]:
        with hubs[1]:
            assert hubs[0].group("mailer").info()["max_attempts"] == 9
        insert(orders, "a")
        heard.next(TIMEOUT)
        standing_by = hubs[0].status()["groups"]["mailer"]["standing_by"]

    assert standing_by is None


def test_a_wait_is_not_cut_short_by_a_process_with_shorter_ones(orders, heard):
    def fail(event):
        if event.new["item"] == "bad":
            raise ValueError("not now")
        heard(event)

    hubs = []
    for backoff in ((60, 600), (0.01, 0.02)):
        registry = Registry()
        registry.listen("orders", "after_insert", fail, group="mailer")
        hubs.append(Hub(orders.url, registry))
        hubs[-1].group("mailer", ordered=False, backoff=backoff)
    with hubs[0] as hub:
        insert(orders, "bad")
        wait_for(lambda: hub.group("mailer").lag()[0] == 1)
        leases = "pgevents_leases" if orders.kind == "sqlite" else "pgevents.leases"
        wait_for(lambda: orders.execute("SELECT owner FROM {}".format(leases)) == [(None,)])

    with hubs[1]:
        insert(orders, "good")
        heard.next(TIMEOUT)
        waiting = orders.execute("SELECT attempt FROM {} WHERE owner IS NULL".format(leases))

    assert waiting == [(2,)]


def test_a_group_that_runs_is_not_dropped(orders, registry, heard):
    registry.listen("orders", "after_insert", heard, group="mailer")
    with Hub(orders.url, registry) as hub:
        with pytest.raises(UsageError, match="stop the hub"):
            hub.group("mailer").drop()
        insert(orders, "a")
        heard.next(TIMEOUT)


def test_a_group_that_another_process_drops_stands_by_without_a_traceback(
    orders, registry, heard, caplog
):
    registry.listen("orders", "after_insert", heard, group="mailer")
    with Hub(orders.url, registry) as hub:
        Hub(orders.url, Registry()).group("mailer").drop()
        insert(orders, "a")
        wait_for(lambda: stands_by(hub, "there is no group 'mailer'"))

    assert "Traceback" not in caplog.text


def test_what_was_taken_and_not_begun_is_there_for_others_at_once(orders, heard):
    began, go_on = threading.Event(), threading.Event()

    def slow(event):
        began.set()
        assert go_on.wait(TIMEOUT)
        heard(event)

    first, second = Registry(), Registry()
    first.listen("orders", "after_insert", slow, group="mailer")
    second.listen("orders", "after_insert", heard, group="mailer")
    hub = Hub(orders.url, first)
    hub.start()
    hub.group("mailer").pause()
    insert(orders, "a", "b", "c")
    hub.group("mailer").resume()
    assert began.wait(TIMEOUT)

    with Hub(orders.url, second):
        stopping = threading.Thread(target=hub.stop)
        stopping.start()
        go_on.set()
        events = heard.take(3, TIMEOUT)
        stopping.join()

    assert items(events) == ["a", "b", "c"]
    assert heard.rest() == []


@pytest.mark.parametrize(
    "options, word",
    [
        ({"batch_size": 0}, "batch_size"),
        ({"lease": 0}, "lease"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"start": "yesterday"}, "beginning"),
    ],
)
def test_a_wrong_option_is_named(sqlite, registry, options, word):
    with pytest.raises(UsageError, match=word):
        Hub(sqlite.url, registry).group("mailer", **options)


@pytest.mark.parametrize("name", ["", 7, "a\0b", "\ud800"], ids=["empty", "number", "NUL", "half"])
def test_what_cannot_be_the_name_of_a_group_is_refused(orders, registry, name):
    with pytest.raises(UsageError):
        registry.listen("orders", "after_insert", print, group=name)
    with pytest.raises(UsageError):
        Hub(orders.url, registry).group(name)


def test_listeners_options_that_exclude_each_other_are_named(registry):
    with pytest.raises(UsageError, match="group="):
        registry.listen("orders", "after_insert", print, transactional=True)
    with pytest.raises(UsageError, match="once"):
        registry.listen("orders", "after_insert", print, group="g", once=True)
    with pytest.raises(UsageError, match="group="):
        registry.listen("orders", "after_insert", print, group="")


def test_a_backfill_gives_the_existing_rows_first_and_then_what_changes(orders, registry, heard):
    insert(orders, "a", "b", "c")
    registry.listen("orders", "after_change", heard, group="copy")
    plain = []
    registry.listen("orders", "after_insert", plain.append)
    hub = Hub(orders.url, registry)
    hub.group("copy", start="backfill")

    with hub:
        orders.execute("UPDATE orders SET item = 'B' WHERE item = 'b'")
        insert(orders, "d")
        events = heard.take(5, TIMEOUT)
        assert hub.drain(TIMEOUT)

    assert [(e.operation, e.moment, e.new["item"]) for e in events] == [
        ("read", "after_insert", "a"),
        ("read", "after_insert", "b"),
        ("read", "after_insert", "c"),
        ("update", "after_update", "B"),
        ("insert", "after_insert", "d"),
    ]
    assert items(plain) == ["d"]
    assert {event.table for event in events} == {"orders"}


def test_a_backfill_is_exact_while_others_write_and_goes_on_after_a_stop(orders, heard):
    insert(orders, *map(str, range(100)))
    copy, again = {}, []
    lock = threading.Lock()
    stop = threading.Event()

    def keep(event):
        with lock:
            if event.operation == "read" and event.key in copy:
                again.append(event)
            if event.new is None:
                copy.pop(event.old["id"], None)
            else:
                copy[event.key] = event.new["item"]

    def write():
        number = 0
        while not stop.is_set():
            number += 1
            insert(orders, "w{}".format(number))
            orders.execute("UPDATE orders SET item = item || '!' WHERE id = %s", number % 150)
            orders.execute("DELETE FROM orders WHERE id = %s", (number * 7) % 300)

    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(3):
        registry = Registry()
        registry.listen("orders", "after_change", keep, group="copy")
        hub = Hub(orders.url, registry)
        hub.group("copy", start="backfill", batch_size=20)
        with hub:
            size = len(copy)
            wait_for(lambda: len(copy) > size)
    stop.set()
    writer.join()
    with hub:
        wait_for(lambda: hub.group("copy").lag()[0] == 0)

    assert copy == dict(orders.execute("SELECT id, item FROM orders"))
    assert again == []


@pytest.mark.parametrize("ordered", [True, False])
def test_a_backfill_tells_how_far_it_is(orders, registry, ordered):
    insert(orders, *map(str, range(10)))
    seen, go_on = [], threading.Event()

    def keep(event):
        if event.key == 5:
            seen.append((hub.status()["groups"]["copy"]["backfill"], group.progress()))
            assert go_on.wait(TIMEOUT)

    registry.listen("orders", "after_change", keep, group="copy")
    hub = Hub(orders.url, registry)
    group = hub.group("copy", start="backfill", batch_size=3, ordered=ordered)
    with hub:
        wait_for(lambda: seen)
        insert(orders, "not of the backfill")
        go_on.set()
        wait_for(lambda: group.progress() is None)
        wait_for(lambda: group.lag()[0] == 0)
        wait_for(lambda: hub.status()["groups"]["copy"]["backfill"] is None)
        group.rewind("now")

        assert seen == [({"done": 3, "total": 10}, {"done": 3, "total": 10})]
        assert group.info()["backfilled"] is None


def test_a_group_without_backfill_tells_of_none(orders, registry, heard):
    insert(orders, "a")
    registry.listen("orders", "after_change", heard, group="mailer")
    with Hub(orders.url, registry) as hub:
        assert hub.group("mailer").progress() is None
        assert hub.status()["groups"]["mailer"]["backfill"] is None


def test_a_group_names_the_processes_that_serve_it(orders, registry, heard):
    registry.listen("orders", "after_insert", heard, group="mailer")
    asked = Hub(orders.url, Registry())
    with Hub(orders.url, registry):
        meanwhile = asked.group("mailer").served_by()
    afterwards = asked.group("mailer").served_by()
    asked.stop()

    assert meanwhile == ["{}:{}".format(socket.gethostname(), os.getpid())]
    assert afterwards == []


def test_many_hubs_that_begin_a_group_at_once_make_one(orders, heard):
    hubs = []
    for _ in range(6):
        registry = Registry()
        registry.listen("orders", "after_insert", heard, group="mailer")
        hubs.append(Hub(orders.url, registry))

    starts = [threading.Thread(target=hub.start) for hub in hubs]
    for start in starts:
        start.start()
    for start in starts:
        start.join()
    insert(orders, "a")
    event = heard.next(TIMEOUT)
    states = [hub.status()["state"] for hub in hubs]
    for hub in hubs:
        hub.stop()

    assert event.new["item"] == "a"
    assert states == ["listening"] * 6
    assert heard.rest() == []


def test_what_is_asked_of_an_unknown_group_is_an_error(orders):
    hub = Hub(orders.url, Registry())
    hub.watch("orders")
    hub.install()
    group = hub.group("nobody")

    for call in (
        group.dead_letters,
        group.retry_dead,
        group.discard_dead,
        group.lag,
        group.info,
        group.progress,
        group.served_by,
        group.pause,
        group.resume,
        group.drop,
        lambda: group.rewind("now"),
    ):
        with pytest.raises(UsageError, match="no group 'nobody'"):
            call()
    hub.stop()


@pytest.mark.parametrize("letter", ["a", None, -1, True, 10**30], ids=str)
def test_a_dead_letter_is_named_by_its_number(orders, letter):
    group = Hub(orders.url, Registry()).group("g")

    with pytest.raises(UsageError, match="retry"):
        group.retry_dead(letter)
    with pytest.raises(UsageError, match="discard"):
        group.discard_dead(letter)


@pytest.mark.parametrize(
    "option, value",
    [
        ("batch_size", 0),
        ("batch_size", 2.5),
        ("batch_size", "7"),
        ("lease", 0.5),
        ("lease", None),
        ("lease", float("nan")),
        ("max_attempts", 0),
        ("backoff", 3),
        ("backoff", (1,)),
        ("backoff", (-1, 2)),
        ("ordered", "no"),
        ("keep_rows", 0),
        ("start", "then"),
        ("colour", "red"),
    ],
    ids=str,
)
def test_a_wrong_option_of_a_group_is_refused_at_once(orders, option, value):
    with pytest.raises(UsageError) as caught:
        Hub(orders.url, Registry()).group("mailer", **{option: value})

    assert option in str(caught.value)
