"""On every database, subscriptions to streams: groups over the streams' own table."""

import threading

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from pgevents import Hub, Registry, UsageError

from ..waiting import wait_for

TIMEOUT = 20.0  # seconds


@pytest.fixture(autouse=True)
def there(database):
    """What a projection writes."""
    database.execute("CREATE TABLE totals (number integer)")


@pytest.fixture
def hub(database, registry):
    with Hub(database.url, registry) as hub:
        yield hub


@pytest.fixture
def streams(hub):
    return hub.streams


@pytest.fixture
def got(streams):
    """What a group receives."""
    found = []
    streams.subscribe(group="all")(found.append)
    return found


def happened(number, type="happened"):
    return {"type": type, "number": number}


def numbers(events):
    return [event.data["number"] for event in events]


def totals(database):
    return sorted(row[0] for row in database.execute("SELECT number FROM totals"))


def test_a_group_receives_what_is_appended_before_and_after_it_subscribes(hub, streams):
    streams.append("a", happened(1), happened(2), category="orders")
    found = []
    streams.subscribe(group="all")(found.append)
    streams.append("b", happened(3), metadata={"m": 1})

    assert hub.drain(TIMEOUT)
    assert numbers(found) == [1, 2, 3]
    assert [(e.stream, e.category, e.version) for e in found] == [
        ("a", "orders", 1),
        ("a", "orders", 2),
        ("b", "", 1),
    ]
    assert found[2].metadata == {"m": 1} and found[2].attempt == 1


def test_an_append_wakes_a_group_that_sleeps(hub, streams, got):
    for number in range(5):
        streams.append("a", happened(number))
        wait_for(lambda: len(got) == number + 1, 2.0)  # a group looks by itself every 4 s

    assert numbers(got) == [0, 1, 2, 3, 4]


def test_an_append_of_another_process_or_hub_wakes_it_too(hub, got, database):
    with Session(database.engine()) as session:
        Hub(database.url, Registry()).streams.append("a", happened(1), bind=session)
        session.commit()

    wait_for(lambda: numbers(got) == [1], 2.0)


def test_each_group_receives_what_it_asks_for(hub, streams):
    found = {}

    def subscribe(name, view=streams, **what):
        view.subscribe(group=name, **what)(found.setdefault(name, []).append)

    acme = streams.for_tenant("acme")
    subscribe("category", category="orders")
    subscribe("two", category=["orders", "it's"])
    subscribe("type", types=["made"])
    subscribe("both", category="orders", types=["made", "paid"])
    subscribe("tenant", tenant="acme")
    subscribe("view", view=acme, category="orders")
    subscribe("none", category="")
    streams.append("1", happened(1, "made"), happened(2, "paid"), category="orders")
    streams.append("1", happened(3, "made"), category="it's")
    streams.append("1", happened(4, "made"))
    acme.append("1", happened(5, "made"), happened(6, "gone"), category="orders")
    acme.append("1", happened(7, "gone"))

    assert hub.drain(TIMEOUT)
    assert {name: numbers(events) for name, events in found.items()} == {
        "category": [1, 2, 5, 6],
        "two": [1, 2, 3, 5, 6],
        "type": [1, 3, 4, 5],
        "both": [1, 2, 5],
        "tenant": [5, 6, 7],
        "view": [5, 6],
        "none": [4, 7],
    }


def test_a_subscription_has_a_group_and_a_group_has_one_source(hub, streams, got):
    with pytest.raises(UsageError, match="give group="):
        streams.subscribe(category="orders")(print)
    with pytest.raises(UsageError, match="not both"):
        hub.subscribe("channel", group="all")(got.append)
    with pytest.raises(UsageError, match="of 'acme'"):
        streams.for_tenant("acme").subscribe(tenant="other", group="x")
    with pytest.raises(UsageError, match="is no registered type"):
        streams.subscribe(types=[int], group="x")


