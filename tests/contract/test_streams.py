"""On every database, streams: what is appended is loaded again, whole, in order, once."""

import dataclasses
import datetime
import decimal
import threading
import uuid

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from pgevents import NO_STREAM, ConcurrencyError, Hub, NotInstalled, UsageError

TIMEOUT = 20.0  # seconds


@pytest.fixture(autouse=True)
def there(database):
    """A file of SQLite has to be there before a hub opens it."""
    database.execute("CREATE TABLE other (id integer)")


@pytest.fixture
def hub(database, registry):
    """It is not started: streams need no threads."""
    hub = Hub(database.url, registry)
    hub.install()
    yield hub
    hub.stop()


@pytest.fixture
def streams(hub):
    return hub.streams


@pytest.fixture
def paid(streams):
    @streams.event("order.paid")
    @dataclasses.dataclass(frozen=True)
    class Paid:
        amount: decimal.Decimal
        at: datetime.datetime
        on: datetime.date
        by: uuid.UUID

    return Paid


def happened(number):
    return {"type": "happened", "number": number}


def numbers(history):
    return [event.data["number"] for event in history]


def test_what_was_appended_is_loaded_exactly(streams, paid):
    at = datetime.datetime(2026, 11, 27, 12, 0, 0, 1, datetime.timezone.utc)
    event = paid(decimal.Decimal("9.90"), at, at.date(), uuid.uuid4())

    (stored,) = streams.append("17", event, category="orders", metadata={"who": "ann\0\u2028'"})

    (loaded,) = streams.load("17", category="orders")
    for one in (stored, loaded):
        assert one.data == event
        assert (one.stream, one.category, one.tenant) == ("17", "orders", None)
        assert (one.type, one.type_version, one.version) == ("order.paid", 1, 1)
        assert one.metadata == {"who": "ann\0\u2028'"} and one.context == {}
    assert stored == loaded and stored.position == loaded.position and stored.at == loaded.at
    now = datetime.datetime.now(datetime.timezone.utc)
    assert abs(now - loaded.at) < datetime.timedelta(seconds=TIMEOUT)


def test_versions_count_from_1_and_bounds_are_after_exclusive_upto_inclusive(streams):
    assert [e.version for e in streams.append("a", *map(happened, range(1, 4)))] == [1, 2, 3]
    streams.append("a", *map(happened, range(4, 1300)))

    assert numbers(streams.load("a")) == list(range(1, 1300))
    assert numbers(streams.load("a", after=2, upto=5)) == [3, 4, 5]
    assert streams.load("a").version == 1299 and streams.load("a", upto=7).version == 7
    nothing = streams.load("b")
    assert (list(nothing), nothing.version, nothing.state) == ([], 0, None)


@pytest.mark.parametrize("reached, expected", [(0, 3), (2, 0), (2, 1), (2, 3), (2, 2**31 - 1)])
def test_a_wrong_version_is_one_clear_error_and_the_session_is_usable(
    streams, database, reached, expected
):
    streams.append("a", *map(happened, range(reached)))
    with Session(database.engine()) as session:
        session.execute(text("INSERT INTO other VALUES (1)"))
        with pytest.raises(ConcurrencyError) as caught:
            streams.append("a", happened(9), expected_version=expected, bind=session)
        session.execute(text("INSERT INTO other VALUES (2)"))
        session.commit()

    assert (caught.value.expected, caught.value.version) == (expected, reached)
    assert f"is at version {reached}, not at {expected}" in str(caught.value)
    assert numbers(streams.load("a")) == list(range(reached))
    assert streams.load("a").version == reached
    assert database.execute("SELECT count(*) FROM other") == [(2,)]


def test_an_append_at_the_expected_version_goes_on(streams):
    streams.append("a", happened(1), expected_version=NO_STREAM)
    streams.append("a", happened(2), happened(3), expected_version=1)
    streams.append("a", happened(4), expected_version=3)
    streams.append("a", happened(5))

    with pytest.raises(ConcurrencyError):
        streams.append("a", happened(6), expected_version=NO_STREAM)
    assert numbers(streams.load("a")) == [1, 2, 3, 4, 5]
    assert streams.append("a", expected_version=1) == []


@pytest.mark.parametrize("kind", ["session", "scoped_session", "connection"])
def test_an_append_belongs_to_the_transaction_of_the_caller(streams, database, kind):
    engine = database.engine()
    if kind == "connection":
        with engine.connect() as connection:
            transaction = connection.begin()
            streams.append("kept", happened(1), bind=connection)
            transaction.commit()
            transaction = connection.begin()
            streams.append("taken back", happened(1), bind=connection)
            assert numbers(streams.load("taken back", bind=connection)) == [1]
            transaction.rollback()
    else:
        maker = sessionmaker(engine)
        session = scoped_session(maker) if kind == "scoped_session" else maker()
        streams.append("kept", happened(1), bind=session)
        session.commit()
        streams.append("taken back", happened(1), bind=session)
        session.rollback()
        session.close()

    assert numbers(streams.load("kept")) == [1]
    assert streams.load("taken back").version == 0


