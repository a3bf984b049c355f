"""On every database, the messages of a group in a loop of the application's own."""

import threading
import time

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from pgevents import Hub, LeaseLost, Registry, UsageError

from ..waiting import wait_for

TIMEOUT = 20.0  # seconds


@pytest.fixture
def hub(orders):
    hub = Hub(orders.url, Registry())
    hub.group("w", backoff=(0.01, 0.01), max_attempts=3)
    with hub:
        yield hub


@pytest.fixture
def other(orders):
    with Hub(orders.url, Registry()) as hub:
        yield hub


def opened(hub, *channels, group="w", timeout=TIMEOUT, **options):
    return hub.messages(*(channels or ("a.*",)), group=group, timeout=timeout, **options)


def rest(box):
    """What a loop gets within a moment, acknowledged."""
    found = []
    for message in box:
        found.append(message.payload)
        message.ack()
    return found


def test_a_loop_receives_messages_one_by_one_and_each_once(hub, other):
    with opened(hub, batch_size=7) as box, opened(other, timeout=0.5) as second:
        hub.publish_many([("a.x", number) for number in range(30)])
        found = []
        for message in box:
            found.append(message.payload)
            message.ack()
            if len(found) == 20:
                break
        box.close()
        found += rest(second)

    assert sorted(found) == list(range(30))
    assert hub.group("w").lag()[0] == 0


def test_a_message_has_what_a_subscriber_would_get(hub):
    with opened(hub) as box:
        id = hub.publish("a.x", {"n": 1}, key="k", metadata={"m": 2})
        message = next(box)
        message.ack()

    assert (message.id, message.channel, message.key) == (id, "a.x", "k")
    assert (message.payload, message.metadata) == ({"n": 1}, {"m": 2})
    assert (message.attempt, message.redelivered) == (1, False)


def test_an_empty_channel_is_waited_for_and_no_longer_than_asked(hub):
    with opened(hub, timeout=0) as box:
        assert list(box) == []
    with opened(hub, timeout=0.2) as box:
        begun = time.monotonic()
        assert list(box) == []
        assert 0.2 <= time.monotonic() - begun < TIMEOUT


def test_a_message_that_is_published_later_ends_the_wait(hub):
    with opened(hub) as box:
        timer = threading.Timer(0.1, lambda: hub.publish("a.x", 1))
        timer.start()
        assert next(box).payload == 1
        timer.join()


def test_what_was_not_acted_upon_goes_back_at_once_and_its_attempt_is_not_counted(hub, other):
    with opened(hub, batch_size=5) as box:
        hub.publish_many([("a.x", number) for number in range(5)])
        next(box).ack()
        in_hand = next(box)
    with pytest.raises(LeaseLost, match="closed"):
        in_hand.ack()

    with opened(other) as box:
        found = [next(box) for _ in range(4)]
        for message in found:
            message.ack()
    assert sorted(message.payload for message in found) == [1, 2, 3, 4]
    assert {message.attempt for message in found} == {1}
    assert {message.payload for message in found if message.redelivered} == {1}


def test_an_exception_that_leaves_the_block_gives_the_message_back(hub):
    with pytest.raises(ZeroDivisionError):
        with opened(hub) as box:
            hub.publish("a.x", 1)
            next(box)
            raise ZeroDivisionError
    with opened(hub) as box:
        assert rest_of(box, 1) == [1]


def rest_of(box, number):
    found = [next(box) for _ in range(number)]
    for message in found:
        message.ack()
    return [message.payload for message in found]


def test_a_message_that_is_given_back_comes_again_then_it_is_a_dead_letter(hub):
    attempts = []
    with opened(hub) as box:
        hub.publish_many([("a.x", "poison"), ("a.x", "good")])
        while len(attempts) < 3:
            message = next(box)
            if message.payload == "good":
                message.ack()
            else:
                attempts.append((message.attempt, message.redelivered))
                message.nack(error="no good")
        (letter,) = hub.group("w").dead_letters()

    assert attempts == [(1, False), (2, True), (3, True)]
    assert letter.event.payload == "poison" and letter.attempts == 3
    assert "no good" in letter.error
    status = hub.status()
    assert status["failed"] == 1


def test_a_message_waits_as_long_as_it_is_told_to(hub):
    with opened(hub, timeout=0.3) as box:
        hub.publish("a.x", 1)
        next(box).nack(delay=3600)
        assert list(box) == []
        assert hub.group("w").lag()[0] == 1


def test_an_acknowledgement_belongs_to_the_transaction_of_the_caller(hub, other, orders):
    with opened(hub) as box:
        hub.publish_many([("a.x", 1), ("a.x", 2)])
        first, second = next(box), next(box)
        with Session(orders.engine()) as session:
            session.execute(text("INSERT INTO orders (item) VALUES ('kept')"))
            first.ack(bind=session)
            session.commit()
        with Session(orders.engine()) as session:
            session.execute(text("INSERT INTO orders (item) VALUES ('taken back')"))
            second.ack(bind=session)
            if orders.kind != "sqlite":  # there the other message waits for this writer
                with pytest.raises(UsageError, match="transaction that goes on"):
                    second.ack()
            session.rollback()
        with pytest.raises(UsageError, match="already"):
            first.ack()

    with opened(other) as box:
        assert rest_of(box, 1) == [2]
    assert orders.execute("SELECT item FROM orders") == [("kept",)]
    assert hub.group("w").lag()[0] == 0


