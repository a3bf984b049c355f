"""What applications test with."""

import logging
import threading

import pytest
from sqlalchemy import Column, Integer, String, create_engine
from sqlalchemy.orm import Session, declarative_base

import pgevents
from pgevents import ANY, Event, Hub, Retry, UsageError, signals
from pgevents.testing import FakeHub, Recorder, wait_until

Base = declarative_base()


class Order(Base):
    __tablename__ = "orders"
    number = Column("id", Integer, primary_key=True)
    item = Column(String)
    status = Column(String)


TEA = {"id": 1, "item": "tea", "status": "new"}


@pytest.fixture
def hub(registry):
    return FakeHub(registry)


# The recorder


def test_a_recorder_gives_the_events_in_the_order_heard(hub, registry, heard):
    registry.listen("orders", "after_insert", heard)

    events = hub.insert("orders", {"id": 1}, {"id": 2}, {"id": 3}, {"id": 4})

    assert heard.next() == events[0]
    assert heard.take(2) == events[1:3]
    assert heard.rest() == events[3:]
    assert heard.rest() == []
    assert heard.events == heard.wait_for(4) == events


def test_a_recorder_remembers_the_events_of_a_batch_one_by_one(hub, registry, heard):
    registry.listen("orders", "after_insert", heard, batch=True)

    hub.insert("orders", {"id": 1}, {"id": 2})

    assert [event.key for event in heard.events] == [1, 2]


def test_a_recorder_waits_for_another_thread(hub, registry, heard):
    registry.listen("orders", "after_insert", heard)
    thread = threading.Timer(0.05, hub.insert, ("orders", TEA))
    thread.start()

    assert heard.next().new == TEA
    thread.join()


def test_a_recorder_says_what_it_heard_instead(hub, registry, heard):
    registry.listen("orders", "after_insert", heard)
    hub.insert("orders", TEA)

    with pytest.raises(AssertionError, match=r"1 of 2 events .* after_insert public.orders"):
        heard.wait_for(2, timeout=0.01)
    with pytest.raises(AssertionError, match="0 of 1 events"):
        Recorder().next(timeout=0.01)


def test_wait_until_returns_what_the_condition_returned():
    answers = iter([None, 0, "there"])

    assert wait_until(lambda: next(answers)) == "there"


def test_wait_until_gives_up():
    with pytest.raises(AssertionError, match="not within 0.02 s: .*, but False"):
        wait_until(lambda: False, timeout=0.02)


# The events of a fake hub


def test_an_invented_insert_is_a_whole_event(hub, registry, heard):
    registry.listen("orders", "after_insert", heard)

    (event,) = hub.insert("orders", TEA, context={"user": 7})

    assert heard.events == [event]
    assert isinstance(event, Event)
    assert (event.moment, event.schema, event.table) == ("after_insert", "public", "orders")
    assert (event.key, event.old, event.new) == (1, None, TEA)
    assert event.context == {"user": 7}
    assert event.at.tzinfo is not None
    assert Event.from_json(event.to_json()).new == TEA


def test_an_invented_update_tells_both_rows_and_what_changed(hub, registry, heard):
    registry.listen("orders", "after_update", heard)

    hub.update("orders", TEA, {"status": "paid"})

    event = heard.next()
    assert (event.old, event.new) == (TEA, dict(TEA, status="paid"))
    assert event.changed == ("status",)


def test_an_invented_update_that_changes_nothing_is_no_event(hub, registry, heard):
    registry.listen("orders", "after_update", heard)

    assert hub.update("orders", TEA, {"status": "new"}) == []
    assert heard.events == []


def test_an_invented_delete_and_truncate_are_heard(hub, registry, heard):
    registry.listen("orders", ["after_delete", "after_truncate"], heard)

    hub.delete("orders", TEA)
    hub.truncate("orders")

    assert [(e.operation, e.key) for e in heard.events] == [("delete", 1), ("truncate", None)]


def test_an_invented_row_cannot_be_changed_by_a_listener(hub):
    (event,) = hub.insert("orders", TEA)

    with pytest.raises(TypeError):
        event.new["id"] = 2


def test_the_rows_that_were_given_may_be_changed_afterwards(hub):
    row = dict(TEA)
    (event,) = hub.insert("orders", row)
    row["id"] = 2

    assert event.key == 1


# Who is called by a fake hub


@pytest.mark.parametrize("target", ["orders", "public.orders", Order, Order.__table__, ANY])
@pytest.mark.parametrize("table", ["orders", "public.orders", Order, Order.__table__])
def test_everybody_who_means_the_table_is_called_once(hub, registry, heard, target, table):
    registry.listen(target, "after_change", heard)

    hub.insert(table, TEA)

    assert [event.key for event in heard.events] == [1]


def test_who_listens_to_another_table_or_schema_is_not_called(hub, registry, heard):
    registry.listen("orders", "after_insert", heard)
    registry.listen("sales.customers", "after_insert", heard)

    hub.insert("sales.orders", TEA)
    hub.insert("customers", TEA)

    assert heard.events == []


