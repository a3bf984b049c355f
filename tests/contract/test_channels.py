"""On every database, messages: published with the caller's transaction, received by subscribers."""

import dataclasses
import datetime
import decimal
import threading
import uuid

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from pgevents import Hub, NotInstalled, Outgoing, Registry, UsageError

from ..waiting import wait_for

TIMEOUT = 20.0  # seconds


@pytest.fixture(autouse=True)
def there(database):
    """A file of SQLite has to be there before a hub opens it."""
    database.execute("CREATE TABLE other (id integer)")


@pytest.fixture
def hub(database, registry):
    with Hub(database.url, registry) as hub:
        yield hub


@pytest.fixture
def got(hub):
    """The messages of all channels, as they are received."""
    found = []
    hub.subscribe("*")(found.append)
    return found


def received(hub, found):
    assert hub.drain(TIMEOUT)
    return [(message.channel, message.payload) for message in found]


def test_a_message_is_received_as_it_was_published(hub, got):
    payload = {"id": 17, "price": decimal.Decimal("9.90"), "nul": "\0", "odd": "\u2028é'%"}

    id = hub.publish("orders.new", payload, key="17", metadata={"trace": "abc"})

    wait_for(lambda: got, TIMEOUT)
    (message,) = got
    assert (message.id, message.channel, message.key) == (id, "orders.new", "17")
    assert (message.payload, message.metadata) == (payload, {"trace": "abc"})
    assert uuid.UUID(hex=id).version == 4
    now = datetime.datetime.now(datetime.timezone.utc)
    assert abs(now - message.at) < datetime.timedelta(seconds=TIMEOUT)
    assert (message.attempt, message.redelivered, message.context) == (1, False, {})


def test_each_subscriber_receives_what_its_channels_match(hub):
    found = {}
    for patterns in [("a",), ("a.*",), ("a.b", "a.*"), ("A.*",), ("a_b.*",), ("*",)]:
        hub.subscribe(*patterns)(found.setdefault(patterns, []).append)

    hub.publish_many([(name, None) for name in ("a", "a.b", "a.b.c", "ab", "axb.c", "a.")])

    assert hub.drain(TIMEOUT)
    assert {key: [one.channel for one in messages] for key, messages in found.items()} == {
        ("a",): ["a"],
        ("a.*",): ["a.b", "a.b.c", "a."],
        ("a.b", "a.*"): ["a.b", "a.b.c", "a."],
        ("A.*",): [],
        ("a_b.*",): [],
        ("*",): ["a", "a.b", "a.b.c", "ab", "axb.c", "a."],
    }


def test_messages_of_one_call_keep_their_order_and_have_the_ids_that_it_returned(hub, got):
    ids = hub.publish_many(
        [("a", 1), ("b", 2, {"meta": 1}), Outgoing("c", 3, key="k", id="mine")] + [("a", 4)] * 600
    )

    assert hub.drain(TIMEOUT)
    assert [message.id for message in got] == ids
    assert ids[2] == "mine" and got[2].key == "k" and got[1].metadata == {"meta": 1}
    assert len(set(ids)) == len(ids) == 603
    assert hub.publish_many([]) == []


def test_of_messages_of_which_one_is_wrong_none_is_published(hub, got):
    with pytest.raises(UsageError, match="JSON has no set"):
        hub.publish_many([("a", 1), ("b", {1}), ("c", 3)])

    assert received(hub, got) == []


@pytest.mark.parametrize("kind", ["session", "scoped_session", "connection"])
def test_a_message_belongs_to_the_transaction_of_the_caller(hub, got, database, kind):
    engine = database.engine()
    if kind == "connection":
        with engine.begin() as connection:
            hub.publish("kept", 1, bind=connection)
        with engine.connect() as connection:
            transaction = connection.begin()
            hub.publish("taken back", 2, bind=connection)
            transaction.rollback()
    else:
        maker = sessionmaker(engine)
        session = scoped_session(maker) if kind == "scoped_session" else maker()
        hub.publish("kept", 1, bind=session)
        session.commit()
        hub.publish_many([("taken back", 2), ("taken back", 3)], bind=session)
        session.rollback()
        session.close()

    hub.publish("last", 9)
    assert received(hub, got) == [("kept", 1), ("last", 9)]


