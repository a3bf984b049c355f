"""On every database, event.load() gives the object of the very row that changed."""

import uuid

import pytest
import sqlalchemy
from sqlalchemy import Column, ForeignKey, Integer, String
from sqlalchemy.orm import Session, composite, declarative_base

from pgevents import Event, Hub, UsageError

Base = declarative_base()


class Prefixed(sqlalchemy.TypeDecorator):
    """Kept as a number, given as a text."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value, dialect):
        return None if value is None else int(value[1:])

    def process_result_value(self, value, dialect):
        return None if value is None else f"A{value}"


class Stock(Base):
    """The database's key has its columns in the other order."""

    __tablename__ = "stock"
    shop = Column("shop_no", Integer, primary_key=True)
    product = Column("product_no", Integer, primary_key=True)
    place = composite(lambda shop, product: (shop, product), shop, product)
    n = Column(Integer)


class Note(Base):
    """The database knows no key."""

    __tablename__ = "notes"
    code = Column(String, primary_key=True)
    body = Column(String)


class User(Base):
    """The database's key is another column."""

    __tablename__ = "users"
    email = Column(String, primary_key=True)
    number = Column("id", Integer)


class Ticket(Base):
    __tablename__ = "tickets"
    code = Column(Prefixed, primary_key=True)


class Animal(Base):
    __tablename__ = "animals"
    id = Column(Integer, primary_key=True)
    kind = Column(String)
    __mapper_args__ = {"polymorphic_on": kind, "polymorphic_identity": "animal"}


class Bird(Animal):
    __tablename__ = "birds"
    animal_id = Column(ForeignKey("animals.id"), primary_key=True)
    wings = Column(Integer)
    __mapper_args__ = {"polymorphic_identity": "bird"}


@pytest.fixture
def session(database):
    database.execute(
        "CREATE TABLE stock (shop_no int, product_no int, n int,"
        " PRIMARY KEY (product_no, shop_no))"
    )
    database.execute("CREATE TABLE notes (code text, body text)")
    database.execute("CREATE TABLE users (id int PRIMARY KEY, email text UNIQUE)")
    engine = database.engine()
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        yield session


@pytest.fixture
def told(database, registry, heard, session):
    """Write objects, and return the events that a hub told of them."""

    def tell(target, *objects, **watched):
        registry.listen(target, "after_insert", heard)
        hub = Hub(database.url, registry)
        if watched:
            hub.watch(target, **watched)
        with hub:
            session.add_all(objects)
            session.commit()
            return heard.take(len(objects))

    return tell


def test_the_key_is_the_classes_whatever_the_order_in_the_database(session, told):
    events = told(Stock, Stock(shop=1, product=2, n=12), Stock(shop=2, product=1, n=21))

    for event in (*events, *(Event.from_json(event.to_json()) for event in events)):
        loaded = event.load(session, Stock)
        assert (loaded.shop, loaded.product) == (event.new["shop_no"], event.new["product_no"])
        assert loaded.place == (loaded.shop, loaded.product)


def test_a_table_without_a_key_is_loaded_by_the_classes(session, told):
    (event,) = told(Note, Note(code="a", body="x"))

    assert event.key is None
    assert event.load(session).body == "x"


def test_the_classes_key_may_be_another_unique_column(session, told):
    (event,) = told(User, User(number=5, email="ann@x"))

    assert event.key == 5
    assert event.load(session).email == "ann@x"


def test_a_key_that_was_not_captured_is_an_error_that_names_it(session, told):
    (event,) = told(User, User(number=5, email="ann@x"), exclude=["email"])

    with pytest.raises(UsageError, match="User is loaded by users.email, which the event does not"):
        event.load(session)


@pytest.mark.skipif(not hasattr(sqlalchemy, "Uuid"), reason="Uuid is of SQLAlchemy 2")
def test_a_uuid_that_was_read_without_the_class_is_decoded_by_it(session, told):
    class Item(declarative_base()):
        __tablename__ = "items"
        id = Column(sqlalchemy.Uuid, primary_key=True)

    Item.metadata.create_all(session.get_bind())
    item = Item(id=uuid.uuid4())
    (event,) = told("items", item)

    for one in (event, Event.from_json(event.to_json())):
        assert one.load(session, Item) is item


@pytest.mark.parametrize("target", ["tickets", Ticket, Ticket.__table__])
def test_a_key_of_a_type_of_ones_own_is_decoded_once(session, told, target):
    (event,) = told(target, Ticket(code="A7"))

    for one in (event, Event.from_json(event.to_json())):
        assert one.load(session, Ticket).code == "A7"


def test_the_parts_of_a_joined_class_are_one_object(database, session, told, registry, heard):
    registry.listen(Bird, "after_insert", heard)
    told(Animal, Bird(wings=2))
    events = heard.wait_for(2)

    assert sorted(event.table for event in events) == ["animals", "birds"]
    for event in events:
        assert event.load(session).wings == event.load(session, Bird).wings == 2
        assert event.load(session, Animal).wings == 2


def test_a_class_of_another_table_is_refused_with_both_names(session, told):
    (event,) = told(Note, Note(code="a"))

    with pytest.raises(UsageError, match=r"Ticket is mapped to tickets, .*of (main|public)\.notes"):
        event.load(session, Ticket)
    with pytest.raises(UsageError, match="cannot load 'Note': give a mapped class"):
        event.load(session, "Note")


def test_a_class_in_a_schema_that_the_engine_translates_is_loaded(postgres, registry, heard):
    class Part(declarative_base()):
        __tablename__ = "parts"
        __table_args__ = {"schema": "tenant"}
        id = Column(Integer, primary_key=True)

    postgres.execute("CREATE TABLE parts (id int PRIMARY KEY)")
    registry.listen("parts", "after_change", heard)
    engine = postgres.engine().execution_options(schema_translate_map={"tenant": "public"})

    with Hub(postgres.url, registry), Session(engine) as session:
        session.add(Part(id=3))
        session.commit()
        assert heard.next().load(session, Part).id == 3
    with Session(postgres.engine()) as session, pytest.raises(UsageError, match="tenant.parts"):
        heard.events[0].load(session, Part)


def test_a_truncate_has_no_row_to_load(postgres, registry, heard):
    Base.metadata.create_all(postgres.engine())
    registry.listen(Ticket, "after_truncate", heard)

    with Hub(postgres.url, registry), Session(postgres.engine()) as session:
        postgres.execute("TRUNCATE tickets")
        with pytest.raises(UsageError, match="no row to load: the event is a truncate"):
            heard.next().load(session)
