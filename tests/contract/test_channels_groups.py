"""On every database, messages of groups: of all processes one receives each, and none is lost."""

import threading

import pytest
from sqlalchemy import text

from pgevents import Hub, Registry, UsageError

from ..waiting import wait_for

TIMEOUT = 20.0  # seconds


@pytest.fixture(autouse=True)
def there(orders):
    """A file of SQLite has to be there before a hub opens it."""


def subscribed(orders, *channels, into, **options):
    """A hub, not started, with a subscription."""
    hub = Hub(orders.url, Registry())
    hub.subscribe(*channels, **options)(into.append)
    return hub


def payloads(messages):
    return [message.payload for message in messages]


def test_a_group_receives_what_was_published_while_nobody_ran(orders):
    found, other = [], []
    with subscribed(orders, "a.*", "b", into=found, group="w"):
        pass
    Hub(orders.url, Registry()).publish_many([("a.x", 1), ("c", 2), ("b", 3), ("a", 4)])

    with subscribed(orders, "a.*", "b", into=found, group="w") as hub:
        hub.subscribe("*")(other.append)
        assert hub.drain(TIMEOUT)

    assert payloads(found) == [1, 3]


def test_of_two_hubs_one_receives_each_message(orders):
    found = [[], []]
    with subscribed(orders, "a", into=found[0], group="w") as first:
        with subscribed(orders, "a", into=found[1], group="w") as second:
            first.publish_many([("a", number) for number in range(200)])
            assert first.drain(TIMEOUT) and second.drain(TIMEOUT)

    assert sorted(payloads(found[0]) + payloads(found[1])) == list(range(200))


def test_a_group_of_channels_is_unordered_and_one_with_tables_is_not(orders):
    with subscribed(orders, "a", into=[], group="w") as hub:
        hub.listen("orders", "after_insert", lambda event: None, group="mixed")
        hub.subscribe("a", group="mixed")(lambda message: None)
        hub.group("asked", ordered=True)
        hub.subscribe("a", group="asked")(lambda message: None)

        ordered = {name: hub.group(name).info()["ordered"] for name in ("w", "mixed", "asked")}

    assert ordered == {"w": False, "mixed": True, "asked": True}


def test_a_group_of_tables_and_channels_receives_both(orders, registry):
    found = []
    registry.listen("orders", "after_insert", lambda e: found.append(e.new["item"]), group="w")
    with Hub(orders.url, registry) as hub:
        hub.subscribe("a", group="w")(lambda message: found.append(message.payload))
        with orders.engine().begin() as connection:
            connection.execute(text("INSERT INTO orders (item) VALUES ('tea')"))
            hub.publish("a", "news", bind=connection)
        assert hub.drain(TIMEOUT)

    assert found == ["tea", "news"]


def test_a_message_that_fails_is_tried_again_then_kept_and_the_others_go_on(orders):
    found, attempts = [], []

    def handle(message):
        if message.payload == "poison":
            attempts.append((message.attempt, message.redelivered))
            raise ValueError("poison")
        found.append(message.payload)

    hub = Hub(orders.url, Registry())
    hub.group("w", max_attempts=3, backoff=(0.01, 0.01))
    hub.subscribe("a", group="w")(handle)
    with hub:
        id = hub.publish("a", "poison", key="k", metadata={"m": 1})
        hub.publish_many([("a", number) for number in range(5)])
        wait_for(lambda: hub.group("w").dead_letters(), TIMEOUT)
        assert hub.drain(TIMEOUT)
        (letter,) = hub.group("w").dead_letters()

    assert sorted(found) == list(range(5)) and attempts == [(1, False), (2, True), (3, True)]
    event = letter.event
    assert (event.id, event.channel, event.payload, event.key) == (id, "a", "poison", "k")
    assert letter.attempts == 3 and "poison" in letter.error


def test_a_dead_letter_of_a_message_is_handled_when_it_is_asked_for(orders):
    found, broken = [], [True]

    def handle(message):
        if broken[0]:
            raise ValueError
        found.append(message)

    hub = Hub(orders.url, Registry())
    hub.group("w", max_attempts=1)
    hub.subscribe("a", group="w")(handle)
    with hub:
        hub.publish("a", {"n": 1})
        wait_for(lambda: hub.group("w").dead_letters(), TIMEOUT)
        broken[0] = False
        assert hub.group("w").retry_dead() == 1
        wait_for(lambda: found, TIMEOUT)

    assert payloads(found) == [{"n": 1}]


