"""On every database, an event's values are those that the ORM would give."""

import datetime
import decimal
import enum
import json
import pickle

import pytest
import sqlalchemy
from sqlalchemy import Column, Integer, String, Table
from sqlalchemy.orm import Session, declarative_base

from pgevents import Event, Hub, UsageError

# What SQLAlchemy 1.4 says of Numeric.
pytestmark = pytest.mark.filterwarnings("ignore:Dialect sqlite")


class Color(enum.Enum):
    red = 1
    green = 2


class Upper(sqlalchemy.TypeDecorator):
    """Kept in lower case, given in upper."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value, dialect):
        return value and value.lower()

    def process_result_value(self, value, dialect):
        return value and value.upper()


Base = declarative_base()
DAY = datetime.datetime(2026, 11, 21, 5, 36, 1, 123456)


class Thing(Base):
    __tablename__ = "things"
    id = Column(Integer, primary_key=True)
    color = Column(sqlalchemy.Enum(Color))
    done = Column(sqlalchemy.Boolean)
    shout = Column(Upper)
    named = Column("other name", String)
    data = Column(sqlalchemy.JSON)
    price = Column(sqlalchemy.Numeric(20, 2))
    ratio = Column(sqlalchemy.Float)
    at = Column(sqlalchemy.DateTime)
    day = Column(sqlalchemy.Date)
    clock = Column(sqlalchemy.Time)
    lasts = Column(sqlalchemy.Interval)
    raw = Column(sqlalchemy.LargeBinary)
    big = Column(sqlalchemy.BigInteger)


FULL = {
    "color": Color.green,
    "done": True,
    "shout": "TEA",
    "named": "x",
    "data": {"a": [1, 2.5, None, "\u00e9"]},
    "price": decimal.Decimal("123456789012.10"),
    "ratio": 0.1,
    "at": DAY,
    "day": DAY.date(),
    "clock": DAY.time(),
    "lasts": datetime.timedelta(days=3, seconds=4, microseconds=5),
    "raw": b"\0\xff",
    "big": 2**62,
}


class Pair(Base):
    __table__ = Table(
        "pairs",
        Base.metadata,
        Column("a", Integer),
        Column("b", String),
        Column("value", Integer),
        sqlalchemy.PrimaryKeyConstraint("b", "a"),
    )
    v = __table__.c.value


keyless = Table("keyless", Base.metadata, Column("v", Integer))


@pytest.fixture
def session(database):
    """A session on the classes' tables."""
    engine = database.engine()
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        yield session


def test_values_come_as_the_mapped_class_gives_them(database, session, registry, heard):
    registry.listen(Thing, "after_change", heard)

    with Hub(database.url, registry):
        session.add(Thing(**FULL))
        session.commit()
        new = heard.next().new

    expected = {"other name" if name == "named" else name: FULL[name] for name in FULL}
    expected["id"] = 1
    assert new == expected
    assert all(type(new[name]) is type(expected[name]) for name in new)


def test_null_is_none_in_every_type(database, session, registry, heard):
    registry.listen(Thing, "after_change", heard)

    with Hub(database.url, registry):
        session.execute(sqlalchemy.insert(Thing.__table__).values(id=7))
        session.commit()
        new = heard.next().new

    assert {name: value for name, value in new.items() if value is not None} == {"id": 7}


def test_an_event_survives_json_and_pickle(database, session, registry, heard):
    registry.listen(Thing, "after_change", heard)
    with Hub(database.url, registry) as hub:
        thing = Thing(**FULL)
        session.add(thing)
        session.commit()
        thing.price = decimal.Decimal("1.10")
        session.commit()
        assert hub.drain()

    for event in heard.events:
        for copy in (Event.from_json(event.to_json()), pickle.loads(pickle.dumps(event))):
            assert copy == event and repr(copy) == repr(event)
            assert (copy.new, copy.old, copy.key, copy.at) == (
                event.new,
                event.old,
                event.key,
                event.at,
            )
            assert (copy.changed, copy.context) == (event.changed, event.context)
            assert [type(v) for v in copy.new.values()] == [type(v) for v in event.new.values()]
            assert copy.to_json() == event.to_json()


def spoilt(text, **other):
    return json.dumps({**json.loads(text), **other})


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: None,
        lambda text: text[:-1],
        lambda text: "[]",
        lambda text: spoilt(text, new=[1]),
        lambda text: spoilt(text, new={"id": {"$decimal": "many"}}),
        lambda text: spoilt(text, new={"id": {"$enum": []}}),
        lambda text: spoilt(text, at=7),
    ],
    ids=["None", "cut", "list", "row", "decimal", "enum", "time"],
)
def test_what_is_no_event_in_json_is_one_clear_error(orders, registry, heard, spoil):
    registry.listen("orders", "after_insert", heard)
    with Hub(orders.url, registry):
        orders.execute("INSERT INTO orders (item) VALUES ('tea')")
        text = heard.next().to_json()

    with pytest.raises(UsageError, match="no event in JSON"):
        Event.from_json(spoil(text))