def test_columns_and_where_choose_as_they_do_in_a_hub(hub, registry, heard):
    registry.listen(Order, "after_update", heard, columns=[Order.status], where={"status": "paid"})

    hub.update(Order, TEA, {"item": "coffee"})
    hub.update(Order, TEA, {"status": "paid"})
    hub.update(Order, TEA, {"status": "sent"})

    assert [event.new["status"] for event in heard.events] == ["paid"]


def test_a_batch_is_called_once_for_rows_inserted_together(hub, registry):
    batches = []
    registry.listen("orders", "after_insert", batches.append, batch=True)

    hub.insert("orders", {"id": 1}, {"id": 2})
    hub.insert("orders", {"id": 3})

    assert [[event.key for event in batch] for batch in batches] == [[1, 2], [3]]


def test_once_is_once(hub, registry, heard):
    registry.listen("orders", "after_insert", heard, once=True)

    hub.insert("orders", {"id": 1}, {"id": 2})
    hub.insert("orders", {"id": 3})

    assert [event.key for event in heard.events] == [1]


def test_a_listener_registered_by_another_hears_the_next_event(hub, registry, heard):
    registry.listen(
        "orders", "after_insert", lambda _: registry.listen("orders", "after_insert", heard)
    )

    hub.insert("orders", {"id": 1}, {"id": 2})

    assert [event.key for event in heard.events] == [2]


def test_listeners_of_groups_are_called_too(hub, registry, heard):
    registry.listen("orders", "after_insert", heard, group="mailer")

    hub.insert("orders", TEA)

    assert [event.key for event in heard.events] == [1]


def test_a_transactional_listener_gets_the_connection(registry):
    calls = []
    registry.listen(
        "orders", "after_insert", lambda *args: calls.append(args), group="w", transactional=True
    )
    connection = object()

    (event,) = FakeHub(registry, connection=connection).insert("orders", TEA)

    assert calls == [(event, connection)]


def test_without_a_registry_it_is_the_one_of_listens_for(heard):
    pgevents.listen("orders", "after_insert", heard)
    try:
        FakeHub().insert("orders", TEA)
    finally:
        pgevents.remove("orders", "after_insert", heard)

    assert [event.key for event in heard.events] == [1]


# What a mapped class adds


def test_the_key_is_the_tables(hub, registry):
    (event,) = hub.insert(Order, TEA)

    assert event.key == 1
    with pytest.raises(UsageError, match="no column 'number'; there are id, item, status"):
        hub.insert(Order, {"number": 1})


def test_an_invented_event_loads_the_object(hub, registry):
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Order(number=1, item="tea"))
        session.flush()
        registry.listen(Order, "after_insert", heard := Recorder())

        hub.insert("orders", TEA)

        assert heard.next().load(session).item == "tea"
    engine.dispose()


# What goes wrong


def test_what_a_listener_raises_reaches_the_test_after_the_others_were_called(
    hub, registry, heard, caplog
):
    def broken(event):
        raise LookupError("no such order")

    registry.listen("orders", "after_insert", broken)
    registry.listen("orders", "after_insert", heard)

    with caplog.at_level(logging.CRITICAL, "pgevents"), pytest.raises(LookupError):
        hub.insert("orders", TEA)

    assert len(heard.events) == 1


def test_a_listener_may_be_tried_again(registry, heard):
    def flaky(event):
        heard(event)
        if len(heard.events) < 3:
            raise LookupError("not yet")

    registry.listen("orders", "after_insert", flaky)

    FakeHub(registry, retry=Retry(attempts=3, first=0.001)).insert("orders", TEA)

    assert len(heard.events) == 3


def test_a_failure_is_also_told_as_a_signal(hub, registry):
    told = []

    def remember(sender, **details):
        told.append((sender, str(details["error"])))

    registry.listen("orders", "after_insert", {}.__getitem__)

    with signals.listener_failed.connected_to(remember), pytest.raises(KeyError):
        hub.insert("orders", TEA)

    assert [sender for sender, _ in told] == [hub]


# The real one


def test_a_fake_event_is_like_the_real_one(sqlite, registry, heard):
    sqlite.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT, status TEXT)")
    registry.listen("orders", "after_change", heard)
    with Hub(sqlite.url, registry):
        sqlite.execute("INSERT INTO orders VALUES (1, 'tea', 'new')")
        sqlite.execute("UPDATE orders SET status = 'paid'")
        sqlite.execute("DELETE FROM orders")
        real = heard.take(3)

    fake = FakeHub(registry, schema="main")
    fake.insert("orders", TEA)
    fake.update("orders", TEA, {"status": "paid"})
    fake.delete("orders", dict(TEA, status="paid"))

    def told(event):
        return (
            event.moment,
            event.topic,
            event.key,
            event.old,
            event.new,
            event.changed,
            event.context,
            event.attempt,
            event.redelivered,
        )

    assert [told(event) for event in heard.take(3)] == [told(event) for event in real]