def test_a_savepoint_that_is_rolled_back_takes_its_messages_along(hub, got, database):
    with database.engine().begin() as connection:
        connection.execute(text("INSERT INTO other VALUES (1)"))
        hub.publish("kept", 1, bind=connection)
        savepoint = connection.begin_nested()
        hub.publish("taken back", 2, bind=connection)
        savepoint.rollback()
        hub.publish("kept", 3, bind=connection)

    assert received(hub, got) == [("kept", 1), ("kept", 3)]


def test_a_message_of_a_writer_elsewhere_is_refused(hub, tmp_path):
    engine = create_engine("sqlite:///{}".format(tmp_path / "other.db"))
    with engine.connect() as connection:
        with pytest.raises(UsageError, match="not this hub's"):
            hub.publish("a", 1, bind=connection)
        with pytest.raises(UsageError, match="give the Session or Connection"):
            hub.publish("a", 1, bind="session")
    engine.dispose()


def test_messages_and_changes_come_in_the_order_of_their_commits(orders, registry):
    found = []
    registry.listen("orders", "after_insert", lambda event: found.append(event.new["item"]))

    with Hub(orders.url, registry) as hub:
        hub.subscribe("news")(lambda message: found.append(message.payload))
        for number in range(5):
            with orders.engine().begin() as connection:
                connection.execute(text(f"INSERT INTO orders (item) VALUES ('row {number}')"))
                hub.publish("news", f"message {number}", bind=connection)
        assert hub.drain(TIMEOUT)

    assert found == [f"{kind} {n}" for n in range(5) for kind in ("row", "message")]


def test_the_context_of_the_writer_is_that_of_its_messages(hub, got, database):
    with Session(database.engine()) as session:
        with hub.context(session, user="ann"):
            hub.publish("a", 1, bind=session)
        hub.publish("a", 2, bind=session)
        session.commit()

    assert hub.drain(TIMEOUT)
    assert [message.context for message in got] == [{"user": "ann"}, {}]


def test_a_hub_that_was_never_started_publishes(hub, got, database):
    Hub(database.url, Registry()).publish("a", 1)

    assert received(hub, got) == [("a", 1)]


def test_publishing_without_a_log_says_what_to_do(database):
    with pytest.raises(NotInstalled, match="install"):
        Hub(database.url, Registry()).publish("a", 1)


def test_what_is_subscribed_before_or_after_the_start_is_received(database, registry):
    before, after = [], []
    hub = Hub(database.url, registry)
    hub.subscribe("a")(before.append)
    with hub:
        hub.publish("a", 1)
        hub.subscribe("a")(after.append)
        hub.publish("a", 2)
        assert hub.drain(TIMEOUT)

    assert [one.payload for one in before] == [1, 2]
    # What was committed just before it was registered may come, too.
    assert [one.payload for one in after][-1] == 2


def test_an_unsubscribed_function_receives_nothing_more(hub, got):
    gone = []
    hub.subscribe("a", "b")(gone.append)
    hub.subscribe("c")(gone.append)
    hub.unsubscribe(gone.append)

    hub.publish_many([("a", 1), ("c", 2)])

    assert received(hub, got) == [("a", 1), ("c", 2)] and gone == []
    with pytest.raises(UsageError, match="subscribed to no channel"):
        hub.unsubscribe(gone.append)


def test_a_listener_that_raises_keeps_nothing_from_the_others(hub, got):
    @hub.subscribe("a")
    def fails(message):
        raise ValueError("no")

    hub.publish_many([("a", 1), ("a", 2)])

    assert received(hub, got) == [("a", 1), ("a", 2)]
    wait_for(lambda: hub.metrics.failed == 2, TIMEOUT)