def test_what_a_savepoint_takes_back_is_not_there_and_its_version_is_used_again(streams, database):
    with Session(database.engine()) as session:
        session.execute(text("INSERT INTO other VALUES (1)"))
        streams.append("a", happened(1), bind=session)
        savepoint = session.begin_nested()
        streams.append("a", happened(2), bind=session)
        savepoint.rollback()
        streams.append("a", happened(3), bind=session, expected_version=1)
        session.commit()

    assert [(e.version, e.data["number"]) for e in streams.load("a")] == [(1, 1), (2, 3)]


def test_category_and_tenant_are_parts_of_what_a_stream_is(streams):
    acme, other = streams.for_tenant("acme"), streams.for_tenant("other")
    id = uuid.uuid4()
    for number, (view, category) in enumerate(
        [(streams, None), (streams, "orders"), (acme, None), (acme, "orders"), (other, "orders")]
    ):
        view.append(id, happened(number), category=category, expected_version=NO_STREAM)

    assert numbers(streams.load(str(id))) == [0]
    assert numbers(streams.load(id, category="orders")) == [1]
    assert numbers(acme.load(id)) == [2]
    (event,) = acme.load(id, category="orders")
    assert (event.stream, event.category, event.tenant) == (str(id), "orders", "acme")
    assert numbers(other.load(id, category="orders")) == [4]
    assert acme.delete(id, category="orders") == 1
    assert numbers(other.load(id, category="orders")) == [4]


def test_after_a_delete_versions_go_on(streams):
    streams.append("a", happened(1), happened(2))
    streams.snapshot("a", {"sum": 3}, 2)

    assert streams.delete("a") == 2

    history = streams.load("a", snapshot=True)
    assert (list(history), history.version, history.state) == ([], 2, None)
    with pytest.raises(ConcurrencyError):
        streams.append("a", happened(3), expected_version=NO_STREAM)
    (event,) = streams.append("a", happened(3), expected_version=2)
    assert event.version == 3 and numbers(streams.load("a")) == [3]
    assert streams.delete("nothing") == 0


def test_a_snapshot_stands_for_the_events_up_to_its_version(streams, paid):
    streams.append("a", *map(happened, range(1, 6)))
    event = paid(decimal.Decimal("1.10"), datetime.datetime.now(), datetime.date.today(), None)

    streams.snapshot("a", event, 3)
    streams.snapshot("a", {"too": "old"}, 2)

    history = streams.load("a", snapshot=True)
    assert history.state == event and numbers(history) == [4, 5] and history.version == 5
    assert streams.load("a").state is None and numbers(streams.load("a")) == [1, 2, 3, 4, 5]
    assert streams.load("a", snapshot=True, upto=2).state is None
    with pytest.raises(UsageError, match="is at version 5"):
        streams.snapshot("a", {}, 6)


@pytest.mark.parametrize(
    "event, wrong",
    [
        (happened(float("nan")), "JSON has no nan"),
        (happened({1, 2}), "JSON has no set"),
        (happened({1: "one"}), "is no text"),
        (happened("\ud800"), "lone surrogate"),
        ({"number": 1}, "no event"),
        ({"type": ""}, "give a name"),
        ("text", "no event"),
        (None, "no event"),
    ],
)
def test_what_would_come_back_as_something_else_is_refused_before_the_database(
    database, registry, event, wrong
):
    streams = Hub("postgresql:///nowhere?host=/nowhere", registry).streams

    with pytest.raises(UsageError, match=wrong):
        streams.append("a", happened(1), event)


def test_an_object_of_a_class_that_is_not_registered_is_refused(streams):
    @dataclasses.dataclass
    class Unknown:
        number: int

    with pytest.raises(UsageError, match="is no registered type"):
        streams.append("a", Unknown(1))


@pytest.mark.parametrize(
    "given, wrong",
    [
        ({"stream": ""}, "stream=''"),
        ({"stream": 17}, "stream=17"),
        ({"stream": "a\0"}, "NUL"),
        ({"stream": "x" * 900}, "at the most"),
        ({"category": 3}, "category=3"),
        ({"expected_version": -1}, "expected_version=-1"),
        ({"expected_version": True}, "expected_version=True"),
        ({"expected_version": 2**31}, "at the most"),
        ({"metadata": [1]}, "give a dict"),
        ({"metadata": {"a": {1}}}, "JSON has no set"),
        ({"bind": "session"}, "give the Session or Connection"),
    ],
)
def test_a_wrong_argument_of_an_append_is_named(streams, given, wrong):
    given = dict(given)
    stream = given.pop("stream", "a")

    with pytest.raises(UsageError, match=wrong):
        streams.append(stream, happened(1), **given)


def test_without_tables_an_append_says_what_to_do(database, registry):
    streams = Hub(database.url, registry).streams

    with Session(database.engine()) as session:
        with pytest.raises(NotInstalled, match="hub.install()"):
            streams.append("a", happened(1), bind=session)


