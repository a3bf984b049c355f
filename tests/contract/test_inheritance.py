"""On every database, a class's listener gets the events of its own rows, never its siblings'."""

import pytest
from sqlalchemy import Column, ForeignKey, Integer, String, case
from sqlalchemy.orm import Session, column_property, declarative_base

from pgevents import Hub, UsageError, signals

Base = declarative_base()


class Pet(Base):
    __tablename__ = "pets"
    id = Column(Integer, primary_key=True)
    kind = Column(String)
    name = Column(String)
    __mapper_args__ = {"polymorphic_on": kind, "polymorphic_identity": "pet"}


class Dog(Pet):
    __mapper_args__ = {"polymorphic_identity": "dog"}


class Puppy(Dog):
    __mapper_args__ = {"polymorphic_identity": "puppy"}


class Cat(Pet):
    __mapper_args__ = {"polymorphic_identity": "cat"}


class Bird(Pet):
    __tablename__ = "birds"
    id = Column(ForeignKey("pets.id"), primary_key=True)
    wings = Column(Integer)
    __mapper_args__ = {"polymorphic_identity": "bird"}


class Eagle(Bird):
    __mapper_args__ = {"polymorphic_identity": "eagle"}


class Parcel(Base):
    __tablename__ = "parcels"
    id = Column(Integer, primary_key=True)
    weight = Column(Integer)
    __mapper_args__ = {
        "polymorphic_on": case((weight > 10, "large"), else_="small"),
        "polymorphic_identity": "small",
    }


class Large(Parcel):
    __mapper_args__ = {"polymorphic_identity": "large"}


class Task(Base):
    __tablename__ = "tasks"
    id = Column(Integer, primary_key=True)
    code = Column(String)
    kind = column_property(code + "")
    __mapper_args__ = {"polymorphic_on": kind, "polymorphic_identity": "task"}


class Chore(Task):
    __mapper_args__ = {"polymorphic_identity": "chore"}


@pytest.fixture
def session(database):
    engine = database.engine()
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        yield session


def test_a_subclass_hears_of_its_own_rows_only(database, session, registry, heard):
    registry.listen(Dog, "after_insert", lambda e: heard(("dog", e.new["kind"])))
    registry.listen(Pet, "after_insert", lambda e: heard(("pet", e.new["kind"])))
    registry.listen(Bird, "after_insert", lambda e: heard(("bird", e.new["wings"])))

    with Hub(database.url, registry) as hub:
        for pet in (Pet(), Dog(), Puppy(), Bird(wings=2)):
            session.add(pet)
            session.flush()
        session.commit()
        assert hub.drain()

    assert heard.events == [
        ("pet", "pet"),
        ("dog", "dog"),
        ("pet", "dog"),
        ("dog", "puppy"),
        ("pet", "puppy"),
        ("pet", "bird"),
        ("bird", 2),
    ]


@pytest.mark.parametrize(
    "subclass, what, base",
    [
        (Large, "an expression", "Parcel"),
        (Chore, "an expression", "Task"),
        (Eagle, "pets.kind, a column of another table", "Bird"),
    ],
)
def test_a_subclass_whose_rows_an_event_cannot_tell_is_refused(registry, subclass, what, base):
    with pytest.raises(UsageError) as caught:
        registry.listen(subclass, "after_insert", print)

    assert f"cannot listen to {subclass.__name__}: " in str(caught.value)
    assert f"are known by {what}" in str(caught.value)
    assert f"Listen to {base}, with a function" in str(caught.value)
    registry.listen(subclass.__mro__[1], "after_insert", print)


def test_a_subclass_is_refused_where_the_column_that_tells_it_is_left_out(
    database, session, registry
):
    registry.listen(Dog, "after_insert", print)
    hub = Hub(database.url, registry)
    hub.watch(Pet, exclude=["kind"])

    with pytest.raises(UsageError, match=r"pets.kind, which is not captured"):
        hub.start()


def test_a_subclass_hears_of_its_own_rows_where_little_is_captured(
    database, session, registry, heard
):
    registry.listen(Dog, ["after_insert", "after_delete"], heard)
    hub = Hub(database.url, registry)
    hub.watch(Pet, include=["name", "kind"], old=False)

    with hub:
        pets = [Pet(name="p"), Dog(name="d"), Cat(name="c")]
        session.add_all(pets)
        session.commit()
        for pet in pets:
            session.delete(pet)
        session.commit()
        assert hub.drain()

    assert [(event.operation, event.key) for event in heard.events] == [
        ("insert", pets[1].id),
        ("delete", pets[1].id),
    ]


def test_what_a_listener_compares_is_kept_of_deleted_rows(database, session, registry, heard):
    registry.listen("pets", "after_delete", heard, where={"name": "a"})
    hub = Hub(database.url, registry)
    hub.watch("pets", old=False)

    with hub:
        session.add_all([Pet(name="a"), Pet(name="b")])
        session.commit()
        session.query(Pet).delete()
        session.commit()
        assert hub.drain()

    assert [event.old["name"] for event in heard.events] == ["a"]


def test_a_row_that_lacks_what_tells_the_class_is_an_error_not_an_event(
    database, session, registry, heard
):
    registry.listen(Dog, "after_insert", heard)
    told = []

    with signals.listener_failed.connected_to(lambda hub, **told_of: told.append(told_of)):
        with Hub(database.url, registry) as hub:
            session.add(Dog(name="d"))
            session.commit()
            assert hub.drain()
            forget_the_kind(database)
            assert hub.drain()

    assert len(heard.events) == 1
    assert "known by the column 'kind'" in str(told[0]["error"])


def forget_the_kind(database):
    """Write a row into the log as one of 200 MB is written: its key alone."""
    log = "pgevents_log" if database.kind == "sqlite" else "pgevents.log"
    database.execute(
        f"INSERT INTO {log} (topic, operation, new) SELECT topic, operation,"
        f" '{{\"id\": 9}}' FROM {log}"
    )