def test_without_rows_a_dead_letter_keeps_the_id_and_the_key_of_a_message(orders):
    hub = Hub(orders.url, Registry())
    hub.group("w", max_attempts=1, keep_rows=False)

    @hub.subscribe("a", group="w")
    def handle(message):
        raise ValueError

    with hub:
        id = hub.publish("a", "secret", key="k", metadata={"secret": 1})
        wait_for(lambda: hub.group("w").dead_letters(), TIMEOUT)
        (letter,) = hub.group("w").dead_letters()

    event = letter.event
    assert (event.id, event.key, event.payload, event.metadata) == (id, "k", None, {})


def test_a_transactional_listener_writes_and_publishes_with_its_acknowledgement(orders):
    found, failed = [], []
    hub = Hub(orders.url, Registry())
    hub.group("w", backoff=(0.01, 0.01))

    @hub.subscribe("a", group="w", transactional=True)
    def handle(message, connection):
        connection.execute(text("INSERT INTO orders (item) VALUES ('x')"))
        hub.publish("b", message.payload, bind=connection)
        if not failed:
            failed.append(message)
            raise ValueError("once")

    hub.subscribe("b", group="next")(found.append)
    with hub:
        hub.publish("a", 1)
        wait_for(lambda: found, TIMEOUT)
        assert hub.drain(TIMEOUT)

    assert payloads(found) == [1]
    assert orders.execute("SELECT count(*) FROM orders") == [(1,)]


def test_what_a_group_waits_for_is_not_cleaned_away_whatever_its_pattern(orders):
    found = []
    with subscribed(orders, "a.*", into=found, group="w"):
        pass
    other = Hub(orders.url, Registry(), retention=1.0)
    other.publish_many([("a.x", 1), ("b", 2)])
    for _ in range(2):
        other._backend.clean(0.0, 3600.0)
    log = "pgevents_log" if orders.kind == "sqlite" else "pgevents.log"

    assert orders.execute("SELECT topic FROM {}".format(log)) == [("channel:a.x",)]
    with subscribed(orders, "a.*", into=found, group="w") as hub:
        assert hub.drain(TIMEOUT)
    assert payloads(found) == [1]


def test_a_group_that_was_rewound_receives_messages_again(orders):
    found = []
    with subscribed(orders, "a", into=found, group="w") as hub:
        hub.publish_many([("a", 1), ("a", 2)])
        assert hub.drain(TIMEOUT)
        hub.group("w").rewind(found[1])
        wait_for(lambda: len(found) == 3, TIMEOUT)
        assert hub.drain(TIMEOUT)
        lag = hub.group("w").lag()[0]

    assert payloads(found) == [1, 2, 2] and lag == 0


def test_a_group_whose_last_subscription_leaves_takes_nothing_more(orders):
    found = []
    with subscribed(orders, "a", into=found, group="w") as hub:
        hub.publish("a", 1)
        assert hub.drain(TIMEOUT)
        hub.unsubscribe(found.append)
        hub.publish("a", 2)
        assert hub.drain(TIMEOUT)
        assert hub.group("w").lag()[0] == 1

    assert payloads(found) == [1]


def test_batches_of_a_group_are_acknowledged_together(orders):
    calls, lock = [], threading.Lock()
    hub = Hub(orders.url, Registry())

    @hub.subscribe("a", group="w", batch=True)
    def handle(messages):
        with lock:
            calls.append(payloads(messages))

    with hub:
        hub.publish_many([("a", number) for number in range(50)])
        assert hub.drain(TIMEOUT)

    assert sorted(sum(calls, [])) == list(range(50)) and len(calls) < 10


def test_two_names_of_one_group_that_differ_are_known(orders):
    with subscribed(orders, "a", into=[], group="w") as hub:
        info = hub.group("w").info()
        with pytest.raises(UsageError, match="runs: say how it works before"):
            hub.group("w", ordered=True)

    assert info["topics"] == {"channel:a": ["message"]}