def test_a_rewind_to_the_beginning_brings_all_again_also_after_the_log_was_cleaned(
    hub, streams, got
):
    streams.append("a", *[happened(number) for number in range(600)])
    assert hub.drain(TIMEOUT)

    hub._backend.clean(1e-9, 1e-9)
    hub.group("all").rewind("beginning")

    wait_for(lambda: len(got) == 1200, TIMEOUT)
    assert numbers(got) == [*range(600), *range(600)]
    hub.group("all").rewind(got[-1])
    wait_for(lambda: len(got) == 1201, TIMEOUT)
    assert hub.drain(TIMEOUT) and hub.group("all").lag() == (0, 0.0)


def test_a_group_that_is_new_begins_at_the_beginning_or_now(hub, streams):
    streams.append("a", happened(1))
    early, late = [], []
    hub.group("late", start="now")
    streams.subscribe(group="early")(early.append)
    streams.subscribe(group="late")(late.append)
    streams.append("a", happened(2))

    assert hub.drain(TIMEOUT)
    assert (numbers(early), numbers(late)) == ([1, 2], [2])


def test_a_late_commit_is_neither_lost_nor_waited_for(hub, streams, got, database):
    if database.kind == "sqlite":
        pytest.skip("one writer at a time: nobody commits late")
    engine = database.engine()
    with Session(engine) as slow, Session(engine) as lost:
        streams.append("slow", happened(1), bind=slow)
        streams.append("lost", happened(0), bind=lost)
        streams.append("fast", happened(2), happened(3))
        wait_for(lambda: numbers(got) == [2, 3], TIMEOUT)
        streams.append("fast", happened(4))
        lost.rollback()
        wait_for(lambda: numbers(got) == [2, 3, 4], TIMEOUT)
        slow.commit()

    assert hub.drain(TIMEOUT)
    assert numbers(got) == [2, 3, 4, 1]


def test_a_transactional_projection_and_its_position_are_written_together(hub, streams, database):
    tries = []

    @streams.subscribe(group="totals", transactional=True)
    def add(event, connection):
        connection.execute(text("INSERT INTO totals VALUES (:n)"), {"n": event.data["number"]})
        tries.append(event.data["number"])
        if event.data["number"] == 2 and event.attempt == 1:
            raise RuntimeError("once")

    hub.group("totals")
    stored = streams.append("a", *map(happened, (1, 2, 3)))

    assert hub.group("totals").wait(stored[-1], TIMEOUT)
    assert totals(database) == [1, 2, 3]
    assert tries == [1, 2, 2, 3]


def test_a_poison_event_is_a_dead_letter_that_can_be_retried(hub, streams):
    found, broken = [], [True]
    hub.group("g", max_attempts=2, backoff=(0.01, 0.01))

    @streams.subscribe(group="g")
    def handle(event):
        if event.data["number"] == 2 and broken:
            raise RuntimeError("poison")
        found.append(event.data["number"])

    stored = streams.append("a", *map(happened, (1, 2, 3)))
    wait_for(lambda: found == [1, 3], TIMEOUT)

    (letter,) = hub.group("g").dead_letters()
    assert (letter.event, letter.attempts) == (stored[1], 2) and "poison" in letter.error
    assert letter.event.data == happened(2)
    with pytest.raises(UsageError, match="has given up"):
        hub.group("g").wait(stored[1], TIMEOUT)
    broken.clear()
    assert hub.group("g").retry_dead() == 1
    wait_for(lambda: found == [1, 3, 2], TIMEOUT)


@pytest.mark.parametrize("how", ["delete", "redact"])
def test_what_is_erased_is_erased_from_dead_letters_too(hub, streams, how):
    hub.group("g", max_attempts=1)

    @streams.subscribe(group="g")
    def handle(event):
        raise RuntimeError("poison")

    (stored,) = streams.append("a", happened(1))
    streams.append("b", happened(2))
    wait_for(lambda: len(hub.group("g").dead_letters()) == 2, TIMEOUT)

    streams.delete("a") if how == "delete" else streams.redact(stored, happened(None))

    assert numbers([one.event for one in hub.group("g").dead_letters()]) == [2]


