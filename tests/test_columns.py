"""What a listener may name as a column, and what is refused: without a database."""

import pytest
from sqlalchemy import Column, ForeignKey, Integer, MetaData, String, Table, func
from sqlalchemy.ext.associationproxy import association_proxy
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    aliased,
    column_property,
    composite,
    declarative_base,
    relationship,
    synonym,
)

from pgevents import ANY, UsageError
from pgevents.testing import FakeHub

Base = declarative_base()


class Stamped:
    stamp = Column(Integer)


class Parent(Base):
    __tablename__ = "parents"
    id = Column(Integer, primary_key=True)
    name = Column(String)


class Order(Stamped, Base):
    __tablename__ = "orders"
    id = Column(Integer, primary_key=True)
    parent_id = Column("parent", ForeignKey("parents.id"))
    x = Column(Integer)
    y = Column(Integer)
    point = composite(lambda x, y: (x, y), x, y)
    across = synonym("x")
    double = column_property(x + x)
    parent = relationship(Parent)
    parent_name = association_proxy("parent", "name")

    @hybrid_property
    def far(self):
        return self.x

    @hybrid_property
    def sum(self):
        return self.x + self.y


class Rush(Order):
    __tablename__ = "rushes"
    id = Column(ForeignKey("orders.id"), primary_key=True)
    hours = Column(Integer)


ROW = {"id": 1, "parent": 2, "x": 3, "y": 4, "stamp": 5}


def hears(registry, target, given, **changed):
    """Tell whether a listener with these columns= hears of an update of these columns."""
    heard = []
    registry.listen(target, "after_update", heard.append, columns=given)
    FakeHub(registry).update(Order, ROW, changed)
    return bool(heard)


@pytest.mark.parametrize(
    "given, name",
    [
        (Order.x, "x"),
        ("x", "x"),
        (Order.__table__.c.x, "x"),
        ([Order.x], "x"),
        (Order.parent_id, "parent"),
        ("parent", "parent"),
        ("parent_id", "parent"),
        (Order.across, "x"),
        ("across", "x"),
        (Order.point, "x"),
        ("point", "y"),
        (Order.stamp, "stamp"),
        (Stamped.stamp, "stamp"),
    ],
)
def test_a_column_may_be_named_in_any_way(registry, given, name):
    other = next(column for column in ("id", "stamp") if column != name)

    assert hears(registry, Order, given, **{name: 99})
    assert not hears(type(registry)(), Order, given, **{other: 99})


def test_an_attribute_may_be_named_where_the_table_is_a_name_or_a_table(registry):
    assert hears(registry, "orders", Order.parent_id, parent=99)
    assert hears(registry, Order.__table__, Order.parent_id, parent=98)


REFUSED = [
    ("Order.parent is a relationship", lambda: Order.parent),
    ("'parent_name' is an association proxy", lambda: "parent_name"),
    ("Order.far is a hybrid", lambda: Order.far),
    ("Order.sum is a hybrid", lambda: Order.sum),
    ("'sum' is a hybrid", lambda: "sum"),
    ("Order.double is computed", lambda: Order.double),
    ("is computed", lambda: "double"),
    ("Parent.id is a column of parents", lambda: Parent.id),
    ("is a column of parents", lambda: Parent.__table__.c.id),
    ("is a column of others", lambda: Table("others", MetaData(), Column("x")).c.x),
    ("of an alias", lambda: aliased(Order).x),
    ("of an alias", lambda: Order.__table__.alias().c.x),
    ("no column", lambda: func.lower(Order.x)),
    ("no column", lambda: Order.x + 1),
    ("no column: 5", lambda: 5),
    ("no column: None", lambda: None),
    ("no column", lambda: Order),
]


@pytest.mark.parametrize("words, given", REFUSED)
def test_what_is_no_column_of_the_table_is_refused_with_the_choices(registry, words, given):
    for options in (lambda: {"columns": [given()]}, lambda: {"where": {given(): 1}}):
        with pytest.raises(UsageError) as caught:
            registry.listen(Order, "after_update", print, **options())

        assert words in str(caught.value)
        assert all(name in str(caught.value) for name in ("id", "parent", "x", "y", "stamp"))


def test_an_association_proxy_is_refused(registry):
    with pytest.raises(UsageError, match="no column.* orders has"):
        registry.listen(Order, "after_update", print, columns=Order.parent_name)


def test_a_joined_class_has_the_columns_of_its_own_table_only(registry):
    registry.listen(Rush, "after_update", print, columns=[Rush.hours, Rush.id, Order.id])

    with pytest.raises(UsageError, match="Rush.x is a column of orders"):
        registry.listen(Rush, "after_update", print, columns=[Rush.x])


def test_no_column_at_all_is_refused(registry):
    with pytest.raises(UsageError, match="names no column"):
        registry.listen(Order, "after_update", print, columns=[])


def test_where_compares_one_column_once(registry):
    with pytest.raises(UsageError, match="Order.point stands for several columns: .* x, y"):
        registry.listen(Order, "after_update", print, where={Order.point: (1, 2)})
    with pytest.raises(UsageError, match="where names 'x' twice"):
        registry.listen(Order, "after_update", print, where={Order.x: 1, "x": 2})


def test_any_takes_columns_of_any_table(registry, heard):
    registry.listen(ANY, "after_insert", heard, where={Order.x: 3})

    FakeHub(registry).insert("orders", ROW)

    assert heard.next().new == ROW


def test_a_class_may_be_listened_to_before_those_that_it_names_are_there(registry):
    class Early(declarative_base()):
        __tablename__ = "early"
        id = Column(Integer, primary_key=True)
        x = Column(Integer)
        other = relationship("Late", primaryjoin="foreign(Early.x) == Late.id")

    registry.listen(Early, "after_update", print, columns=[Early.x, "id"])
    with pytest.raises(UsageError, match="Early.other is a relationship"):
        registry.listen(Early, "after_update", print, columns=[Early.other])
