"""On every database, a where= that no row can match is refused, and one that can is not."""

import datetime
import decimal
import enum
import math
import uuid
from unittest import mock

import pytest
import sqlalchemy
from sqlalchemy import Column, Integer, String
from sqlalchemy.orm import declarative_base

from pgevents import Hub, Registry, UsageError

Base = declarative_base()
ID = uuid.uuid4()
DAY = datetime.date(2026, 11, 21)
NOON = datetime.datetime(2026, 11, 21, 12)
UTC = datetime.timezone.utc


class Color(enum.Enum):
    red = 1


class Size(str, enum.Enum):
    small = "s"


class Own(sqlalchemy.TypeDecorator):
    impl = String
    cache_ok = True

    def process_result_value(self, value, dialect):
        return value


class Thing(Base):
    __tablename__ = "things"
    id = Column(Integer, primary_key=True)
    name = Column(String)
    color = Column(sqlalchemy.Enum(Color, native_enum=False))
    size = Column(sqlalchemy.Enum(Size, native_enum=False))
    done = Column(sqlalchemy.Boolean)
    price = Column(sqlalchemy.Numeric(10, 2))
    ratio = Column(sqlalchemy.Float)
    day = Column(sqlalchemy.Date)
    at = Column(sqlalchemy.DateTime)
    raw = Column(sqlalchemy.LargeBinary)
    data = Column(sqlalchemy.JSON)
    own = Column(Own)


if hasattr(sqlalchemy, "Uuid"):
    Thing.number = Column(sqlalchemy.Uuid)

NEVER = [
    ("name", 5),
    ("name", ["a", "b"]),
    ("name", ("a", "b")),
    ("name", {"a"}),
    ("name", ID),
    ("name", b"a"),
    ("name", Color.red),
    ("id", "5"),
    ("id", 5.5),
    ("id", math.nan),
    ("id", math.inf),
    ("id", [5]),
    ("color", "red"),
    ("color", 1),
    ("color", ["red"]),
    ("size", "small"),
    ("done", 2),
    ("done", "true"),
    ("price", "9.90"),
    ("price", 9.9),
    ("ratio", decimal.Decimal("0.1")),
    ("ratio", math.nan),
    ("day", "2026-11-21"),
    ("day", NOON),
    ("at", "2026-11-21 12:00"),
    ("at", DAY),
    ("at", NOON.replace(tzinfo=UTC)),
    ("raw", "a"),
    ("data", {1}),
    ("number", str(ID)),
]
SOMETIMES = [
    ("name", "a"),
    ("name", None),
    ("id", 5),
    ("id", 5.0),
    ("id", decimal.Decimal(5)),
    ("color", Color.red),
    ("size", "s"),
    ("size", Size.small),
    ("done", True),
    ("done", 0),
    ("price", 9),
    ("price", 9.5),
    ("price", decimal.Decimal("9.90")),
    ("ratio", 0.1),
    ("ratio", decimal.Decimal("0.5")),
    ("day", DAY),
    ("at", NOON),
    ("raw", b"a"),
    ("raw", bytearray(b"a")),
    ("data", [1]),
    ("data", {"a": 1}),
    ("data", "a"),
    ("own", 5),
    ("own", [1]),
    ("name", mock.ANY),
    ("id", mock.ANY),
    ("number", ID),
]


def is_refused(hub, target, name, value):
    hub.listen(target, "after_insert", print, where={name: value})
    try:
        hub.install(sql_only=True)
    except UsageError as error:
        assert f"things.{name} == {value!r:.60}, a {type(value).__name__}" in str(error)
        return True
    finally:
        hub.remove(target, "after_insert", print)
    return False


def of_table(pairs):
    return [(name, value) for name, value in pairs if name in Thing.__table__.c]


@pytest.fixture
def things(database):
    Base.metadata.create_all(database.engine())
    return Hub(database.url, Registry())


def test_what_no_value_of_a_class_can_equal_is_refused(things):
    assert [pair for pair in of_table(NEVER) if not is_refused(things, Thing, *pair)] == []


def test_what_a_value_of_a_class_can_equal_is_taken(things):
    assert [pair for pair in of_table(SOMETIMES) if is_refused(things, Thing, *pair)] == []


def test_a_table_by_name_has_the_types_of_the_database(things):
    sometimes = [*SOMETIMES, ("color", "red"), ("size", "small")]
    unknown = [("color", Color.red), ("size", Size.small), ("own", 5), ("own", [1])]
    # SQLite has neither UUIDs nor JSON, and puts anything anywhere.
    if things.status()["database"] == "sqlite":
        unknown += [("number", ID), ("data", [1]), ("data", {"a": 1}), ("raw", bytearray(b"a"))]
    lists = [(name, value) for name, value in NEVER if isinstance(value, (list, tuple, set))]

    pairs = of_table(pair for pair in sometimes if pair not in unknown)
    assert [pair for pair in pairs if is_refused(things, "things", *pair)] == []
    assert [pair for pair in lists if not is_refused(things, "things", *pair)] == []


def test_a_time_with_or_without_a_zone_is_known_by_the_databases_type(postgres):
    postgres.execute(
        "CREATE TABLE things (id uuid PRIMARY KEY, at timestamptz, naive timestamp, tags text[],"
        " span int4range, color text, price numeric)"
    )

    hub = Hub(postgres.url, Registry())
    for name, value in (
        ("at", NOON),
        ("naive", NOON.replace(tzinfo=UTC)),
        ("id", str(ID)),
        ("tags", ("a",)),
        ("price", 9.9),
        ("color", Color.red),
    ):
        assert is_refused(hub, "things", name, value), name
    for name, value in (
        ("at", NOON.replace(tzinfo=UTC)),
        ("naive", NOON),
        ("id", ID),
        ("tags", ["a"]),
        ("span", "[1,5)"),
        ("color", "red"),
    ):
        assert not is_refused(hub, "things", name, value), name


def test_a_listener_of_a_running_hub_is_refused_at_once(orders):
    with Hub(orders.url, Registry()) as hub:
        with pytest.raises(UsageError, match=r"item == \['tea', 'milk'\], a list: no value"):
            hub.listen("orders", "after_insert", print, where={"item": ["tea", "milk"]})