def test_waiting_for_a_group_tells_whether_it_has_handled_an_event(hub, streams, database):
    go, found = threading.Event(), []

    @streams.subscribe(category="orders", group="g")
    def handle(event):
        assert go.wait(TIMEOUT)
        found.append(event.data["number"])

    (stored,) = streams.append("a", happened(1), category="orders")
    (other,) = streams.append("a", happened(2))
    assert hub.group("g").wait(other, TIMEOUT)  # it does not listen to that
    assert not hub.group("g").wait(stored, 0.1)
    go.set()
    assert hub.group("g").wait(stored, TIMEOUT) and found == [1]
    with Session(database.engine()) as session:
        if database.kind != "sqlite":  # where nobody could look meanwhile
            (late,) = streams.append("b", happened(3), category="orders", bind=session)
            assert not hub.group("g").wait(late, 0.1)
            session.commit()
            assert hub.group("g").wait(late.position, TIMEOUT)
    with pytest.raises(UsageError, match="give an event"):
        hub.group("g").wait("17")


def test_a_group_goes_on_where_it_was_after_a_restart(database):
    found = []
    for number in (1, 2):
        registry = Registry()
        with Hub(database.url, registry) as hub:
            hub.streams.subscribe(group="g")(found.append)
            (stored,) = hub.streams.append("a", happened(number))
            assert hub.group("g").wait(stored, TIMEOUT)
        hub.streams.append("a", happened(number * 10))

    assert numbers(found) == [1, 10, 2]


def test_plain_listeners_and_other_groups_do_not_receive_streams(hub, streams, got):
    others = []
    hub.subscribe("*")(others.append)
    hub.subscribe("*", group="messages")(others.append)
    streams.append("a", happened(1))
    hub.publish("channel", 2)

    assert hub.drain(TIMEOUT)
    assert numbers(got) == [1] and [m.payload for m in others] == [2, 2]


def test_who_unsubscribes_receives_no_more(hub, streams, got):
    streams.append("a", happened(1))
    assert hub.drain(TIMEOUT)

    streams.unsubscribe(got.append)
    streams.append("a", happened(2))

    assert hub.drain(TIMEOUT) and numbers(got) == [1]
    with pytest.raises(UsageError, match="is subscribed to no stream"):
        streams.unsubscribe(got.append)


def test_a_loop_of_ones_own_goes_on_from_any_event(hub, streams, database):
    acme = streams.for_tenant("acme")
    streams.append("a", *map(happened, range(5)), category="orders")
    acme.append("b", *map(happened, range(5, 8)))
    whole = streams.read()
    assert numbers(whole) == list(range(8)) and numbers(whole) == []

    cursor, found = None, []
    while True:
        reading = streams.read(after=cursor)
        event = next(iter(reading), None)
        if event is None:
            break
        found, cursor = found + [event.data["number"]], reading.cursor

    assert found == list(range(8))
    assert numbers(streams.read(category="orders", types=["happened"])) == list(range(5))
    assert numbers(acme.read()) == [5, 6, 7]
    streams.append("a", happened(8))
    assert numbers(streams.read(after=whole.cursor)) == [8] == numbers(whole)
    for wrong in ("", "seventeen", "{}", 17):
        with pytest.raises(UsageError, match="give the cursor"):
            list(streams.read(after=wrong))


def test_a_cursor_of_ones_own_does_not_miss_a_late_commit(streams, database):
    if database.kind == "sqlite":
        pytest.skip("one writer at a time: nobody commits late")
    with Session(database.engine()) as slow:
        streams.append("slow", happened(1), bind=slow)
        streams.append("fast", happened(2), happened(3), happened(4))
        reading = streams.read()
        first = next(iter(reading))
        slow.commit()

    rest = numbers(streams.read(after=reading.cursor))
    assert first.data["number"] == 2 and sorted(rest) == [1, 3, 4]
