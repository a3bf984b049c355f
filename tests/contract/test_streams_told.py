"""On every database, functions that are called within an append, and after its commit."""

import dataclasses

import pytest
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy import text
from sqlalchemy.orm import Session

from pgevents import Hub, UsageError


@pytest.fixture(autouse=True)
def there(database):
    """A table for what listeners write."""
    database.execute("CREATE TABLE seen (number integer)")


@pytest.fixture
def hub(database, registry):
    """It is not started: the functions are called where something is appended."""
    hub = Hub(database.url, registry)
    hub.install()
    yield hub
    hub.stop()


@pytest.fixture
def streams(hub):
    return hub.streams


def happened(number, type="happened"):
    return {"type": type, "number": number}


def numbers(events):
    return [event.data["number"] for event in events]


def seen(database):
    return sorted(row[0] for row in database.execute("SELECT number FROM seen"))


class Base:
    """A class of which others are subclasses."""


@pytest.fixture
def paid(streams):
    @streams.event("paid")
    @dataclasses.dataclass
    class Paid(Base):
        number: int

    return Paid


def test_a_listener_in_the_transaction_is_called_once_by_class_base_name_and_category(
    streams, paid
):
    calls = []

    def listen(label, *types, **options):
        @streams.in_transaction(*types, **options)
        def tell(event, connection):
            calls.append((label, event.version))

    listen("class and base", paid, Base)
    listen("base", Base)
    listen("name", "paid", "other")
    listen("category", paid, category="orders")
    listen("other category", category="invoices")
    listen("all")

    streams.append("a", paid(1), happened(2), category="orders")

    assert calls == [
        ("class and base", 1),
        ("base", 1),
        ("name", 1),
        ("category", 1),
        ("all", 1),
        ("all", 2),
    ]


def test_what_a_listener_writes_belongs_to_the_append(streams, database):
    @streams.in_transaction("happened")
    def write(event, connection):
        connection.execute(text("INSERT INTO seen VALUES (:n)"), {"n": event.data["number"]})
        if event.data["number"] == 3:
            raise RuntimeError("no")

    streams.append("a", happened(1))
    with Session(database.engine()) as session:
        streams.append("a", happened(2), bind=session)
        session.rollback()
    with pytest.raises(RuntimeError, match="no"):
        streams.append("a", happened(4), happened(3))

    assert seen(database) == [1] and numbers(streams.load("a")) == [1]


@pytest.mark.parametrize("own", [True, False])
def test_what_a_listener_appends_is_told_when_all_are_told_of_the_first(streams, database, own):
    order = []

    @streams.in_transaction("first")
    def cause(event, connection):
        order.append("cause")
        streams.append("b", happened(2, "second"), bind=connection)

    @streams.in_transaction()
    def note(event, connection):
        order.append(event.type)

    with Session(database.engine()) as session:
        streams.append("a", happened(1, "first"), bind=None if own else session)
        session.commit()

    assert order == ["cause", "first", "second"]
    assert numbers(streams.load("b")) == [2]


def test_listeners_that_append_in_a_circle_come_to_an_end(streams):
    streams.configure(depth=3)

    @streams.in_transaction()
    def again(event, connection):
        streams.append("a", happened(event.version), bind=connection)

    with pytest.raises(UsageError, match="in a circle.*limit is 3"):
        streams.append("a", happened(0))

    assert streams.load("a").version == 0


def test_sets_of_their_own_tell_each_other_within_one_transaction(hub, database, registry):
    other = Hub(database.url, registry, schema="billing")
    other.install()

    @hub.streams.in_transaction("ordered")
    def bill(event, connection):
        other.streams.append("b", happened(event.data["number"], "billed"), bind=connection)

    with Session(database.engine()) as session:
        hub.streams.append("a", happened(1, "ordered"), bind=session)
        session.rollback()
        hub.streams.append("a", happened(2, "ordered"), bind=session)
        session.commit()

    assert numbers(other.streams.load("b")) == [2] and numbers(hub.streams.load("a")) == [2]
    assert other.streams.load("a").version == 0


@pytest.mark.parametrize("kind", ["own", "session", "connection"])
def test_what_is_committed_is_told_after_the_commit(streams, database, kind):
    told = []

    @streams.after_commit("happened")
    def tell(event):
        told.append((event.data["number"], numbers(streams.load("a"))))

    engine = database.engine()
    if kind == "own":
        streams.append("a", happened(1))
    elif kind == "session":
        with Session(engine) as session:
            streams.append("a", happened(1), bind=session)
            assert told == []
            session.commit()
            session.execute(text("INSERT INTO seen VALUES (1)"))
            session.commit()
    else:
        with engine.begin() as connection:
            streams.append("a", happened(1), bind=connection)
            assert told == []

    assert told == [(1, [1])]


def test_what_is_rolled_back_is_not_told_and_what_follows_is(streams, database):
    told = []
    streams.after_commit()(lambda event: told.append(event.data["number"]))

    with Session(database.engine()) as session:
        streams.append("a", happened(1), bind=session)
        session.rollback()
        session.execute(text("INSERT INTO seen VALUES (1)"))
        savepoint = session.begin_nested()
        streams.append("a", happened(2), bind=session)
        savepoint.rollback()
        streams.append("a", happened(3), bind=session)
        savepoint = session.begin_nested()
        streams.append("a", happened(4), bind=session)
        inner = session.begin_nested()
        streams.append("a", happened(5), bind=session)
        inner.rollback()
        savepoint.commit()
        session.commit()

    assert told == [3, 4]
    assert numbers(streams.load("a")) == [3, 4]


def test_a_commit_that_fails_tells_nobody(streams, database):
    told = []
    streams.after_commit()(told.append)
    engine = database.engine()

    class Refused(Exception):
        pass

    @sqlalchemy_event.listens_for(engine, "commit")
    def refuse(connection):
        raise Refused

    with pytest.raises(Refused), engine.begin() as connection:
        streams.append("a", happened(1), bind=connection)

    assert told == []


def test_an_after_commit_listener_that_raises_is_logged_and_the_others_are_called(
    streams, database, caplog
):
    told = []

    @streams.after_commit()
    def broken(event):
        raise RuntimeError("no")

    streams.after_commit()(told.append)

    (stored,) = streams.append("a", happened(1))

    assert told == [stored] and "after_commit" in caplog.text