def test_a_message_can_be_acted_upon_once(hub):
    with opened(hub) as box:
        hub.publish_many([("a.x", 1), ("a.x", 2)])
        acked, nacked = next(box), next(box)
        acked.ack()
        nacked.nack(delay=60)
        for message in (acked, nacked):
            for act in (message.ack, message.nack, lambda m=message: m.extend(1)):
                with pytest.raises(UsageError, match="already"):
                    act()


def test_without_renewal_a_message_goes_to_somebody_else_in_time(orders):
    first, second = (Hub(orders.url, Registry()) for _ in range(2))
    for hub in (first, second):
        hub.group("w", lease=1.0)
    with first, second:
        with opened(first, renew=False) as box, opened(second) as other:
            first.publish("a.x", 1)
            late = next(box)
            again = next(other)
            assert (again.payload, again.attempt, again.redelivered) == (1, 2, True)
            with pytest.raises(LeaseLost, match="somebody else's"):
                late.ack()
            again.ack()


def test_a_message_is_kept_for_longer_than_a_lease_when_it_is_renewed_or_extended(orders):
    first, second = (Hub(orders.url, Registry()) for _ in range(2))
    for hub in (first, second):
        hub.group("w", lease=1.0)
    with first, second:
        with opened(first) as box, opened(first, renew=False) as plain:
            first.publish_many([("a.x", 1), ("a.x", 2)])
            renewed = next(box)
            with opened(second, timeout=2.5) as other:
                extended = next(plain) if box.taken == 1 else next(box)
                extended.extend(60)
                assert list(other) == []
            renewed.ack()
            extended.ack()


def test_a_hub_that_stops_ends_the_loop_and_gives_the_rest_back(orders, other):
    hub = Hub(orders.url, Registry()).start()
    found = []

    def loop():
        with hub.messages("a", group="w", batch_size=5) as box:
            for message in box:
                found.append(message.payload)
                started.set()
                go_on.wait(TIMEOUT)
                message.ack()

    started, go_on = threading.Event(), threading.Event()
    thread = threading.Thread(target=loop)
    thread.start()
    wait_for(lambda: "w" in hub.status()["groups"], TIMEOUT)
    hub.publish_many([("a", number) for number in range(5)])
    assert started.wait(TIMEOUT)
    threading.Timer(0.2, go_on.set).start()

    hub.stop()
    thread.join(TIMEOUT)

    assert not thread.is_alive() and found == [0]
    with opened(other, "a") as box:
        assert sorted(rest_of(box, 4)) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "options, said",
    [
        ({"channels": ()}, "no channel given"),
        ({"channels": ("a*",)}, "stands alone"),
        ({"group": ""}, "group="),
        ({"batch_size": 0}, "batch_size=0"),
        ({"timeout": -1}, "timeout=-1"),
        ({"group": "busy"}, "has listeners here"),
        ({"group": "ordered"}, "is ordered"),
    ],
)
def test_a_loop_that_cannot_work_is_refused_at_once(hub, options, said):
    hub.subscribe("b", group="busy")(lambda message: None)
    hub.group("ordered", ordered=True)
    given = {"channels": ("a",), "group": "x", **options}

    with pytest.raises(UsageError, match=said):
        hub.messages(*given.pop("channels"), **given)


def test_a_loop_needs_a_hub_that_is_started(orders):
    with pytest.raises(UsageError, match="needs a hub that is started"):
        Hub(orders.url, Registry()).messages("a", group="w")


def test_two_definitions_of_one_group_are_an_error_of_the_loop_that_came_first(hub, other):
    with opened(hub, "a") as box, opened(other, "b"):
        with pytest.raises(UsageError, match="defined the group 'w' otherwise"):
            next(box)


def test_a_message_that_has_expired_is_not_handed_out(hub):
    with opened(hub) as box:
        hub.publish("a.x", 1, expires=0.001)
        now = time.monotonic()
        wait_for(lambda: time.monotonic() > now + 0.1, TIMEOUT)
        hub.publish("a.x", 2, expires=3600)
        message = next(box)
        message.ack()

    assert message.payload == 2
    assert hub.group("w").lag()[0] == 0 and hub.status()["expired"] == 1


@pytest.mark.parametrize("renew", [True, False])
def test_messages_that_were_acknowledged_in_transactions_are_forgotten(hub, orders, renew):
    with opened(hub, renew=renew) as box:
        hub.publish_many([("a.x", number) for number in range(20)])
        for _ in range(20):
            message = next(box)
            with Session(orders.engine()) as session:
                message.ack(bind=session)
                session.commit()

        assert box.taken == 0
        box.renew()
        hub.publish("a.x", "last")
        next(box).ack()
        assert len(box._in_hand) <= 1