def test_a_batch_is_one_call_for_messages_that_came_together(hub):
    calls = []
    hub.subscribe("a", batch=True)(calls.append)

    hub.publish_many([("a", number) for number in range(100)])

    assert hub.drain(TIMEOUT)
    assert [one.payload for call in calls for one in call] == list(range(100))
    assert len(calls) < 10


@dataclasses.dataclass
class Paid:
    order: uuid.UUID
    amount: decimal.Decimal


def test_a_payload_is_an_object_of_the_class_that_the_subscriber_names(hub, got):
    typed = []
    hub.subscribe("paid", type=Paid)(typed.append)
    paid = Paid(uuid.uuid4(), decimal.Decimal("9.90"))

    hub.publish("paid", paid)
    hub.publish("paid", {"order": "no uuid"})

    assert hub.drain(TIMEOUT)
    assert [message.payload for message in typed] == [paid]
    assert [type(message.payload) for message in got] == [dict, dict]
    wait_for(lambda: hub.metrics.failed == 1, TIMEOUT)


def test_an_encoder_and_a_decoder_make_payloads_of_other_things(database, registry):
    found = []
    with Hub(database.url, registry, encoder=sorted, decoder=set) as hub:
        hub.subscribe("a")(found.append)
        hub.publish("a", {3, 1})
        assert hub.drain(TIMEOUT)

    assert found[0].payload == {1, 3}


def test_with_workers_the_messages_of_one_key_keep_their_order(database, registry):
    found, lock = {}, threading.Lock()

    def remember(message):
        with lock:
            found.setdefault(message.key, []).append(message.payload)

    with Hub(database.url, registry, workers=4) as hub:
        hub.subscribe("a")(remember)
        hub.publish_many([Outgoing("a", n, key=str(n % 7)) for n in range(700)])
        assert hub.drain(TIMEOUT)

    assert found == {str(key): list(range(key, 700, 7)) for key in range(7)}


def test_a_listener_to_a_channel_is_ready_tells_its_error_and_stops(hub):
    inside, go_on = threading.Event(), threading.Event()
    calls = []

    def handle(message):
        calls.append(message.payload)
        inside.set()
        go_on.wait(TIMEOUT)
        raise ValueError(message.payload)

    listener = hub.listen_to("a.*", handle)
    assert listener.ready and listener.error is None
    hub.publish("a.b", 1)
    assert inside.wait(TIMEOUT)

    assert not listener.stop(timeout=0.01)  # it runs, and is waited for no longer
    go_on.set()
    assert listener.stop()
    assert not listener.ready and str(listener.error) == "1"
    hub.publish("a.b", 2)
    assert hub.drain(TIMEOUT) and calls == [1]


def test_a_listener_may_stop_itself(hub):
    stopped = []
    listener = hub.listen_to("a", lambda message: stopped.append(listener.stop()))

    hub.publish_many([("a", 1), ("a", 2)])

    assert hub.drain(TIMEOUT) and stopped == [True]


def test_nobody_who_listens_to_any_table_receives_messages(database, registry):
    from pgevents import ANY

    changes = []
    registry.listen(ANY, ["after_insert", "after_truncate"], changes.append)
    with Hub(database.url, registry) as hub:
        hub.publish("a", 1)
        assert hub.drain(TIMEOUT)

    assert changes == []


def test_thousands_of_channels_are_not_remembered(hub, got):
    hub.publish_many([(f"user.{number}", number) for number in range(3000)])

    assert hub.drain(TIMEOUT)
    assert [message.payload for message in got] == list(range(3000))


def test_publishing_in_a_transaction_without_a_log_leaves_the_application_its_own_errors(database):
    hub = Hub(database.url, Registry())
    with database.engine().connect() as connection:
        transaction = connection.begin()
        with pytest.raises(NotInstalled, match="hub.install"):
            hub.publish("a", 1, bind=connection)
        transaction.rollback()