@pytest.mark.parametrize(
    "target", [Thing, Thing.__table__, "things"], ids=["class", "Table", "name"]
)
def test_columns_and_where_may_be_named_in_any_way(database, session, registry, heard, target):
    wheres = [{"other name": "y"}, {Thing.named: "y"}, {Thing.__table__.c["other name"]: "y"}]
    columns = ["other name", [Thing.named], [Thing.__table__.c["other name"]]]
    if target is Thing:
        wheres.append({"named": "y"})
        columns.append(["named"])
    for where in wheres:
        registry.listen(target, "after_update", lambda e: heard(e), where=where)
    for names in columns:
        registry.listen(target, "after_update", lambda e: heard(e), columns=names)

    with Hub(database.url, registry) as hub:
        thing = Thing(named="x", big=1)
        session.add(thing)
        session.commit()
        thing.big = 2
        session.commit()
        assert heard.events == []
        thing.named = "y"
        session.commit()
        assert hub.drain()

    assert len(heard.events) == len(wheres) + len(columns)


def test_where_none_is_null_and_values_are_the_mapped_ones(database, session, registry, heard):
    registry.listen(Thing, "after_insert", heard, where={"color": None, "done": False})

    with Hub(database.url, registry) as hub:
        for values in ({}, {"done": False}, {"color": Color.red, "done": False}, {"done": True}):
            session.add(Thing(**values))
            session.flush()
        session.commit()
        assert hub.drain()

    assert [event.key for event in heard.events] == [2]


def test_a_composite_key_keeps_its_order_and_may_change(database, session, registry, heard):
    registry.listen(Pair, "after_change", heard)

    with Hub(database.url, registry):
        session.add(Pair(a=1, b="x", v=1))
        session.commit()
        session.execute(sqlalchemy.text("UPDATE pairs SET a = 2"))
        session.commit()
        inserted, updated = heard.take(2)

    assert inserted.key == ("x", 1)
    assert updated.key == ("x", 2) and updated.key_changed
    assert updated.changed == ("a",) and updated.old["a"] == 1
    assert updated.load(session).v == 1


def test_without_a_key_there_is_none(database, session, registry, heard):
    registry.listen(keyless, "after_change", heard)

    with Hub(database.url, registry):
        session.execute(keyless.insert().values(v=1))
        session.commit()
        event = heard.next()

    assert event.key is None and event.new == {"v": 1}


def test_load_gives_the_object_as_it_is_now(database, session, registry, heard):
    registry.listen(Thing, "after_insert", heard)

    with Hub(database.url, registry):
        thing = Thing(named="x")
        session.add(thing)
        session.commit()
        thing.named = "later"
        session.commit()
        event = heard.next()

    assert event.load(session).named == "later"
    session.delete(thing)
    session.commit()
    assert event.load(session) is None


def test_an_event_cannot_be_changed(orders, registry, heard):
    registry.listen("orders", "after_insert", heard)

    with Hub(orders.url, registry):
        orders.execute("INSERT INTO orders (item) VALUES ('tea')")
        event = heard.next()

    with pytest.raises(TypeError):
        event.new["item"] = "milk"
    with pytest.raises(AttributeError):
        event.operation = "delete"
    with pytest.raises(AttributeError):
        event.more = 1
    assert event.new["item"] == "tea"


@pytest.mark.skipif(not hasattr(sqlalchemy, "Uuid"), reason="Uuid is of SQLAlchemy 2")
def test_a_uuid_is_one_on_every_database(database, registry, heard):
    import uuid

    table = Table("u", sqlalchemy.MetaData(), Column("id", sqlalchemy.Uuid, primary_key=True))
    engine, value = database.engine(), uuid.uuid4()
    table.create(engine)
    registry.listen(table, "after_insert", heard)

    with Hub(database.url, registry):
        with engine.begin() as connection:
            connection.execute(table.insert().values(id=value))
        event = heard.next()

    assert event.key == value and Event.from_json(event.to_json()).key == value


def test_a_number_in_a_document_is_exact_and_never_infinite(database, registry, heard):
    long = "1" + "0" * 5000
    documents = Table("documents", sqlalchemy.MetaData(), Column("doc", sqlalchemy.JSON))
    documents.create(database.engine())
    registry.listen(documents, "after_insert", heard)

    with Hub(database.url, registry):
        database.execute("INSERT INTO documents VALUES (%s)", "[1e400, 7, 1.5, {}]".format(long))
        database.execute("INSERT INTO documents VALUES (%s)", '{"a": -1e400}')
        database.execute("INSERT INTO documents VALUES ('7')")
        first, second, third = heard.take(3)

    assert first.new["doc"] == [decimal.Decimal("1e400"), 7, 1.5, decimal.Decimal(long)]
    assert list(map(type, first.new["doc"][1:3])) == [int, float]
    assert third.new["doc"] == 7
    assert second.new["doc"] == {"a": decimal.Decimal("-1e400")}
    assert Event.from_json(first.to_json()).new == first.new