def test_an_older_version_comes_through_the_upcasters(streams, hub, database, registry):
    streams.append("a", {"type": "priced", "cents": 990}, metadata={"by": "ann"})
    newer = Hub(database.url, registry).streams
    seen = []

    @newer.event("priced", version=3)
    @dataclasses.dataclass
    class Priced:
        amount: decimal.Decimal
        currency: str

    @newer.upcaster("priced", 1)
    def to_2(data, metadata):
        seen.append(metadata)
        return {"amount": decimal.Decimal(data["cents"]) / 100}

    @newer.upcaster("priced", 2)
    def to_3(data, metadata):
        return {**data, "currency": "EUR"}

    newer.append("a", Priced(decimal.Decimal("1.10"), "USD"))
    first, second = newer.load("a")

    assert first.data == Priced(decimal.Decimal("9.90"), "EUR") and first.type_version == 1
    assert second.data == Priced(decimal.Decimal("1.10"), "USD") and second.type_version == 3
    assert seen == [{"by": "ann"}]
    # Who knows the type not, or not yet in this version, has a dict.
    assert [e.data for e in streams.load("a")][1] == {
        "amount": decimal.Decimal("1.10"),
        "currency": "USD",
    }


def test_a_type_is_registered_once(streams, paid):
    with pytest.raises(UsageError, match="already"):
        streams.event("order.paid")(dataclasses.make_dataclass("Other", ["x"]))
    with pytest.raises(UsageError, match="already"):
        streams.event("order.settled")(paid)
    with pytest.raises(UsageError, match="give a dataclass"):
        streams.event("plain")(dict)


def test_a_codec_encrypts_and_erases(streams, database):
    keys = {"a": 3, "b": 5}

    def shift(text, by):
        return "".join(chr(ord(letter) + by) for letter in text)

    streams.configure(
        encode=lambda data, about: {**data, "name": shift(data["name"], keys[about.stream])},
        decode=lambda data, about: (
            {**data, "name": shift(data["name"], -keys[about.stream])}
            if about.stream in keys
            else None
        ),
    )
    streams.append("a", {"type": "named", "name": "ann"})
    streams.append("b", {"type": "named", "name": "bob"})
    table = "pgevents_events" if database.kind == "sqlite" else "pgevents.events"

    assert "ann" not in str(database.execute(f"SELECT data FROM {table}"))
    assert [e.data["name"] for e in streams.load("a")] == ["ann"]
    del keys["b"]
    assert [e.data for e in streams.load("b")] == [None]


def test_a_redacted_event_has_other_data_and_its_snapshot_is_gone(streams, paid):
    event = paid(decimal.Decimal("1.10"), datetime.datetime.now(), datetime.date.today(), None)
    stored, _ = streams.append("a", event, happened(2), metadata={"m": 1})
    streams.snapshot("a", {"sum": 1}, 2)

    streams.redact(stored, dataclasses.replace(event, amount=decimal.Decimal(0)))

    first, second = history = list(streams.load("a"))
    assert first.data.amount == 0 and first.metadata == {"m": 1} and len(history) == 2
    assert second.data == happened(2)
    assert streams.load("a", snapshot=True).state is None
    with pytest.raises(UsageError, match="cannot become"):
        streams.redact(stored, happened(1))
    streams.delete("a")
    with pytest.raises(UsageError, match="is not there"):
        streams.redact(stored, event)


def test_enrichers_add_to_the_metadata_and_what_is_given_comes_first(streams, hub):
    hub.enrich(lambda: {"trace": "t1", "user": "ann"})
    (event,) = streams.append("a", happened(1), metadata={"user": "bob"})
    assert event.metadata == {"trace": "t1", "user": "bob"}

    hub.enrich(lambda: {"trace": "t2"})
    with pytest.raises(UsageError, match="'trace': 't1' and 't2'"):
        streams.append("a", happened(1))


def test_of_many_who_append_at_one_version_one_succeeds(streams):
    streams.append("a", happened(0))
    outcomes, begin = [], threading.Barrier(4)

    def append(number):
        begin.wait(TIMEOUT)
        try:
            streams.append("a", happened(number), expected_version=1)
            outcomes.append("appended")
        except ConcurrencyError:
            outcomes.append("refused")

    threads = [threading.Thread(target=append, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)

    assert sorted(outcomes) == ["appended", "refused", "refused", "refused"]
    assert streams.load("a").version == 2


def test_an_append_says_who_wrote_as_a_change_does(streams, hub, database):
    with Session(database.engine()) as session:
        session.execute(text("INSERT INTO other VALUES (1)"))
        with hub.context(session, user="ann"):
            (stored,) = streams.append("a", happened(1), bind=session)
        session.commit()

    assert stored.context == {"user": "ann"}
    assert [event.context for event in streams.load("a")] == [{"user": "ann"}]
